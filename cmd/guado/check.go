package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/guado-server/guado"
	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/runtime"
	"github.com/guado-server/guado/python"
)

func (c *command) check() *cobra.Command {
	var s *source
	var load bool
	cmd := &cobra.Command{
		Use:   "check [MODULE:ATTR]",
		Short: "Check a configuration, and with --load import its applications",
		Example: example(
			"guado check", "guado.toml in this folder",
			"guado check --load --config prod.toml", "also interpreter, imports and commands",
		),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := c.load(s, args, false)
			if err != nil {
				return err
			}
			missing := c.missingCommands(cfg)
			for _, text := range missing {
				c.tell("%s\n", text)
			}
			if load {
				if err := c.importAll(cmd.Context(), cfg); err != nil {
					return failed(err)
				}
				if len(missing) > 0 {
					return failed(fmt.Errorf("%s cannot be started", count(len(missing), "program")))
				}
			}
			return c.say("ok: " + parts(cfg) + "\n")
		},
	}
	s = addSource(cmd)
	cmd.Flags().BoolVar(&load, "load", false, "import the applications, as a worker would, and fail when the command of a program is not there")
	return cmd
}

// missingCommands tells of programs whose command is not there: perhaps not yet, or not
// on this machine.
func (c *command) missingCommands(cfg *config.Config) (told []string) {
	for i := range cfg.Programs {
		p := cfg.Programs[i].Instance(1)
		if _, err := guado.FindCommand(cfg, &p, c.environ); err != nil {
			told = append(told, fmt.Sprintf("program %s cannot be started here: %s", cfg.Programs[i].Name, err))
		}
	}
	return told
}

// parts counts what a configuration consists of.
func parts(cfg *config.Config) string {
	text := count(len(cfg.Apps), "app") + ", " + count(len(cfg.Mounts), "mount")
	if n := len(cfg.Programs); n > 0 {
		text += ", " + count(n, "program")
	}
	if n := len(cfg.Executors); n > 0 {
		text += ", " + count(n, "executor")
	}
	return text
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// importTimeout ends an import that hangs.
const importTimeout = 5 * time.Minute

// importLine loads the worker's package as its bootstrap does, and checks.
const importLine = `import importlib.util as u,os,sys
p=os.path.join(os.environ["GUADO_PACKAGE"],"guado")
s=u.spec_from_file_location("guado",os.path.join(p,"__init__.py"),submodule_search_locations=[p])
m=sys.modules["guado"]=u.module_from_spec(s)
s.loader.exec_module(m)
sys.path[:1]=[]
from guado.worker.check import main
main()
`

// imported is what became of one application; the twin of guado.worker.check.
type imported struct {
	Name      string `json:"name"`
	Kind      string `json:"kind"`
	Message   string `json:"message"`
	Traceback string `json:"traceback"`
	Hint      string `json:"hint"`
	Note      string `json:"note"` // of one that can be imported
}

// importAll imports the applications of all groups and tells of each.
func (c *command) importAll(ctx context.Context, cfg *config.Config) error {
	log, _ := newLogger(c.err, &cfg.Server)
	cache, err := runtime.Open(runtime.Options{
		Dir: cfg.Server.CacheDir, Environ: c.environ, Files: python.Files, Log: log,
	})
	if err != nil {
		return err
	}
	broken := 0
	for i := range cfg.Groups {
		g := &cfg.Groups[i]
		results, err := c.importGroup(ctx, cfg, g, cache)
		if err != nil {
			c.tell("group %s: %s\n", g.Name, err)
			broken++
		}
		for _, r := range results {
			if r.Message == "" {
				c.tell("%s: %s application %s\n", r.Name, strings.ToUpper(r.Kind), cfg.App(r.Name).Target)
				if r.Note != "" {
					c.tell("%s: warning: %s\n", r.Name, r.Note)
				}
				continue
			}
			broken++
			c.tell("%s%s: %s\n", r.Traceback, r.Name, r.Message)
			if r.Hint != "" {
				c.tell("hint: %s\n", r.Hint)
			}
		}
	}
	if broken > 0 {
		return fmt.Errorf("%s cannot be loaded", count(broken, "app"))
	}
	return nil
}

// importGroup imports the applications of one group in its interpreter.
func (c *command) importGroup(ctx context.Context, cfg *config.Config, g *config.Group, cache *runtime.Cache) (results []imported, err error) {
	ctx, cancel := context.WithTimeout(ctx, importTimeout)
	defer cancel()
	in, err := cache.Find(ctx, g.Python, g.Dir, cfg.Dir)
	if err != nil {
		return nil, err
	}
	folder, err := cache.Package(ctx, in)
	if err != nil {
		return nil, err
	}
	environ, err := g.Environ(c.environ)
	if err != nil {
		return nil, err
	}
	task, err := json.Marshal(map[string]any{"dir": g.Dir, "apps": asked(cfg, g), "phase": cfg.Server.Phase})
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	cmd := exec.CommandContext(ctx, in.Executable, "-u", "-c", importLine)
	cmd.Dir, cmd.Env = g.Dir, append(in.Environ(environ), "GUADO_PACKAGE="+folder, "GUADO_CHECK="+string(task))
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles, cmd.WaitDelay = c.err, c.err, []*os.File{w}, time.Second
	startErr := cmd.Start()
	if err := errors.Join(startErr, w.Close()); err != nil {
		return nil, err
	}
	results, readErr := readResults(r)
	if err := cmd.Wait(); err != nil {
		return results, fmt.Errorf("the interpreter ended while it imported: %w", err)
	}
	return results, readErr
}

// asked lists the group's applications as guado.worker.handshake.App takes them.
func asked(cfg *config.Config, g *config.Group) []map[string]any {
	var apps []map[string]any
	for i := range cfg.Apps {
		if a := &cfg.Apps[i]; a.Group == g.Name {
			apps = append(apps, map[string]any{"name": a.Name, "target": a.Target, "kind": a.Kind, "factory": a.Factory, "lifespan": a.Lifespan, "file": cfg.Described(i)})
		}
	}
	return apps
}

func readResults(r io.Reader) (results []imported, err error) {
	for lines := json.NewDecoder(r); ; {
		var one imported
		switch err := lines.Decode(&one); {
		case errors.Is(err, io.EOF):
			return results, nil
		case err != nil:
			return results, fmt.Errorf("report of the import: %w", err)
		}
		results = append(results, one)
	}
}
