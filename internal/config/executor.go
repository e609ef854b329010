package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Executor is a pool of processes that run functions for the workers of applications.
type Executor struct {
	Name        string   `toml:"name" doc:"Unique name, as guado.executor(\"name\") has it."`
	Group       string   `toml:"group" doc:"Group or app whose dir, python and environment the processes have. May be left out where there is one."`
	Processes   int      `toml:"processes" default:"1" min:"1" doc:"Processes; each runs one task at a time."`
	Queue       int      `toml:"queue" default:"1000" min:"0" doc:"Tasks that may wait; more raise QueueFull."`
	TaskTimeout Duration `toml:"task_timeout" default:"0" min:"0" doc:"Time for a task that has none of its own, waiting included; over it the caller gets TaskTimeout. 0: none."`
	MaxTasks    int      `toml:"max_tasks" default:"0" min:"0" doc:"A process that has run so many tasks is replaced, for functions that leak memory. 0: never."`
	Preload     []string `toml:"preload" doc:"Modules that each process imports when it starts, so that its first task does not wait for them."`
	Bypass      bool     `toml:"bypass" default:"false" doc:"Run the tasks in threads of the worker that submits them, without processes: for a debugger, or to tell whether the executor is at fault."`
	BootTimeout Duration `toml:"boot_timeout" default:"60s" min:"1ms" doc:"Time for a process to start and import its modules."`
}

// ExecutorTarget is the application that the processes of an executor run.
const ExecutorTarget = "guado.worker.executor:application"

// Executor gives the executor with this name; nil when there is none.
func (c *Config) Executor(name string) *Executor {
	for i := range c.Executors {
		if c.Executors[i].Name == name {
			return &c.Executors[i]
		}
	}
	return nil
}

// NewExecutor is an executor with defaults.
func NewExecutor(name string) Executor {
	e := Executor{}
	fill(reflect.ValueOf(&e).Elem())
	e.Name = name
	return e
}

// ExecutorGroup gives the group that an executor's processes are.
func (c *Config) ExecutorGroup(e *Executor) Group {
	g := NewGroup(e.Name)
	if of := c.Group(e.Group); of != nil {
		g.Process = of.Process
	}
	g.Workers, g.Threads, g.Concurrency, g.State = e.Processes, 1, 1, false
	g.Queue, g.QueueWait, g.BootTimeout = e.Queue+e.Processes, 0, e.BootTimeout
	g.MaxRequests, g.MaxRequestsJitter = e.MaxTasks, 0
	g.HangTimeout, g.SlowRequest = 0, 0 // to take long, with the GIL too, is what it is for; task_timeout bounds it
	g.Env = maps.Clone(g.Env)
	if len(e.Preload) > 0 {
		if g.Env == nil {
			g.Env = map[string]string{}
		}
		g.Env["GUADO_PRELOAD"] = strings.Join(e.Preload, ",")
	}
	return g
}

// executors completes what executors take from their groups.
func (r *resolver) executors() {
	for i := range r.Executors {
		e := &r.Executors[i]
		if a := r.App(e.Group); a != nil && r.Group(e.Group) == nil {
			e.Group = a.Group // the app joined one
		}
		if e.Group == "" && len(r.Groups) == 1 {
			e.Group = r.Groups[0].Name
		}
	}
}

func (r *resolver) checkExecutors() {
	for i := range r.Executors {
		e, path, shown := &r.Executors[i], element("executor", i), "executor."+r.Executors[i].Name
		switch {
		case e.Group == "":
			r.wrong(path, shown, nil, "needs a group: the app or group whose code its tasks are; known are: %s", strings.Join(r.groupNames(), ", "))
		case r.Group(e.Group) == nil:
			r.wrong(join(path, "group"), join(shown, "group"), e.Group, "there is no such [[group]] or [[app]]; %s", hint(e.Group, r.groupNames()))
		case r.Group(e.Name) != nil || r.App(e.Name) != nil:
			r.wrong(join(path, "name"), join(shown, "name"), e.Name, "is the name of an app or group, too; its processes are a group of their own")
		case e.Processes < 1:
			r.wrong(join(path, "processes"), join(shown, "processes"), e.Processes, "must be at least 1")
		}
		if at := slices.IndexFunc(e.Preload, func(m string) bool { return !targetForm.MatchString(m) }); at >= 0 {
			r.wrong(join(path, "preload"), join(shown, "preload"), e.Preload[at], "must be a module, as \"shop.tasks\"")
		}
	}
}
