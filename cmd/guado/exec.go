package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/guado-server/guado"
	"github.com/guado-server/guado/internal/config"
)

func (c *command) exec() *cobra.Command {
	file := text{kind: "FILE"}
	cmd := &cobra.Command{
		Use:   "exec [APP] -- COMMAND [ARG]...",
		Short: "Run a command in an application's folder and environment",
		Long: "Run a command as a worker of an application would run it: in its folder, with its\n" +
			"environment, its interpreter's commands first on the PATH, and as its user; import guado\n" +
			"works as in a worker. APP is the name of an app, a group or a program; it may be left\n" +
			"out when there is one app. The command takes the place of guado, so its exit code is the exit code; 127 when there is no such command, 126\n" +
			"when it cannot be run.",
		Example: example(
			"guado exec shop -- python manage.py shell", "Django's shell",
			"guado exec shop -- sh", "a look around",
		),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, words, err := execArgs(args, cmd.ArgsLenAtDash() == 0)
			if err != nil {
				return err
			}
			if file.value == "" {
				file.value = defaultFile
			}
			cfg, err := config.Load(config.Options{File: file.value, Environ: c.environ})
			if err != nil {
				return err
			}
			p, err := surroundings(cfg, name)
			if err != nil {
				return err
			}
			p.Command = words
			p.Env = c.withToken(cmd.Context(), cfg, name, p.Env)
			log, _ := newLogger(c.err, &cfg.Server)
			err = guado.Exec(cfg, p, c.environ, log)
			switch {
			case errors.Is(err, exec.ErrNotFound):
				return &failure{code: exitNoCommand, err: err}
			case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.ENOEXEC):
				return &failure{code: exitNotRun, err: err}
			}
			return failed(err)
		},
	}
	cmd.Flags().Var(&file, "config", "configuration file (default guado.toml)")
	cmd.Flags().SetInterspersed(false) // flags behind the name are the command's
	must(cmd.MarkFlagFilename("config", "toml"))
	return cmd
}

// execArgs takes the name and the command apart.
func execArgs(args []string, unnamed bool) (name string, words []string, err error) {
	words = args
	if !unnamed && len(args) > 0 {
		name, words = args[0], args[1:]
		if len(words) > 0 && words[0] == "--" {
			words = words[1:]
		}
	}
	if len(words) == 0 {
		return "", nil, errors.New("name a command: guado exec APP -- COMMAND")
	}
	return name, words, nil
}

// surroundings gives what a name means as a program, whose command is yet to be set.
func surroundings(cfg *config.Config, name string) (*config.Program, error) {
	if name == "" {
		if len(cfg.Apps) != 1 {
			return nil, fmt.Errorf("say which: guado exec APP -- COMMAND; there are %s", strings.Join(execNames(cfg), ", "))
		}
		name = cfg.Apps[0].Name
	}
	if p := cfg.Program(name); p != nil {
		one := p.Instance(1)
		return &one, nil
	}
	group := name
	if a := cfg.App(name); a != nil {
		group = a.Group
	}
	g := cfg.Group(group)
	if g == nil {
		names := execNames(cfg)
		if near := config.Nearest(name, names); near != "" {
			return nil, fmt.Errorf("there is no app, group or program %q; did you mean %q?", name, near)
		}
		return nil, fmt.Errorf("there is no app, group or program %q; there are %s", name, strings.Join(names, ", "))
	}
	p := config.NewProgram(name)
	p.Group, p.Dir, p.Python, p.Account = group, g.Dir, g.Python, g.Account
	return &p, nil
}

// withToken adds what the command needs to push and publish, where the server runs and
// does that. What is started by a program has that program's.
func (c *command) withToken(ctx context.Context, cfg *config.Config, name string, env map[string]string) map[string]string {
	env = maps.Clone(env)
	if env == nil {
		env = map[string]string{}
	}
	const socket, token = "GUADO_PUSH", "GUADO_PUSH_TOKEN"
	for _, variable := range c.environ {
		if name, value, _ := strings.Cut(variable, "="); name == socket || name == token {
			env[name] = value
		}
	}
	if env[socket] != "" || cfg.Server.Phase == 0 || cfg.Admin.Socket == config.AdminOff {
		return env
	}
	ctx, end := context.WithTimeout(ctx, tokenPatience)
	defer end()
	answer, err := c.token(ctx, cfg.Admin.Socket, name)
	if err != nil {
		if code := (*failure)(nil); !errors.As(err, &code) || code.code != exitNoServer {
			c.tell("guado: this command cannot push or publish: %s\n", err)
		}
		return env
	}
	env[socket], env[token] = answer.Socket, answer.Token
	return env
}

// tokenPatience is how long a server may take that may not be well.
const tokenPatience = 5 * time.Second

// given is what a server gives a process, so that it can push and publish.
type given struct {
	Socket string `json:"socket"`
	Token  string `json:"token"`
}

func (c *command) token(ctx context.Context, socket, name string) (out given, err error) {
	path, err := alive(ctx, socket)
	if err != nil {
		return out, err
	}
	server, err := c.connect(ctx, &remote{socket: text{value: path}})
	if err != nil {
		return out, err
	}
	answer, err := server.post(ctx, "tokens", map[string]any{"name": name, "pid": os.Getpid()})
	if err == nil {
		err = server.read(answer, &out)
	}
	return out, err
}

func execNames(cfg *config.Config) []string {
	names := make([]string, 0, len(cfg.Apps)+len(cfg.Programs))
	for i := range cfg.Apps {
		names = append(names, cfg.Apps[i].Name)
	}
	for i := range cfg.Programs {
		names = append(names, cfg.Programs[i].Name)
	}
	return names
}
