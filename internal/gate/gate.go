// Package gate closes the server for all requests, without stopping it: for maintenance,
// which answers 503, or for a pause, which holds requests until it is over.
// Before it: edge. After it: route.
// Not here: requests that have passed before it closed (pool); whoever closes it (the
// command, the admin interface, a file).
package gate

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guado-server/guado/internal/address"
	"github.com/guado-server/guado/internal/exchange"
)

// Options of the server.
type Options struct {
	Maintenance bool        // closed from the start
	Flag        string      // closed while this file is there; empty: none
	Page        string      // HTML file to show; empty: the usual error page
	RetryAfter  int         // seconds, of maintenance
	Allow       address.Set // who passes during maintenance
	Except      []string    // path prefixes that stay open: "/static"
	Hold        Hold        // of a pause that says nothing else
	Log         *slog.Logger
}

// Hold bounds what a pause keeps waiting; over it requests get 503.
type Hold struct {
	Requests int           // at once
	Wait     time.Duration // each
}

// Status tells how the gate stands, for the admin interface.
type Status struct {
	Maintenance bool      `json:"maintenance"`
	Flag        bool      `json:"flag"` // because of the file
	Paused      bool      `json:"paused"`
	PausedAt    time.Time `json:"paused_at,omitzero"`
	InFlight    int       `json:"in_flight"` // requests that have passed and are not yet answered
	Held        int       `json:"held"`      // requests that wait now
	Refused     int64     `json:"refused"`   // requests refused since the start
}

// Gate is the step. Its methods may be called from any goroutine.
type Gate struct {
	road atomic.Pointer[road]

	// closed is true when Serve must look closer. inside counts the requests that have
	// passed; the order of the two makes sure that a pause misses none.
	closed  atomic.Bool
	inside  atomic.Int64
	held    atomic.Int64
	refused atomic.Int64

	mu          sync.Mutex // guards the rest
	maintenance bool
	pause       *pause // nil: not paused
	stopped     bool
	calm        chan struct{} // closed when nothing is inside; nil: nobody waits
}

// road is what is behind the gate and how it is kept, which a new configuration changes
// at once.
type road struct {
	next exchange.Handler
	opts Options
	flag *flagFile // nil: none
}

// pause is one pause. It never changes but for over.
type pause struct {
	hold  Hold
	since time.Time
	over  chan struct{} // closed at its end
}

// New makes a gate in front of next.
func New(next exchange.Handler, o Options) *Gate {
	g := &Gate{maintenance: o.Maintenance}
	g.Change(next, o)
	return g
}

// Change puts other options and another road in place. A pause goes on, what it holds
// takes the new road, and maintenance that was switched by hand stays as it is unless
// the options now say otherwise than before.
func (g *Gate) Change(next exchange.Handler, o Options) {
	r := &road{next: next, opts: o}
	if o.Flag != "" {
		r.flag = &flagFile{path: o.Flag}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if before := g.road.Swap(r); before != nil && before.opts.Maintenance != o.Maintenance {
		g.maintenance = o.Maintenance
	}
	g.settle()
}

// settle sets closed. Called with mu held.
func (g *Gate) settle() { g.closed.Store(g.maintenance || g.pause != nil) }

// SetMaintenance closes or opens the gate. A flag file closes it all the same.
func (g *Gate) SetMaintenance(on bool) {
	g.mu.Lock()
	changed := g.maintenance != on
	g.maintenance = on
	g.settle()
	g.mu.Unlock()
	if changed {
		g.road.Load().opts.Log.Info("maintenance", "on", on)
	}
}

// ErrPaused and ErrStopping are why a pause cannot begin; errOver is why nobody waits for
// one.
var (
	ErrPaused   = errors.New("the server is paused already")
	ErrStopping = errors.New("the server is being stopped")
	errOver     = errors.New("there is no pause any more")
)

// Pause holds the requests that come from now on. Zeros of hold stand for those of the
// options. It does not wait for those that have passed: see [Gate.Idle].
func (g *Gate) Pause(hold Hold) error {
	usual := g.road.Load().opts.Hold
	hold.Requests, hold.Wait = cmp.Or(hold.Requests, usual.Requests), cmp.Or(hold.Wait, usual.Wait)
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.stopped:
		return ErrStopping
	case g.pause != nil:
		return ErrPaused
	}
	g.pause = &pause{hold: hold, since: time.Now(), over: make(chan struct{})}
	g.settle()
	return nil
}

// Resume lets go what is held; false when there was no pause.
func (g *Gate) Resume() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pause == nil {
		return false
	}
	close(g.pause.over)
	g.pause = nil
	g.settle()
	return true
}

// Stop ends a pause without letting go: what is held is refused, because whatever the
// pause was made for may not be over. There is no other pause after it.
func (g *Gate) Stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stopped = true
	if g.pause != nil {
		close(g.pause.over)
	}
}

