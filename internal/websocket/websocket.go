// Package websocket ends WebSockets in the host: the handshake of RFC 6455, frames,
// compression, pings, the closing handshake, and limits. A socket has one goroutine,
// which reads, and no buffer while nothing moves.
// Before it: route, and the lane that gives the connection away. After it: pool, whose
// applications decide whether to accept, or whoever else handles an upgrade.
// Not here: what messages mean; HTTP/2 (RFC 8441), whose clients open HTTP/1.1.
package websocket

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guado-server/guado/internal/exchange"
)

// Options of a server.
type Options struct {
	Log *slog.Logger
}

// Limits of the sockets of a mount.
type Limits struct {
	Message        int           // bytes of a message, also after it was unpacked
	Fragments      int           // frames of a message
	Waiting        int           // bytes that wait for a client that does not read
	PingInterval   time.Duration // silence after which a client is asked for a sign of life; 0: it is not
	PingTimeout    time.Duration // how long it may take to give one
	WriteIdle      time.Duration // how long it may read nothing of what waits for it
	Compression    bool          // offer permessage-deflate
	CompressionMin int           // shorter messages go as they are
	Total          int           // sockets at once; 0: no limit
	PerAddress     int           // of one address, of one /64 of IPv6; 0: no limit
}

// closeTimeout is how long a client may take to answer a close frame and to end the
// connection.
const closeTimeout = 5 * time.Second

// Server keeps the sockets of a host. Its methods may be called from any goroutine.
type Server struct {
	log *slog.Logger

	opened, closed     atomic.Uint64
	messages, sent     atomic.Uint64
	bytesIn, bytesOut  atomic.Uint64
	slow, silent, over atomic.Uint64

	mu       sync.Mutex // guards the rest, and the wheel's fields of each socket
	sockets  map[*Socket]struct{}
	addrs    map[netip.Addr]int
	wheel    wheel
	draining bool
	empty    chan struct{} // closed when no goroutine is left; nil: nobody waits
	running  int           // goroutines of sockets
}

// New makes a server without sockets.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{log: o.Log, sockets: map[*Socket]struct{}{}, addrs: map[netip.Addr]int{}}
	s.wheel.init(s.tick)
	return s
}

// Status tells how the server is.
type Status struct {
	Open     int    `json:"open"`
	Opened   uint64 `json:"opened"`   // ever
	Received uint64 `json:"received"` // messages
	Sent     uint64 `json:"sent"`     // messages
	BytesIn  uint64 `json:"bytes_in"` // of connections, frames included
	BytesOut uint64 `json:"bytes_out"`
	Slow     uint64 `json:"slow"`    // cut: they did not read
	Silent   uint64 `json:"silent"`  // cut: no sign of life
	Refused  uint64 `json:"refused"` // over a cap
}

// Status tells how the server is now.
func (s *Server) Status() Status {
	s.mu.Lock()
	open := len(s.sockets)
	s.mu.Unlock()
	return Status{
		Open: open, Opened: s.opened.Load(), Received: s.messages.Load(), Sent: s.sent.Load(),
		BytesIn: s.bytesIn.Load(), BytesOut: s.bytesOut.Load(),
		Slow: s.slow.Load(), Silent: s.silent.Load(), Refused: s.over.Load(),
	}
}

// enter gives a socket its place; the problem when there is none.
func (s *Server) enter(k *Socket) *exchange.Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.fullLocked(k.limits, k.addr); p != nil {
		return p
	}
	s.sockets[k] = struct{}{}
	if k.addr.IsValid() {
		s.addrs[k.addr]++
	}
	return nil
}

// full tells whether there is no place, before anybody is asked to accept.
func (s *Server) full(l *Limits, addr netip.Addr) *exchange.Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fullLocked(l, addr)
}

func (s *Server) fullLocked(l *Limits, addr netip.Addr) *exchange.Problem {
	switch {
	case s.draining:
		return &exchange.Problem{Status: 503, Code: "stopping", RetryAfter: 1, Err: errStopping}
	case l.Total > 0 && len(s.sockets) >= l.Total:
		s.over.Add(1)
		return &exchange.Problem{Status: 503, Code: "too_many_websockets", RetryAfter: 5, Err: errTotal}
	case addr.IsValid() && l.PerAddress > 0 && s.addrs[addr] >= l.PerAddress:
		s.over.Add(1)
		return &exchange.Problem{Status: 429, Code: "too_many_websockets", RetryAfter: 5, Err: errPerAddress}
	}
	return nil
}

// leave takes it back.
func (s *Server) leave(k *Socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.sockets[k]; !ok {
		return
	}
	delete(s.sockets, k)
	if k.addr.IsValid() {
		if s.addrs[k.addr]--; s.addrs[k.addr] == 0 {
			delete(s.addrs, k.addr)
		}
	}
	s.wheel.remove(k)
}

// begin and done count a goroutine of a socket.
func (s *Server) begin() {
	s.mu.Lock()
	s.running++
	s.mu.Unlock()
}

func (s *Server) done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running--; s.running == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
}

// Drain refuses new sockets and closes those there are with 1012: their clients come
// back to whoever serves next.
func (s *Server) Drain() {
	for _, k := range s.all(true) {
		k.Close(exchange.CloseRestart, "the server restarts")
	}
}

// Wait returns when no goroutine of a socket is left, or with the error of ctx.
func (s *Server) Wait(ctx context.Context) error {
	s.mu.Lock()
	if s.running == 0 {
		s.mu.Unlock()
		return nil
	}
	if s.empty == nil {
		s.empty = make(chan struct{})
	}
	empty := s.empty
	s.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close cuts what is left and waits for its goroutines.
func (s *Server) Close() {
	for _, k := range s.all(true) {
		k.cut(errStopping)
	}
	_ = s.Wait(context.Background()) // this context does not end
	s.mu.Lock()
	s.wheel.stopped = true
	s.mu.Unlock()
	s.wheel.stop()
}

func (s *Server) all(drain bool) []*Socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = s.draining || drain
	all := make([]*Socket, 0, len(s.sockets))
	for k := range s.sockets {
		all = append(all, k)
	}
	return all
}
