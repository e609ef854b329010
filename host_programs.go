package guado

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/program"
	"github.com/guado-server/guado/internal/runtime"
	"github.com/guado-server/guado/internal/supervise"
)

// Program is a command that the server runs beside its workers; see [NewProgram].
type Program = config.Program

// NewProgram is a program with default settings; append it to the configuration's
// Programs.
func NewProgram(name string, command ...string) Program { return config.NewProgram(name, command...) }

// ProgramStatus is a program, or one of its instances.
type ProgramStatus = program.Status

// addPrograms makes the programs of the configuration; they are not started yet.
func (h *host) addPrograms(s *Server, stdout, stderr *supervise.Lines) error {
	specs, err := programSpecs(s, h.config)
	h.own(specs)
	h.programs = program.New(program.Options{Programs: specs, Spawner: h.spawner, Stdout: stdout, Stderr: stderr, Seen: h.journal.Line, Log: h.log})
	return err
}

// programSpecs turns the programs of a configuration into what the set is told.
func programSpecs(s *Server, c *Config) ([]program.Spec, error) {
	var specs []program.Spec
	for i := range c.Programs {
		p := &c.Programs[i]
		for n := range p.Instances {
			spec, err := programSpec(s, c, p, p.Instance(n+1))
			if err != nil {
				return nil, fmt.Errorf("program %s: %w", p.Name, err)
			}
			specs = append(specs, spec)
		}
	}
	return specs, nil
}

// programSpec turns one instance of a program into what the set is told.
func programSpec(s *Server, c *Config, p *config.Program, one config.Program) (program.Spec, error) {
	var none program.Spec
	signal, err := config.ParseSignal(one.StopSignal)
	if err != nil {
		return none, err
	}
	ready, err := condition(one.Ready)
	if err != nil {
		return none, err
	}
	in, err := runtime.Locate(s.Environ, one.Python, one.Dir, c.Dir)
	if err != nil && one.Python != "" {
		return none, err
	}
	who, err := account(&one.Account)
	if err != nil {
		return none, err
	}
	spec := program.Spec{
		Name: one.Name, Program: p.Name, Command: one.Command, Dir: one.Dir,
		Env: func() ([]string, error) {
			env, err := c.Environ(&one, who.Identity.Environ(s.Environ))
			if in != nil { // a machine without Python may run programs
				env = in.Environ(env)
			}
			if err == nil {
				env, err = withPackage(c, &one, s.Environ, env, s.Log, who)
			}
			return append(s.withToken(env, one.Name), "GUADO_PROGRAM="+one.Name), err
		},
		Child: who, After: one.After, Ready: ready, Autostart: one.Autostart, Once: one.Once, Overlap: program.Overlap(one.Overlap),
		Restart: program.Policy(one.Policy()), ExitCodes: one.ExitCodes,
		StartTime: one.StartSeconds.Std(), StartRetries: one.StartRetries,
		ReadyTimeout: one.ReadyTimeout.Std(), RunTimeout: one.RunTimeout.Std(),
		StopSignal: signal, StopTimeout: one.StopTimeout.Std(), StopGroup: one.StopGroup,
		Stdout: logFile(&one, one.Stdout), Stderr: logFile(&one, one.Stderr), OutputLimit: one.OutputLimit,
	}
	if one.Schedule != "" {
		if spec.Schedule, err = config.ParseSchedule(one.Schedule, one.TimeZone); err != nil {
			return none, err
		}
	}
	return spec, nil
}

func condition(text string) (program.Condition, error) {
	r, err := config.ParseReady(text)
	c := program.Condition{Kind: r.Kind, Value: r.Value}
	if err == nil && r.Kind == "log" {
		c.Pattern, err = regexp.Compile(r.Value)
	}
	return c, err
}

func logFile(p *config.Program, path string) program.LogFile {
	return program.LogFile{Path: path, Size: p.LogSize.Bytes(), Keep: p.LogKeep, Days: p.LogDays, Compress: p.LogCompress}
}

// startGroup starts the workers of a group once the programs that they come after are
// ready. It returns at once; the end of ctx ends the wait.
func (h *host) startGroup(ctx context.Context, g *group) {
	if len(g.config.After) == 0 {
		g.workers.Start()
		return
	}
	h.held.Go(func() {
		if h.programs.Await(ctx, g.config.After) == nil {
			g.workers.Start()
		}
	})
}

// heldPatience is how long the word that the server is ready waits for a group that a
// program holds, while others serve.
const heldPatience = 3 * time.Second

// bootPatience ends the wait for a group's first worker before the server is said to be
// ready: one that waits for a program may never start.
func (h *host) bootPatience(g *group) <-chan time.Time {
	switch {
	case len(g.config.After) == 0:
		return nil
	case slices.ContainsFunc(h.groups, func(o *group) bool { return len(o.config.After) == 0 && !h.executes(o.config) }):
		return time.After(heldPatience)
	}
	return time.After(g.config.BootTimeout.Std())
}
