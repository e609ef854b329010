// Package supervise keeps the workers of a group alive: it starts them, waits for
// their handshake, gives them to the pool, watches their pulse, starts them again
// when they died, and ends them in order.
// Before it: the assembly. After it: link (one per worker); pool is told who is there.
// Not here: requests (pool), finding an interpreter (runtime).
package supervise

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guado-server/guado/internal/child"
	"github.com/guado-server/guado/internal/link"
)

// Crew is told which workers take requests; a pool is one.
type Crew interface {
	Attach(slot string, l *link.Link, ready link.Ready)
	// Cordon lets a worker finish what it has; it gets nothing new.
	Cordon(l *link.Link)
	Uncordon(l *link.Link)
	Detach(l *link.Link)
	Unavailable(why error)
	// Slow tells of each request, once, whose answer has not begun after so long. It is
	// called once a second.
	Slow(over time.Duration, tell func(l *link.Link, request, app string, took time.Duration))
	// Served is how many exchanges a worker is through with.
	Served(l *link.Link) uint64
}

// Options of a group.
type Options struct {
	Name    string
	Slots   []string // one worker each: "p01"
	Command Command
	Link    link.Options
	Hello   link.Hello // Slot is set for each worker
	Crew    Crew
	Spawner *child.Spawner
	Stdout  *Lines
	Stderr  *Lines
	Log     *slog.Logger
	// RequestID names the request on a worker's stream, for its log messages.
	RequestID func(l *link.Link, stream uint32) string
	// Calls gives who answers the calls of a worker in a slot; nil: nobody does.
	Calls func(l *link.Link, slot string) link.Callee

	BootTimeout time.Duration // to READY; 0: none
	PingTimeout time.Duration // without a pulse; 0: never killed for it
	HangTimeout time.Duration // of Python, or of the event loop; 0: never killed for it
	SlowRequest time.Duration // after which a request's worker prints its stacks; 0: never
	// GracefulTimeout is for what is under way when a worker is restarted. At a stop the
	// host has waited for that before it drains the group.
	GracefulTimeout time.Duration
	ExitTimeout     time.Duration // for lifespan shutdown and atexit
	DrainMax        time.Duration // for what is under way when a worker is recycled
	Terminal        bool          // the worker has the host's terminal (guado dev, one worker)

	FreezeAfter int    // failures after which a worker is not started again; 0: never
	OutputLimit int    // lines a second that a slot may print; 0: no limit
	Limits      Limits // after which a worker is replaced
	// Settled is how long a worker must have served for its death to count as an
	// accident; 0: five seconds.
	Settled time.Duration
}

func (o *Options) settled() time.Duration {
	if o.Settled > 0 {
		return o.Settled
	}
	return settled
}

// Command is what a worker's process is.
type Command struct {
	Path string   // the interpreter
	Args []string // after it; {slot} stands for the slot
	Dir  string
	// Env gives the environment, without GUADO_LINK and GUADO_PACKAGE. It is asked
	// before each start, so that a restarted worker gets a rotated secret.
	Env func() ([]string, error)
	// Package gives the folder that holds the worker's code. It is asked before each
	// start, because a cache may be cleaned while the host runs.
	Package func(context.Context) (string, error)
	// Child holds the account, umask and limits of the process; all else is set here.
	Child child.Child
}

// Group is the workers of one interpreter and environment.
type Group struct {
	opts  atomic.Pointer[Options]
	slots []*slot
	wait  sync.WaitGroup
	jobs  chan struct{}      // there are replacements to make
	ctx   context.Context    //nolint:containedctx // the life of its goroutines, from Start to Drain
	stop  context.CancelFunc // no more starts; set by Start

	first     chan error // the first boot that ended, in either way
	firstOnce sync.Once

	mu      sync.Mutex // guards all below
	refused string     // traceback that was shown last, so that it is shown once
	queue   []job
}

