// Package http2 is the HTTP/2 lane of the edge: net/http reads the frames, this
// package makes an exchange of each stream and holds the connection to its limits.
// Before it: edge, which has accepted the connection and ended TLS. After it: route.
// Not here: HTTP/1 (http1), what both lanes share (edge), the HTTP/2 protocol itself.
package http2

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guado-server/guado/internal/edge/lane"
)

// Tuning bounds one connection. Zero means the default in brackets.
type Tuning struct {
	Streams      int // open at once (100)
	StreamWindow int // bytes of a request body that a client may send ahead (64 KiB)
	ConnWindow   int // the same for all streams together (1 MiB)
	Resets       int // streams per minute that may end before their answer; then the connection is closed (200)
}

func (t Tuning) withDefaults() Tuning {
	set := func(v *int, to int) {
		if *v <= 0 {
			*v = to
		}
	}
	set(&t.Streams, 100)
	set(&t.StreamWindow, 64<<10)
	set(&t.ConnWindow, 1<<20)
	set(&t.Resets, 200)
	return t
}

const (
	// A peer that is silent this long is asked with PING and closed when it does not
	// answer: it may be gone without a word, or stand still inside a header block.
	pingAfter = 30 * time.Second
	pingWait  = 15 * time.Second
	// The smallest the protocol allows: the reader's buffer is per connection.
	readFrameBytes = 16 << 10
)

// Server serves HTTP/2 connections that the edge hands to it.
//
// Two bounds are net/http's own: it runs at most Streams handlers at a time for a
// connection, whoever reset their streams (the client: CVE-2023-44487, or the server
// because the client made it: CVE-2025-8671), and closes one that has four times as
// many waiting; and it stops reading a header block over MaxHeaderBytes
// (CVE-2023-45288). It also answers 400 to connection-specific fields by itself.
type Server struct {
	limits lane.Limits
	tuning Tuning
	hooks  lane.Hooks
	log    *slog.Logger
	strays lane.StrayOrders

	http    *http.Server
	conns   *handOver
	known   sync.Map // net.Conn → *taken, from Take to the end of the connection
	served  chan struct{}
	busy    lane.Tally // connections, and streams being served
	streams atomic.Int64
	drain   sync.Once
	drained chan struct{}
	cut     context.CancelFunc
	cutCtx  context.Context //nolint:containedctx // ends the goroutine of Drain
}

// New makes a server; its goroutine ends with [Server.CloseAll] or [Server.Drain].
func New(limits lane.Limits, tuning Tuning, hooks lane.Hooks, log *slog.Logger) *Server {
	s := &Server{
		limits: limits, tuning: tuning.withDefaults(), hooks: hooks, log: log,
		conns: newHandOver(), served: make(chan struct{}), drained: make(chan struct{}),
	}
	s.cutCtx, s.cut = context.WithCancel(context.Background())
	s.http = s.newHTTPServer()
	go func() {
		defer close(s.served)
		if err := s.http.Serve(s.conns); err != nil && !errors.Is(err, http.ErrServerClosed) {
			log.Error("HTTP/2 server ended", "error", err)
		}
	}()
	return s
}

func (s *Server) newHTTPServer() *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{
		Handler:   http.HandlerFunc(s.serveHTTP),
		Protocols: &protocols,
		// The handshake is over and its settings were the edge's; only the type of the
		// connection matters here.
		TLSConfig:   &tls.Config{MinVersion: tls.VersionTLS12},
		IdleTimeout: s.limits.KeepAlive,
		// Twice our own limit: between the two the client gets our error page.
		MaxHeaderBytes: 2 * s.limits.HeadBytes,
		ErrorLog:       slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ConnContext:    s.connContext,
		ConnState:      s.connState,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          s.tuning.Streams,
			MaxReadFrameSize:              readFrameBytes,
			MaxReceiveBufferPerStream:     s.tuning.StreamWindow,
			MaxReceiveBufferPerConnection: s.tuning.ConnWindow,
			SendPingTimeout:               pingAfter,
			PingTimeout:                   pingWait,
			WriteByteTimeout:              s.limits.WriteIdle,
		},
	}
	return srv
}

// taken is a connection with what the edge told of it.
type taken struct {
	info   *lane.Conn
	closed func()
}

// Take hands a connection over: a *tls.Conn that has agreed on h2, or a plain one
// whose client begins with the HTTP/2 preface. It does not block. closed is called when
// the connection has ended, whoever ended it.
func (s *Server) Take(c net.Conn, info *lane.Conn, closed func()) {
	s.busy.Add()
	s.known.Store(c, &taken{info, closed})
	if !s.conns.put(c) {
		_ = c.Close() // the server has ended: there is nobody left to tell
		s.forget(c)
	}
}

func (s *Server) forget(c net.Conn) {
	if t, ok := s.known.LoadAndDelete(c); ok {
		t.(*taken).closed()
		s.busy.Done()
	}
}

func (s *Server) connState(c net.Conn, state http.ConnState) {
	if state == http.StateClosed {
		s.forget(c)
	}
}

// Drain sends GOAWAY on every connection and takes no new one; streams under way go on.
func (s *Server) Drain() {
	s.drain.Do(func() {
		go func() {
			defer close(s.drained)
			if err := s.http.Shutdown(s.cutCtx); err != nil && s.cutCtx.Err() == nil {
				s.log.Error("draining HTTP/2 connections", "error", err)
			}
		}()
	})
}

// Wait returns when every connection has ended and every stream was served, after
// [Server.Drain] or [Server.CloseAll]; or with the context's error.
func (s *Server) Wait(ctx context.Context) error {
	s.Drain()
	select {
	case <-s.drained:
	case <-ctx.Done():
		return ctx.Err()
	}
	<-s.served
	return s.busy.Wait(ctx)
}

// UnderWay is the number of streams being served.
func (s *Server) UnderWay() int { return int(s.streams.Load()) }

// Connections is the number of connections, idle ones included.
func (s *Server) Connections() (n int) {
	s.known.Range(func(any, any) bool { n++; return true })
	return n
}

// CloseAll cuts every connection. Streams being served learn that their client is gone.
func (s *Server) CloseAll() {
	s.cut()
	if err := s.http.Close(); err != nil {
		s.log.Debug("closing HTTP/2 connections", "error", err)
	}
}

type connKey struct{}

func (s *Server) connContext(ctx context.Context, c net.Conn) context.Context {
	t, ok := s.known.Load(c)
	if !ok {
		panic("http2: a connection that was never taken") // Take is the only way in
	}
	return context.WithValue(ctx, connKey{}, &conn{
		Conn: t.(*taken).info, raw: rawConn(c), log: s.log,
		resets: newBucket(s.tuning.Resets, time.Minute),
	})
}

// rawConn is the connection below TLS: closing that one never waits for a peer.
func rawConn(c net.Conn) net.Conn {
	if t, ok := c.(*tls.Conn); ok {
		return t.NetConn()
	}
	return c
}

// handOver is the net.Listener that net/http accepts from.
type handOver struct {
	conns chan net.Conn
	done  chan struct{}
	close sync.Once
}

func newHandOver() *handOver {
	return &handOver{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (h *handOver) put(c net.Conn) bool {
	select {
	case h.conns <- c:
		return true
	case <-h.done:
		return false
	}
}

func (h *handOver) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handOver) Close() error {
	h.close.Do(func() { close(h.done) })
	return nil
}

func (h *handOver) Addr() net.Addr { return &net.UnixAddr{Name: "edge", Net: "unix"} }
