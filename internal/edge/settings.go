package edge

import (
	"context"
	"errors"
	"time"

	"github.com/guado-server/guado/internal/edge/compress"
	"github.com/guado-server/guado/internal/edge/http1"
	"github.com/guado-server/guado/internal/edge/http2"
	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
)

// settings is what the options make of a server beside its listeners and caps. They
// never change: other options are other settings, which requests see from their head
// on, whichever connection they come on.
type settings struct {
	options Options
	certs   *certificates // nil: no TLS
	access  *accessLog    // nil: none
	prepare *preparer
	handler exchange.Handler
	lanes   *lanes
}

// lanes hold connections to their limits. A connection stays in the lane that it is
// in: one whose limits are no longer those of the server goes on until its last
// connection has ended.
type lanes struct {
	h1 *http1.Server
	h2 *http2.Server
}

// settle checks the options and makes settings of them; what is as before is taken
// from there.
func (s *Server) settle(o Options, before *settings) (now *settings, err error) {
	o.Log = s.log
	o.Limits = withDefaults(o.Limits)
	if o.ProxyTimeout == 0 {
		o.ProxyTimeout = defaultProxyTimeout
	}
	if o.ProxyProtocol && len(o.TrustedProxies) == 0 && !o.TrustUnix {
		return nil, errors.New("edge: the PROXY protocol needs trusted proxies: nobody else may send it")
	}
	now = &settings{options: o}
	if now.prepare, err = newPreparer(&o); err != nil {
		return nil, err
	}
	if now.handler, err = compress.New(o.Compress, withFields(o.Handler, now.prepare.extra)); err != nil {
		return nil, err
	}
	if o.TLS != nil {
		if now.certs, err = newCertificates(o.TLS, !o.NoHTTP2, o.Log); err != nil {
			return nil, err
		}
	}
	switch {
	case o.AccessLog == nil:
	case before != nil && before.options.AccessLog != nil && *before.options.AccessLog == *o.AccessLog:
		now.access = before.access
	default:
		if now.access, err = newAccessLog(o.AccessLog, o.Log); err != nil {
			return nil, err
		}
	}
	if before != nil && before.options.Limits == o.Limits && before.options.HTTP2 == o.HTTP2 {
		now.lanes = before.lanes
		return now, nil
	}
	// The lanes are told of what is current, not of what was when they were made.
	hooks := lane.Hooks{Prepare: s.prepare, Handler: road{s}, Render: s.render, Done: s.done}
	now.lanes = &lanes{h1: http1.New(o.Limits, hooks, o.Log), h2: http2.New(o.Limits, o.HTTP2, hooks, o.Log)}
	return now, nil
}

// road is the way on from the lanes as it is now.
type road struct{ s *Server }

func (r road) Serve(x *exchange.Exchange) { r.s.now.Load().handler.Serve(x) }

func (s *Server) prepare(x *exchange.Exchange, c *lane.Conn) (*exchange.Problem, bool) {
	return s.now.Load().prepare.prepare(x, c)
}

func (s *Server) render(x *exchange.Exchange, p *exchange.Problem) (exchange.Head, []byte) {
	return s.now.Load().prepare.render(x, p)
}

// done logs an exchange, in the access log that is in use when it is written.
func (s *Server) done(x *exchange.Exchange, out lane.Outcome) {
	if x.Problem != nil {
		s.failures.tell(x, time.Now())
	}
	now := s.now.Load()
	if now.access == nil && now.options.Observe == nil {
		return
	}
	out.At = time.Now()
	if now.access != nil && !now.access.write(x, out) {
		if next := s.now.Load(); next.access != nil && next != now { // it was replaced meanwhile
			next.access.write(x, out)
		}
	}
	if now.options.Observe != nil {
		now.options.Observe(x, out)
	}
}

// Change is another set of options that was checked and can be put in place. One of
// its methods must be called, once.
type Change struct {
	server *Server
	next   *settings
}

// Prepare checks other options for the server. Listeners that are not among those of
// before are open already; without any those of before stay. Nothing is different until
// [Change.Apply].
func (s *Server) Prepare(o Options) (*Change, error) {
	if o.Listeners == nil {
		o.Listeners = s.now.Load().options.Listeners
	}
	next, err := s.settle(o, s.now.Load())
	if err != nil {
		return nil, err
	}
	return &Change{server: s, next: next}, nil
}

// Apply puts the options in place, and closes listeners that are not among them.
// Connections that are open keep their limits, their
// certificate and whether they are trusted; those over a smaller cap stay open.
func (c *Change) Apply() error {
	s := c.server
	before := s.now.Swap(c.next)
	s.caps.change(c.next.options.MaxConns, c.next.options.MaxConnsPerAddr)
	listenErr := s.listen(c.next.options.Listeners)
	s.mu.Lock()
	if c.next.lanes != before.lanes {
		s.lanes = append(s.lanes, c.next.lanes)
	}
	idle := s.takeIdle()
	s.mu.Unlock()
	err := errors.Join(listenErr, retire(idle))
	if before.access != nil && before.access != c.next.access {
		err = errors.Join(err, before.access.close())
	}
	return err
}

// Discard frees what was made for options that are not wanted after all; new listeners
// stay whose they are.
func (c *Change) Discard() error {
	before := c.server.now.Load()
	var err error
	if c.next.lanes != before.lanes {
		err = retire([]*lanes{c.next.lanes})
	}
	if c.next.access != nil && c.next.access != before.access {
		err = errors.Join(err, c.next.access.close())
	}
	return err
}

// kept is how many lanes are kept though they are empty: those of the last two
// settings, which a connection may just be on its way to.
const kept = 2

// takeIdle takes lanes that have done their work off the list. Called with mu held.
func (s *Server) takeIdle() (idle []*lanes) {
	var stay []*lanes
	for i, l := range s.lanes {
		if i < len(s.lanes)-kept && l.h1.Connections()+l.h2.Connections() == 0 {
			idle = append(idle, l)
		} else {
			stay = append(stay, l)
		}
	}
	s.lanes = stay
	return idle
}

// retire ends lanes without connections.
func retire(idle []*lanes) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	var err error
	for _, l := range idle {
		l.h1.CloseAll()
		l.h2.CloseAll()
		err = errors.Join(err, l.h1.Wait(ctx), l.h2.Wait(ctx))
	}
	return err
}

// allLanes gives the lanes that may have connections.
func (s *Server) allLanes() []*lanes {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*lanes(nil), s.lanes...)
}