// New makes a group; Start starts its workers.
func New(o Options) *Group {
	if o.Stdout == nil {
		o.Stdout = NewLines(io.Discard, nil)
	}
	if o.Stderr == nil {
		o.Stderr = NewLines(io.Discard, nil)
	}
	g := &Group{first: make(chan error, 1), jobs: make(chan struct{}, 1)}
	g.ctx, g.stop = context.WithCancel(context.Background())
	g.opts.Store(&o)
	for _, name := range o.Slots {
		g.slots = append(g.slots, newSlot(g, name))
	}
	return g
}

// o is the options as they are now.
func (g *Group) o() *Options { return g.opts.Load() }

// Change changes the options: workers that are started from now on have them. Slots,
// streams and spawner stay what they are.
func (g *Group) Change(change func(*Options)) {
	o := *g.o()
	change(&o)
	g.opts.Store(&o)
}

// Start starts the workers and returns at once; see FirstBoot.
func (g *Group) Start() {
	for _, s := range g.slots {
		g.wait.Go(func() { s.run(g.ctx) })
	}
	g.wait.Go(g.replaceInTurn)
	g.wait.Go(g.watchSlow)
}

// FirstBoot gives one value: nil when the first worker is ready, or why the first
// one to end its boot before that could not. The group goes on trying.
func (g *Group) FirstBoot() <-chan error { return g.first }

func (g *Group) booted(err error) { g.firstOnce.Do(func() { g.first <- err }) }

// Drain ends the workers, for whose requests nobody waits any more: DRAIN, time for lifespan shutdown and atexit, then
// signals. When ctx ends they are killed at once. It returns when all are gone.
func (g *Group) Drain(ctx context.Context) {
	g.stop()
	cut := context.AfterFunc(ctx, func() {
		for _, s := range g.slots {
			s.kill(errors.New("the stop was cut short"))
		}
	})
	g.wait.Wait()
	cut()
}

// Restart ends each worker in order and starts it anew, at once also where the next
// start is put off or the worker still boots. Meanwhile requests wait.
func (g *Group) Restart() {
	for _, s := range g.slots {
		s.order(order{what: restart, why: ByOperator})
	}
}

// tell logs why a worker could not boot.
func (g *Group) tell(s *slot, err error) {
	o := g.o()
	var boot *link.BootError
	if !errors.As(err, &boot) {
		o.Log.Error("worker cannot boot", "group", o.Name, "slot", s.name, "error", err.Error())
		return
	}
	attrs := []any{"group", o.Name, "slot", s.name}
	if boot.App != "" { // not one of them: the interpreter, or what they have in common
		attrs = append(attrs, "app", boot.App)
	}
	attrs = append(attrs, "stage", boot.Stage, "error", boot.Message)
	if boot.Hint != "" {
		attrs = append(attrs, "hint", boot.Hint)
	}
	if text := g.news(boot); text != "" {
		attrs = append(attrs, "traceback", text)
	}
	o.Log.Error("worker cannot boot", attrs...)
}

// hopeless tells the crew when no worker is left that could serve, or soon could.
func (g *Group) hopeless(s *slot, err error) {
	for _, other := range g.slots {
		if st := other.current(); other != s && (st == Starting || st == Ready || st == Serving) {
			return
		}
	}
	g.o().Crew.Unavailable(err)
	g.booted(err)
}

// news gives the traceback unless it was shown last: a worker that fails the same
// way each time says so in one line.
func (g *Group) news(e *link.BootError) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e.Traceback == g.refused {
		return ""
	}
	g.refused = e.Traceback
	return e.Traceback
}

func (g *Group) healed() {
	g.mu.Lock()
	g.refused = ""
	g.mu.Unlock()
	g.booted(nil)
}

var levels = map[int]slog.Level{
	link.LogDebug: slog.LevelDebug, link.LogInfo: slog.LevelInfo,
	link.LogWarning: slog.LevelWarn, link.LogError: slog.LevelError,
}

// log passes a LOG message on, with the request it is about.
func (o *Options) log(slot string, m link.LogMessage) {
	attrs := []any{"slot", slot, "group", o.Name}
	if m.Name != "" {
		attrs = append(attrs, "request_id", m.Name)
	}
	o.Log.Log(context.Background(), levels[m.Level], m.Text, attrs...)
}
