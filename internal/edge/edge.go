// Package edge owns the listeners: it accepts connections, holds them to their caps,
// ends the PROXY protocol and TLS, hands them to a lane (http1, http2), and prepares
// what the lanes have parsed so that every later step sees clean requests.
// Before it: the client. After it: route.
// Not here: parsing and framing of HTTP (the lanes); which mount answers (route).
package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guado-server/guado/internal/edge/compress"
	"github.com/guado-server/guado/internal/edge/http2"
	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
)

// Options say how a Server listens. Zero values are safe: no proxy is trusted, there
// is no TLS, no compression and no access log.
type Options struct {
	Listeners []net.Listener // open; see [Listen]. The Server closes them
	TLS       *TLSConfig     // for the TCP listeners that do not ask to be plain; nil: none
	NoHTTP2   bool           // do not offer h2 in TLS
	H2C       bool           // HTTP/2 by prior knowledge on plain listeners

	// TrustedProxies may set forwarded fields, X-Request-ID and traceparent, and send
	// the PROXY protocol; TrustUnix says the same of whoever connects over a Unix
	// socket. See [ParseTrusted].
	TrustedProxies []netip.Prefix
	TrustUnix      bool
	Forwarded      ForwardedPolicy
	// ProxyProtocol makes its header mandatory: connections without one, or from
	// elsewhere than TrustedProxies, are closed.
	ProxyProtocol bool
	ProxyTimeout  time.Duration // 0: one second

	Limits lane.Limits
	HTTP2  http2.Tuning
	// MaxConns: more wait in the kernel's queue. MaxConnsPerAddr: more are closed at
	// once; trusted proxies and Unix sockets do not count, and an IPv6 address counts
	// as its /64. 0: no cap.
	MaxConns        int
	MaxConnsPerAddr int

	AccessLog       *AccessLog // nil: none
	Compress        compress.Options
	ExposeRequestID bool          // answers carry X-Request-ID
	HSTS            time.Duration // answers over TLS carry Strict-Transport-Security; 0: none
	AllowHosts      []string      // "example.org", "*.example.org"; others get 421. Empty: all
	AnyHost         []string      // paths that are answered under every host all the same: probes come by address
	AllowHeaders    []string      // names with an underscore or dot that are let through

	// Observe is told of each exchange at its end, refused ones included, on the
	// exchange's own goroutine: it must be quick and keep nothing of x.
	Observe func(x *exchange.Exchange, out exchange.Outcome)
	// TraceOneIn records a trace of one exchange in this many, and of those that a
	// trusted proxy records; 0: none. See [exchange.Trace].
	TraceOneIn int

	Handler exchange.Handler
	Log     *slog.Logger
}

// Server is the edge of one host.
type Server struct {
	now  atomic.Pointer[settings]
	log  *slog.Logger
	caps *caps

	failures failures

	stop    chan struct{}  // closed: accept no more
	failed  chan error     // of the first listener that fails
	loops   sync.WaitGroup // accept loops
	workers lane.Tally     // accept loops, and the goroutines of connections

	mu        sync.Mutex // guards the rest
	listeners []*listener
	serving   bool              // accept loops run
	stopped   bool              // stop is closed
	lanes     []*lanes          // all that have connections or will
	conns     map[net.Conn]bool // those with a goroutine of ours; true: it has a lane
	cut       bool              // new ones are closed at once
}

// New checks the options and makes a Server. [Server.Close] must be called also when
// [Server.Serve] never was.
func New(o Options) (*Server, error) {
	if o.Handler == nil {
		return nil, errors.New("edge: no handler")
	}
	if len(o.Listeners) == 0 {
		return nil, errors.New("edge: no listener")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		log: o.Log, stop: make(chan struct{}), failed: make(chan error, 1),
		caps: newCaps(o.MaxConns, o.MaxConnsPerAddr), conns: map[net.Conn]bool{},
		failures: failures{log: o.Log, codes: map[string]*failure{}},
	}
	now, err := s.settle(o, nil)
	if err != nil {
		return nil, err
	}
	s.now.Store(now)
	s.lanes = append(s.lanes, now.lanes)
	for _, l := range o.Listeners {
		s.listeners = append(s.listeners, newListener(l))
	}
	return s, nil
}

