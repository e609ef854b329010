// Package http1 is the edge's own HTTP/1.1 lane: a strict head parser and framing
// for one connection in one goroutine, which makes an exchange of each request.
// Before it: a listener of the edge, which accepted the connection. After it: the
// hooks of the edge, then route.
// Not here: TLS, what fields mean, error pages, the access log; and net/http.
package http1

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
)

// Server serves HTTP/1.1 and 1.0 on connections that others accept. Its methods may
// be called from any goroutine.
type Server struct {
	limits   lane.Limits
	ticks    timeouts
	hooks    lane.Hooks
	log      *slog.Logger
	clock    clock
	works    sync.Pool // of *work
	draining atomic.Bool
	closed   atomic.Bool
	accepted atomic.Uint64
	refused  atomic.Uint64
	strays   lane.StrayOrders

	mu      sync.Mutex // guards the rest
	conns   []*conn
	sweeper chan struct{}   // closed when the running sweeper has ended; nil: none runs
	stop    chan struct{}   // closed to end it
	empty   []chan struct{} // closed when conns is empty
}

// timeouts are those of lane.Limits in ticks.
type timeouts struct{ keepAlive, head, readIdle, writeIdle, drain int64 }

// New makes a server. Zero limits take their defaults, but for BodyBytes and
// RequestsPerKA, where zero is none.
func New(limits lane.Limits, hooks lane.Hooks, log *slog.Logger) *Server {
	limits = withDefaults(limits)
	s := &Server{limits: limits, hooks: hooks, log: log, ticks: timeouts{
		keepAlive: ticksOf(limits.KeepAlive), head: ticksOf(limits.HeadTimeout),
		readIdle: ticksOf(limits.ReadIdle), writeIdle: ticksOf(limits.WriteIdle), drain: ticksOf(drainTime),
	}}
	s.works.New = func() any { return newWork() }
	s.clock.base = time.Now()
	s.clock.look(s.clock.base)
	return s
}

func withDefaults(l lane.Limits) lane.Limits {
	d := lane.DefaultLimits()
	number := func(n *int, standard int) {
		if *n <= 0 {
			*n = standard
		}
	}
	duration := func(n *time.Duration, standard time.Duration) {
		if *n <= 0 {
			*n = standard
		}
	}
	number(&l.HeadBytes, d.HeadBytes)
	number(&l.TargetBytes, d.TargetBytes)
	number(&l.Fields, d.Fields)
	number(&l.TrailerBytes, d.TrailerBytes)
	duration(&l.HeadTimeout, d.HeadTimeout)
	duration(&l.KeepAlive, d.KeepAlive)
	duration(&l.ReadIdle, d.ReadIdle)
	duration(&l.WriteIdle, d.WriteIdle)
	return l
}

// ServeConn serves nc in the calling goroutine until the connection has ended or
// left HTTP, and closes it in the first case. A *tls.Conn must have shaken hands.
func (s *Server) ServeConn(nc net.Conn, info *lane.Conn) {
	c := s.newConn(nc, info)
	if !s.add(c) {
		c.closeQuietly(nc)
		return
	}
	defer func() {
		if s.remove(c) {
			c.closeQuietly(nc)
		}
	}()
	c.run()
}

// add registers c; false after CloseAll.
func (s *Server) add(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return false
	}
	s.accepted.Add(1)
	c.index = len(s.conns)
	s.conns = append(s.conns, c)
	if s.sweeper == nil {
		s.clock.look(time.Now())
		s.sweeper, s.stop = make(chan struct{}), make(chan struct{})
		go s.sweep(s.sweeper, s.stop)
	}
	return true
}

// remove takes c off; false when it is off already (it was hijacked).
func (s *Server) remove(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.index < 0 {
		return false
	}
	last := len(s.conns) - 1
	s.conns[c.index] = s.conns[last]
	s.conns[c.index].index = c.index
	s.conns[last] = nil
	s.conns = s.conns[:last]
	c.index = -1
	if last == 0 {
		for _, e := range s.empty {
			close(e)
		}
		s.empty = nil
	}
	return true
}

// Drain lets connections end: idle ones at once, others after their running
// exchange, whose answer says Connection: close.
func (s *Server) Drain() {
	s.draining.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		if old := c.rd.load(); old.phase() == reading {
			c.expire(old)
		}
	}
}

// Wait returns when no connection is left, or with the error of ctx.
func (s *Server) Wait(ctx context.Context) error {
	s.mu.Lock()
	if len(s.conns) > 0 {
		empty := make(chan struct{})
		s.empty = append(s.empty, empty)
		s.mu.Unlock()
		select {
		case <-empty:
		case <-ctx.Done():
			return ctx.Err()
		}
		s.mu.Lock()
	}
	sweeper := s.sweeper
	if sweeper != nil && len(s.conns) == 0 && s.stop != nil {
		close(s.stop)
		s.stop = nil
	}
	s.mu.Unlock()
	if sweeper != nil {
		<-sweeper
	}
	return nil
}

// CloseAll cuts all connections and refuses new ones. Running exchanges learn that
// their client is gone.
func (s *Server) CloseAll() {
	s.draining.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed.Store(true)
	for _, c := range s.conns {
		c.hardClose(false)
		c.cut()
	}
}

// Connections is the number of connections, idle ones included.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// UnderWay is the number of exchanges that run.
func (s *Server) UnderWay() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.conns {
		if p := c.rd.load().phase(); p == readBusy || p == readBody {
			n++
		}
	}
	return n
}

// Idle is the number of connections that wait for a request.
func (s *Server) Idle() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.conns {
		if c.rd.load().phase() == reading {
			n++
		}
	}
	return n
}

// Accepted is the number of connections so far.
func (s *Server) Accepted() uint64 { return s.accepted.Load() }

// Refused is the number of heads that the lane has refused so far.
func (s *Server) Refused() uint64 { return s.refused.Load() }

// cut tells a running exchange that its client is gone; the connection is closed.
func (c *conn) cut() {
	if old := c.rd.load(); old.phase() == readBusy && !old.watched() {
		c.startWatch(old)
	}
	c.mu.Lock()
	t := c.watch
	c.mu.Unlock()
	if t != nil {
		t.tell(exchange.Closed)
	}
}
