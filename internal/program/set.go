// Package program runs the commands that a host keeps beside its workers: it starts
// them in the order of their dependencies, watches until they are ready, starts them
// again when they end, runs scheduled ones at their times, and ends them in reverse.
// Before it: the assembly. After it: supervise, which forks the processes.
// Not here: workers (supervise), reading the configuration (config).
package program

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/guado-server/guado/internal/child"
	"github.com/guado-server/guado/internal/supervise"
)

// Policy is when a program is started again by itself.
type Policy string

// The policies.
const (
	Always    Policy = "always"
	OnFailure Policy = "on-failure"
	Never     Policy = "never"
)

// Overlap is what happens when a scheduled program's time comes while it runs.
type Overlap string

// What can be done about an overlap.
const (
	Skip    Overlap = "skip"
	Queue   Overlap = "queue"
	Replace Overlap = "replace"
)

// Schedule tells the next time after one; zero: there is none.
type Schedule interface{ Next(time.Time) time.Time }

// Spec is what one process is to be: a program, or one of its instances.
type Spec struct {
	Name    string // unique: "tasks", "tasks-2"
	Program string // the name that dependencies use: "tasks"
	Command []string
	Dir     string
	// Env gives the environment. It is asked before each start, so that a restarted
	// program gets a rotated secret.
	Env func() ([]string, error)

	After     []string
	Ready     Condition
	Autostart bool
	Once      bool
	Schedule  Schedule // nil: none
	Overlap   Overlap

	Restart      Policy
	ExitCodes    []int
	StartTime    time.Duration
	StartRetries int           // -1: for ever
	ReadyTimeout time.Duration // 0: none
	RunTimeout   time.Duration // 0: none

	StopSignal  syscall.Signal
	StopTimeout time.Duration
	StopGroup   bool

	Stdout, Stderr LogFile
}

// Options of a set.
type Options struct {
	Programs []Spec
	Spawner  *child.Spawner
	Stdout   *supervise.Lines // of programs that have no log file
	Stderr   *supervise.Lines
	Log      *slog.Logger
}

// Set is all programs of a host.
type Set struct {
	opts  Options
	list  []*instance
	files []*logFile
	wait  sync.WaitGroup
	cut   context.Context // its end ends the patience of a stop
	hurry context.CancelFunc

	mu       sync.Mutex    // guards all below, and what instances say it guards
	changed  chan struct{} // closed at each change of a state, and made anew
	stopping bool
}

// New makes a set; Start starts it.
func New(o Options) *Set {
	s := &Set{opts: o, changed: make(chan struct{})}
	s.cut, s.hurry = context.WithCancel(context.Background())
	byPath := map[string]*logFile{}
	for _, spec := range o.Programs {
		s.list = append(s.list, newInstance(s, spec, byPath))
	}
	for _, f := range byPath {
		s.files = append(s.files, f)
	}
	return s
}

// Start starts the programs and returns at once.
func (s *Set) Start() {
	for _, i := range s.list {
		ctx, end := context.WithCancel(context.Background())
		i.end = end
		s.wait.Go(func() { i.run(ctx) })
	}
}

// Stop ends the programs, each one after those that come after it. When ctx ends they
// are killed at once. It returns when all are gone.
func (s *Set) Stop(ctx context.Context) {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	enough := context.AfterFunc(ctx, s.hurry)
	var wait sync.WaitGroup
	for _, i := range s.list {
		wait.Go(func() {
			for _, o := range s.list {
				if slices.Contains(o.spec.After, i.spec.Program) && o.end != nil {
					<-o.done
				}
			}
			if i.end != nil {
				i.end()
				<-i.done
			}
		})
	}
	wait.Wait()
	s.wait.Wait()
	enough()
	s.hurry()
	for _, f := range s.files {
		if err := f.close(); err != nil {
			s.opts.Log.Warn("log file of a program", "file", f.path, "error", err)
		}
	}
}

// Await waits until all of these programs are ready, or ctx ends.
func (s *Set) Await(ctx context.Context, names []string) error {
	told := false
	for {
		s.mu.Lock()
		missing, changed := s.missing(names), s.changed
		s.mu.Unlock()
		if len(missing) == 0 {
			return nil
		}
		if !told {
			s.opts.Log.Debug("waiting for programs", "programs", missing)
			told = true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// missing gives those of the programs that are not ready. s.mu is held.
func (s *Set) missing(names []string) []string {
	var list []string
	for _, i := range s.list {
		if slices.Contains(names, i.spec.Program) && !i.satisfies() {
			list = append(list, i.spec.Name)
		}
	}
	return list
}

// tell wakes who waits for a change. s.mu is held.
func (s *Set) tell() {
	close(s.changed)
	s.changed = make(chan struct{})
}