// Status tells how the gate stands.
func (g *Gate) Status() Status {
	s := Status{
		InFlight: int(g.inside.Load()), Held: int(g.held.Load()), Refused: g.refused.Load(),
		Flag: g.road.Load().flag.up(time.Now()),
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s.Maintenance = g.maintenance || s.Flag
	if g.pause != nil {
		s.Paused, s.PausedAt = true, g.pause.since
	}
	return s
}

// Serve lets x pass an open gate.
func (g *Gate) Serve(x *exchange.Exchange) {
	r := g.road.Load()
	if r.excepted(x) {
		r.next.Serve(x)
		return
	}
	if r = g.enter(x); r == nil {
		return
	}
	if x.Upgrade != "" {
		g.leave() // a tunnel may stay for days
		r.next.Serve(x)
		return
	}
	defer g.leave()
	r.next.Serve(x)
}

// Enter lets an exchange pass that is open to everybody and will not be served here, where
// the gate stands open: [Gate.Leave] follows when it has its answer. False: Serve must look.
func (g *Gate) Enter() bool {
	g.inside.Add(1)
	if g.road.Load().flag == nil && !g.closed.Load() {
		return true
	}
	g.leave()
	return false
}

// Leave ends what Enter began.
func (g *Gate) Leave() { g.leave() }

// enter counts x as inside, and gives the road; nil when x has its answer, or needs none.
func (g *Gate) enter(x *exchange.Exchange) *road {
	for {
		g.inside.Add(1)
		r := g.road.Load()
		if r.flag == nil && !g.closed.Load() {
			return r
		}
		g.mu.Lock()
		maintenance, p := g.maintenance, g.pause
		g.mu.Unlock()
		refused := (maintenance || r.flag.up(x.Received)) && !r.opts.Allow.Has(x)
		if !refused && p == nil {
			return r
		}
		g.leave()
		if refused {
			g.refused.Add(1)
			r.showPage(x)
			return nil
		}
		if !g.wait(x, p) {
			return nil
		}
	}
}

func (g *Gate) leave() {
	if g.inside.Add(-1) > 0 || !g.closed.Load() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.calm != nil && g.inside.Load() == 0 {
		close(g.calm)
		g.calm = nil
	}
}

// Idle waits, during a pause, until all requests that had passed are answered. Its error
// is that of ctx, or that the pause is over.
func (g *Gate) Idle(ctx context.Context) error {
	g.mu.Lock()
	p := g.pause
	if p == nil {
		g.mu.Unlock()
		return errOver
	}
	if g.inside.Load() == 0 {
		g.mu.Unlock()
		return nil
	}
	if g.calm == nil {
		g.calm = make(chan struct{})
	}
	calm := g.calm
	g.mu.Unlock()
	select {
	case <-calm:
		return nil
	case <-p.over:
		return errOver
	case <-ctx.Done():
		return ctx.Err()
	}
}

// challenges must be answered for a certificate to be renewed, whatever else is closed.
const challenges = "/.well-known/acme-challenge"

func (r *road) excepted(x *exchange.Exchange) bool {
	if below(x.Path, challenges) {
		return true
	}
	for _, prefix := range r.opts.Except {
		if below(x.Path, prefix) {
			return true
		}
	}
	return false
}

// below reports whether a path is a prefix or goes on behind it with a new segment.
func below(path []byte, prefix string) bool {
	prefix = strings.TrimRight(prefix, "/")
	return len(path) >= len(prefix) && string(path[:len(prefix)]) == prefix && (len(path) == len(prefix) || path[len(prefix)] == '/')
}

// wait holds x until the pause is over; false when x has its answer, or needs none.
func (g *Gate) wait(x *exchange.Exchange, p *pause) bool {
	defer g.held.Add(-1)
	if g.held.Add(1) > int64(p.hold.Requests) {
		g.refuse(x, errFull)
		return false
	}
	timer := time.NewTimer(p.hold.Wait)
	defer timer.Stop()
	for {
		select {
		case <-p.over:
			if g.isStopped() {
				g.refuse(x, ErrStopping)
				return false
			}
			return true
		case <-timer.C:
			g.refuse(x, errLong)
			return false
		case <-x.Bell():
			if x.Gone() == exchange.Closed {
				x.Answer.Abort(exchange.ErrClientGone)
				return false
			}
		}
	}
}

var (
	errFull = errors.New("as many requests as may be held are held already")
	errLong = errors.New("the pause takes longer than a request may be held")
)

func (g *Gate) isStopped() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.stopped
}

func (g *Gate) refuse(x *exchange.Exchange, why error) {
	g.refused.Add(1)
	x.Fail(&exchange.Problem{Status: 503, Code: "paused", RetryAfter: pauseRetry, Err: why})
}

// pauseRetry is when a client may ask again: pauses are short.
const pauseRetry = 5
