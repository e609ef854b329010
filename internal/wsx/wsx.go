// Package wsx ends the WebSockets of GenroPy's newest clients in the host: each message
// becomes a request to the application, and its answer goes back (protocol/wsx.md).
// Before it: websocket, which checks handshakes. After it: the whole road again, for the
// requests; the application behind the step, for all that is no such socket.
// Not here: whose a page is (Options.Owner), frames, what a page's call means.
package wsx

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/guado-server/guado/internal/exchange"
)

// Bounds of one socket.
const (
	mostRunning = 64  // calls with the application at once
	mostWaiting = 256 // calls that wait for their turn; more are refused
)

// Options of a mount.
type Options struct {
	// Road takes the calls: it finds the mount of their paths as it does for requests.
	Road exchange.Handler
	// Begin and End are told of a call, before it takes the road and after; nil: nobody looks.
	Begin func(x *exchange.Exchange)
	End   func(x *exchange.Exchange, o exchange.Outcome)
	// Split fills in the paths of an exchange by its target, or refuses it.
	Split func(x *exchange.Exchange) *exchange.Problem
	// Owner tells whether a page is known to the host, and whose it is: the id of the
	// connection. Nil: no page is.
	Owner func(page string) (connection string, known bool)
	// Connection tells whose a client is by what it said in the handshake; empty: nobody's
	// any more.
	Connection func(x *exchange.Exchange) string
	// Base takes from a page's id what is only a hint: two spellings are one page. Nil:
	// nothing is.
	Base func(page string) string

	Path     string // of the mount: "/", "/shop"
	RootPath string // what a proxy in front takes off; clients have it in their paths
	Message  int    // bytes of a message, and of an answer
	Log      *slog.Logger
}

// Hub counts the calls of all sockets, so that a stop can wait for them.
type Hub struct {
	calls         sync.WaitGroup
	sockets       atomic.Int64
	running       atomic.Int64
	done, refused atomic.Uint64
}

// Status of the sockets of all mounts.
type Status struct {
	Sockets int    `json:"sockets"`
	Running int    `json:"running"` // calls that are with applications
	Done    uint64 `json:"done"`    // calls that came to an end
	Refused uint64 `json:"refused"` // messages that the host refused
}

// Status tells how the sockets are.
func (h *Hub) Status() Status {
	return Status{Sockets: int(h.sockets.Load()), Running: int(h.running.Load()), Done: h.done.Load(), Refused: h.refused.Load()}
}

// run runs a call on a goroutine of its own.
func (h *Hub) run(c *call) {
	h.running.Add(1)
	h.calls.Go(func() {
		c.run()
		h.running.Add(-1)
		h.done.Add(1)
	})
}

// Wait returns when no call is under way. There must be no sockets any more.
func (h *Hub) Wait() { h.calls.Wait() }

// Step takes the sockets of a mount.
type Step struct {
	hub    *Hub
	next   exchange.Handler
	opts   Options
	prefix string // of paths that clients name: "", "/shop"
}

// NewStep puts the step in front of next.
func (h *Hub) NewStep(next exchange.Handler, o Options) *Step {
	if o.Owner == nil {
		o.Owner = func(string) (string, bool) { return "", false }
	}
	if o.Connection == nil {
		o.Connection = func(*exchange.Exchange) string { return "" }
	}
	if o.Begin == nil || o.End == nil {
		o.Begin = func(*exchange.Exchange) {}
		o.End = func(*exchange.Exchange, exchange.Outcome) {}
	}
	if o.Base == nil {
		o.Base = func(page string) string { return page }
	}
	o.RootPath = strings.TrimRight(o.RootPath, "/")
	return &Step{hub: h, next: next, opts: o, prefix: strings.TrimRight(o.Path, "/")}
}

var errNoUpgrade = errors.New("nothing in front of WSX makes a WebSocket of a request")

// Serve takes upgrades on the paths where the clients open their sockets.
func (s *Step) Serve(x *exchange.Exchange) {
	if x.Upgrade != "websocket" || !s.ours(x) {
		s.next.Serve(x)
		return
	}
	if x.Upgrader == nil {
		x.Fail(&exchange.Problem{Status: 400, Code: "bad_websocket", Err: errNoUpgrade})
		return
	}
	if problem := x.Upgrader.Check(x); problem != nil {
		x.Fail(problem)
		return
	}
	k := newSession(s, x)
	wire, err := x.Upgrader.Upgrade(x, nil, k)
	if err != nil {
		if problem := (*exchange.Problem)(nil); errors.As(err, &problem) {
			x.Fail(problem)
		} else {
			x.Answer.Abort(err)
		}
		return
	}
	k.wire = wire
	s.hub.sockets.Add(1)
	wire.Start()
}

// ours says whether a client would open its socket here.
func (s *Step) ours(x *exchange.Exchange) bool {
	path := bytes.TrimPrefix(x.Path, []byte(s.opts.RootPath))
	path = bytes.TrimPrefix(path, []byte(s.prefix))
	return string(path) == "/_wsx" || string(path) == "/websocket"
}

// inside gives a path that a client named as the road sees it.
func (s *Step) inside(path string) string {
	if rest, ok := strings.CutPrefix(path, s.opts.RootPath); ok && strings.HasPrefix(rest, "/") {
		return rest
	}
	return path
}

// reserved gives the name behind /_wsx/, at the root or in the mount.
func (s *Step) reserved(path string) (name string, is bool) {
	path, _, _ = strings.Cut(path, "?")
	if name, is = strings.CutPrefix(path, "/_wsx/"); is {
		return name, true
	}
	return strings.CutPrefix(path, s.prefix+"/_wsx/")
}
