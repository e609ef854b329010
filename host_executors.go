package guado

import (
	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/executor"
	"github.com/guado-server/guado/internal/link"
)

// Executor is a pool of processes that run functions for the workers; see [NewExecutor].
type Executor = config.Executor

// NewExecutor is an executor with default settings; append it to the configuration's
// Executors.
func NewExecutor(name string) Executor { return config.NewExecutor(name) }

// ExecutorStatus is an executor and what became of its tasks.
type ExecutorStatus = executor.Status

// allGroups are the groups of the configuration and those of executors.
func (h *host) allGroups() []*config.Group {
	var all []*config.Group
	for i := range h.config.Groups {
		all = append(all, &h.config.Groups[i])
	}
	for i := range h.config.Executors {
		e := &h.config.Executors[i]
		if e.Bypass {
			continue
		}
		g := h.config.ExecutorGroup(e)
		all = append(all, &g)
	}
	return all
}

// executes reports whether the group is the processes of an executor.
func (h *host) executes(g *config.Group) bool { return h.config.Executor(g.Name) != nil }

// callable adds what a worker of the group runs for others, and tells it whom it may
// call.
func (h *host) callable(g *config.Group, hello *link.Hello) {
	for i := range h.config.Executors {
		e := &h.config.Executors[i]
		hello.Executors = append(hello.Executors, link.Executor{Name: e.Name, Bypass: e.Bypass})
	}
	if h.executes(g) {
		hello.Apps = append(hello.Apps, link.App{Name: g.Name, Target: config.ExecutorTarget, Kind: "wsgi", File: true})
	}
}

// executorOptions are those of the executors whose pools there are.
func (h *host) executorOptions() (list []executor.Options) {
	for i := range h.config.Executors {
		if e := &h.config.Executors[i]; !e.Bypass {
			list = append(list, executor.Options{
				Name: e.Name, Handler: h.tasks[e.Name], Running: e.Processes, Queue: e.Queue, Timeout: e.TaskTimeout.Std(),
			})
		}
	}
	return list
}
