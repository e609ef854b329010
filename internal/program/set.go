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
	// Child says whom it runs as and what it may use; the rest of it is filled in.
	Child child.Child

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
	OutputLimit    int // lines a second to the host's output; 0: none
}

// Options of a set.
type Options struct {
	Programs []Spec
	Spawner  *child.Spawner
	Stdout   *supervise.Lines // of programs that have no log file
	Stderr   *supervise.Lines
	// Seen is told of each line that goes to a file or nowhere; it must not wait. It may
	// be nil.
	Seen func(name, stream, line string)
	Log  *slog.Logger
}

// Set is all programs of a host.
type Set struct {
	opts  Options
	turn  chan struct{} // held by Replace and Stop: one after the other
	wait  sync.WaitGroup
	cut   context.Context // its end ends the patience of a stop
	hurry context.CancelFunc

	mu       sync.Mutex          // guards all below, and what instances say it guards
	list     []*instance         // replaced as a whole
	files    map[string]*logFile // by path
	changed  chan struct{}       // closed at each change of a state, and made anew
	stopping bool
}

// New makes a set; Start starts it.
func New(o Options) *Set {
	s := &Set{opts: o, turn: make(chan struct{}, 1), files: map[string]*logFile{}, changed: make(chan struct{})}
	if s.opts.Seen == nil {
		s.opts.Seen = func(string, string, string) {}
	}
	s.cut, s.hurry = context.WithCancel(context.Background())
	for _, spec := range o.Programs {
		s.list = append(s.list, newInstance(s, spec))
	}
	return s
}

// all gives the programs as they are now.
func (s *Set) all() []*instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list
}

// Start starts the programs and returns at once.
func (s *Set) Start() {
	for _, i := range s.all() {
		s.begin(i)
	}
}

func (s *Set) begin(i *instance) {
	ctx, end := context.WithCancel(context.Background())
	i.end = end
	s.wait.Go(func() { i.run(ctx) })
}

// Replace takes other programs: those that are not there any more end, and those that
// are new start. One that has changed ends, after those that come after it and have
// changed, too, and starts anew. It returns once the new ones are on their way. While
// the set stops it does nothing.
func (s *Set) Replace(programs []Spec, changed func(program string) bool) {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	kept := map[string]*instance{}
	var leave []*instance
	s.mu.Lock()
	stopping := s.stopping
	for _, i := range s.list {
		same := func(o Spec) bool { return o.Name == i.spec.Name && o.Program == i.spec.Program }
		if slices.ContainsFunc(programs, same) && !changed(i.spec.Program) {
			kept[i.spec.Name] = i
		} else {
			leave = append(leave, i)
		}
	}
	s.mu.Unlock()
	if stopping {
		return
	}
	s.finish(leave)
	var list, fresh []*instance
	s.mu.Lock()
	for _, i := range kept {
		list = append(list, i)
	}
	unused := s.unused(list)
	list = list[:0]
	for _, spec := range programs {
		i := kept[spec.Name]
		if i == nil {
			i = newInstance(s, spec)
			fresh = append(fresh, i)
		}
		list = append(list, i)
	}
	s.list = list
	s.tell()
	s.mu.Unlock()
	s.closeFiles(unused)
	for _, i := range fresh {
		s.begin(i)
	}
}

// finish ends programs, each one after those of them that come after it.
func (s *Set) finish(list []*instance) {
	var wait sync.WaitGroup
	for _, i := range list {
		if i.end == nil {
			continue // it was never started
		}
		wait.Go(func() {
			for _, o := range list {
				if slices.Contains(o.spec.After, i.spec.Program) && o.end != nil {
					<-o.done
				}
			}
			i.end()
			<-i.done
		})
	}
	wait.Wait()
}

// Stop ends the programs, each one after those that come after it. When ctx ends they
// are killed at once. It returns when all are gone.
func (s *Set) Stop(ctx context.Context) {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	defer s.hurry()
	defer context.AfterFunc(ctx, s.hurry)()
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	s.finish(s.all())
	s.wait.Wait()
	s.mu.Lock()
	unused := s.unused(nil)
	s.mu.Unlock()
	s.closeFiles(unused)
}

// unused takes the log files out that none of these programs writes. s.mu is held.
func (s *Set) unused(list []*instance) []*logFile {
	var all []*logFile
	for path, f := range s.files {
		writes := func(i *instance) bool { return i.spec.Stdout.Path == path || i.spec.Stderr.Path == path }
		if !slices.ContainsFunc(list, writes) {
			all = append(all, f)
			delete(s.files, path)
		}
	}
	return all
}

func (s *Set) closeFiles(files []*logFile) {
	for _, f := range files {
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