func withDefaults(l lane.Limits) lane.Limits {
	d := lane.DefaultLimits()
	setInt := func(v *int, to int) {
		if *v == 0 {
			*v = to
		}
	}
	setTime := func(v *time.Duration, to time.Duration) {
		if *v == 0 {
			*v = to
		}
	}
	setInt(&l.HeadBytes, d.HeadBytes)
	setInt(&l.TargetBytes, d.TargetBytes)
	setInt(&l.Fields, d.Fields)
	setInt(&l.TrailerBytes, d.TrailerBytes)
	setTime(&l.HeadTimeout, d.HeadTimeout)
	setTime(&l.KeepAlive, d.KeepAlive)
	setTime(&l.ReadIdle, d.ReadIdle)
	setTime(&l.WriteIdle, d.WriteIdle)
	return l
}

// Drain stops accepting, closes idle connections (GOAWAY in HTTP/2) and waits for
// requests under way, or for the context.
func (s *Server) Drain(ctx context.Context) error {
	s.stopAccepting()
	s.cutOpen(false)
	for _, l := range s.allLanes() {
		l.h1.Drain()
		l.h2.Drain()
	}
	return s.wait(ctx)
}

// defaultProxyTimeout is for a PROXY header.
const defaultProxyTimeout = time.Second

// closeWait is how long steps may take to notice that their clients were cut.
const closeWait = 5 * time.Second

// Close cuts every connection, waits for the goroutines of the edge, and writes out
// the access log. It may be called more than once. Only a step that does not return
// although its client is gone makes it give up, with an error.
func (s *Server) Close() error {
	s.stopAccepting()
	for _, l := range s.allLanes() {
		l.h1.CloseAll()
		l.h2.CloseAll()
	}
	s.cutOpen(true)
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	err := s.wait(ctx)
	if access := s.now.Load().access; access != nil {
		err = errors.Join(err, access.close())
	}
	return err
}

func (s *Server) wait(ctx context.Context) error {
	all := s.allLanes()
	parts := make([]interface{ Wait(context.Context) error }, 1, 1+2*len(all))
	parts[0] = &s.workers
	for _, l := range all {
		parts = append(parts, l.h1, l.h2)
	}
	for _, part := range parts {
		if err := part.Wait(ctx); err != nil {
			return fmt.Errorf("%d connections are still open: %w", s.caps.open(), err)
		}
	}
	return nil
}

// cutOpen closes the connections that have no lane yet, of which none has sent a
// request that we know of; or all, to end those that have left HTTP, too.
func (s *Server) cutOpen(all bool) {
	s.mu.Lock()
	s.cut = true
	conns := make([]net.Conn, 0, len(s.conns))
	for c, inLane := range s.conns {
		if all || !inLane {
			conns = append(conns, c)
		}
	}
	s.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // cut on purpose
	}
}

// ReloadTLS reads the certificate files now. They are also looked at by themselves.
func (s *Server) ReloadTLS() error {
	if certs := s.now.Load().certs; certs != nil {
		return certs.reload()
	}
	return nil
}

// ReopenLog opens the access log's file again, for log rotation.
func (s *Server) ReopenLog() error {
	if access := s.now.Load().access; access != nil {
		return access.reopen()
	}
	return nil
}

// UnderWay tells how many requests are being answered.
func (s *Server) UnderWay() (n int) {
	for _, l := range s.allLanes() {
		n += l.h1.UnderWay() + l.h2.UnderWay()
	}
	return n
}

// Connections tells how many connections are open.
func (s *Server) Connections() int { return s.caps.open() }

// Accepted tells how many connections there have been.
func (s *Server) Accepted() uint64 { return s.caps.ever() }
