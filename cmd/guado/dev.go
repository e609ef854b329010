package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/guado-server/guado"
	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/watch"
)

func (c *command) dev() *cobra.Command {
	var s *source
	more := &texts{kind: "DIR"}
	cmd := &cobra.Command{
		Use:   "dev [MODULE:ATTR]",
		Short: "Serve for development: restart on changes, show tracebacks in the browser",
		Long: "Serve as `guado serve` does, with one worker to each group. A change of the application's\n" +
			"files restarts its workers while the socket stays open; what fails is shown in the browser.\n" +
			"No deadline ends a request, and a lone worker has the terminal, so breakpoint() works; a\n" +
			"restart or a stop waits two seconds for requests under way.\n\n" +
			"Never use it where others can reach it: tracebacks tell a lot.",
		Example: example(
			"guado dev shop.wsgi:application", "a Django site",
			"guado dev --watch ../lib api:app", "restart when a library beside it changes, too",
		),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := c.load(s, args, true)
			if err != nil {
				return err
			}
			defer keepTerminal()()
			again := func() (*config.Config, error) { return c.load(s, args, true) }
			return c.run(cmd.Context(), cfg, again, c.restarter(cfg, more.values))
		},
	}
	s = addSource(cmd)
	cmd.Flags().Var(more, "watch", "folder whose files restart the workers, too; may be given again")
	must(cmd.MarkFlagDirname("watch"))
	return cmd
}

// keepTerminal gives a function that puts the terminal back as it is now: a debugger
// that was ended in the middle of a line leaves it without echo.
func keepTerminal() func() {
	fd := int(os.Stdin.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return func() {} // no terminal
	}
	return func() { _ = term.Restore(fd, state) } // it may be gone by then
}

// restarter restarts the workers when the application's files change.
func (c *command) restarter(cfg *config.Config, more []string) beside {
	return func(ctx context.Context, server *guado.Server) (err error) {
		w, err := watch.New(watched(cfg, more), server.Log)
		if err != nil {
			// The server goes on without it: that is better than none.
			server.Log.Error("changes are not noticed", "error", err)
			return nil
		}
		defer func() { err = errors.Join(err, w.Close()) }()
		for {
			changed, err := w.Next(ctx)
			if ctx.Err() != nil {
				return nil //nolint:nilerr // told to stop
			}
			if err != nil {
				return err
			}
			server.Log.Info("restarting", "changed", short(changed, cfg.Dir))
			server.Restart()
		}
	}
}

// watched are the folders of the groups, without those inside others.
func watched(cfg *config.Config, more []string) []string {
	dirs := slices.Clone(more)
	for i := range cfg.Groups {
		dirs = append(dirs, cfg.Groups[i].Dir)
	}
	slices.Sort(dirs)
	var top []string
	for _, dir := range dirs {
		inside := func(outer string) bool {
			return dir == outer || strings.HasPrefix(dir, strings.TrimSuffix(outer, "/")+"/")
		}
		if !slices.ContainsFunc(top, inside) {
			top = append(top, dir)
		}
	}
	return top
}

// short names the changed files for the log.
func short(files []string, dir string) string {
	const most = 3
	names := make([]string, 0, most+1)
	for i, file := range files {
		if i == most {
			names = append(names, "…")
			break
		}
		if rel, err := filepath.Rel(dir, file); err == nil && !strings.HasPrefix(rel, "..") {
			file = rel
		}
		names = append(names, file)
	}
	return strings.Join(names, ", ")
}
