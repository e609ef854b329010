package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/version"
)

// Exit codes, as the help documents them.
const (
	exitOK       = 0
	exitFailed   = 1 // it could not serve, or a check failed
	exitUsage    = 2 // the command line or the configuration is wrong
	exitNotReady = 3 // the only application has never been ready
	exitNoServer = 4 // no server answers at the admin socket

	// As of a shell, from guado exec.
	exitNotRun    = 126 // the command cannot be run
	exitNoCommand = 127 // there is no such command
)

// command is what all verbs share: the process's surroundings, so that nothing
// below main looks at globals.
type command struct {
	out, err io.Writer
	environ  []string
}

// failure is an error with the exit code it asks for.
type failure struct {
	code int
	err  error
	said bool // it has been told already
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// failed makes the error of something that did not work, as against one of usage,
// which every other error is.
func failed(err error) error {
	if err == nil {
		return nil
	}
	return &failure{code: exitFailed, err: err}
}

func execute(ctx context.Context, args []string, out, errOut io.Writer, environ []string) int {
	c := &command{out: out, err: errOut, environ: environ}
	root := c.root()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errOut)
	return c.report(root.ExecuteContext(ctx))
}

// report tells the error and gives the exit code.
func (c *command) report(err error) int {
	if err == nil {
		return exitOK
	}
	code := exitUsage
	var f *failure
	if errors.As(err, &f) {
		code = f.code
		if f.said {
			return code
		}
	}
	problems, ok := config.AsProblems(err)
	switch {
	case ok && len(problems) > 1:
		c.tell("guado: the configuration has %d problems:\n", len(problems))
		for _, p := range problems {
			c.tell("  %s\n", p)
		}
	default:
		c.tell("guado: %s\n", err)
	}
	if code == exitUsage && !ok {
		c.tell("Try 'guado --help'.\n")
	}
	return code
}

// tell writes to standard error. When that is gone there is nobody to tell.
func (c *command) tell(format string, args ...any) { _, _ = fmt.Fprintf(c.err, format, args...) }

// say writes to standard output.
func (c *command) say(text string) error {
	if _, err := io.WriteString(c.out, text); err != nil {
		return failed(fmt.Errorf("standard output: %w", err))
	}
	return nil
}

func (c *command) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "guado",
		Short: "Serve Python WSGI and ASGI applications from one host",
		Long: "Guado serves Python WSGI and ASGI applications, static files and other servers\n" +
			"from one process, unchanged and side by side.",
		Example: example(
			"guado serve shop.wsgi:application", "a Django site at http://127.0.0.1:8000",
			"guado serve --config guado.toml", "several applications, as the file says",
			"guado dev api:app", "restart on changes, tracebacks in the browser",
			"guado check", "is guado.toml right?",
		),
		Version:       version.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(flagError)
	root.SetVersionTemplate("guado {{.Version}}\n")
	root.SetHelpTemplate(helpTemplate)
	root.CompletionOptions.HiddenDefaultCmd = false
	root.AddCommand(c.serve(), c.dev(), c.check(), c.config(), c.exec(), c.version(), c.adopt(), c.service(), c.doctor(), c.password())
	root.AddCommand(c.status(), c.reload(), c.ps(), c.logs(), c.workers(), c.program(), c.pages(), c.users(), c.connections(), c.pause(), c.resume(), c.maintenance(), c.stop(), c.push(), c.publish(), c.global(), c.migrate())
	return root
}

// flagError adds the nearest flag to the error about one that does not exist.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if near := config.Nearest(unknown.GetSpecifiedName(), names); near != "" {
		return fmt.Errorf("%w; did you mean --%s?", err, near)
	}
	return err
}

// helpTemplate is cobra's own with the exit codes behind it.
const helpTemplate = `{{with (or .Long .Short)}}{{. | trimTrailingWhitespaces}}

{{end}}{{if or .Runnable .HasSubCommands}}{{.UsageString}}{{end}}
Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 the only
application has never been ready, 4 no server answers.
`

// example lays out pairs of a command line and what it does.
func example(pairs ...string) string {
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			b.WriteString("  " + pairs[i] + "\n")
			continue
		}
		fmt.Fprintf(&b, "  %-42s # %s\n", pairs[i], pairs[i+1])
	}
	return strings.TrimSuffix(b.String(), "\n")
}
