// Package admin is the interface by which operators see and steer a host: versioned
// JSON over HTTP on a Unix socket that only the host's own account and root can open;
// and a second one for programs, which have tokens and may do little.
// Before it: the command line, the dashboard. After it: what the assembly gives it to
// show and to do (readings and actions), and the journal of what was logged.
// Not here: what a reading says or an action does; the road of a request.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// Reading answers GET /v1/<Path> with the JSON of what Read gives.
type Reading struct {
	Path string // "workers", "workers/{slot}"
	Read func(Call) (any, error)
}

// Action answers POST /v1/<Path>. What it gives is the answer; nil is 204.
type Action struct {
	Path string // "workers/{slot}/restart"
	// Do may take its time: its context does not end when the client leaves, which
	// must not break off a reload in the middle, but with the server.
	Do func(context.Context, Call) (any, error)
	// Brief actions come often, and end when their client leaves. They are logged for who
	// looks closely, but for those that the host failed.
	Brief bool
	// Largest bounds the body, where the usual bound is too small.
	Largest int64
}

// Options of a server.
type Options struct {
	// Socket is where it listens. Beside says that a name beside it will do when
	// another host has it.
	Socket string
	Beside bool
	// Instance is the host's GUADO_INSTANCE: processes that carry it are its children,
	// wherever they are in the tree of processes.
	Instance string
	// Host is the process whose descendants are refused; 0: this one.
	Host     int
	Readings []Reading
	Actions  []Action
	Journal  *Journal // what GET /v1/logs gives
	// Sources gives what a name means of which somebody wants the log, or a refusal when
	// nothing has it; nil: every name means itself.
	Sources  func(name string) ([]string, error)
	Handlers map[string]http.Handler
	// Tokens makes it the interface for programs: who shows one of them is let in,
	// whoever else would be. It has actions only.
	Tokens *Tokens
	// Shared lets other accounts connect: programs may run as one.
	Shared bool
	Log    *slog.Logger
}

// Server listens on the socket.
type Server struct {
	options Options
	socket  *socket
	http    *http.Server
	stop    context.CancelFunc // ends streams and the contexts of actions
	ended   chan struct{}      // closed when the loop of http has ended
	acting  sync.WaitGroup     // actions under way

	mu      sync.Mutex // guards closing, and acting against a first Add during its Wait
	closing bool
}

const (
	// largestBody is more than any action needs to be told.
	largestBody = 64 << 10
	// headTimeout is for a client that connects and says nothing.
	headTimeout = 10 * time.Second
	// lastWords is how long answers have when the server closes.
	lastWords = time.Second
)

// New opens the socket and starts to answer. [Server.Close] ends it.
func New(o Options) (*Server, error) {
	if o.Host == 0 {
		o.Host = os.Getpid()
	}
	sock, err := listen(o.Socket, o.Beside, o.Shared)
	if err != nil {
		return nil, fmt.Errorf("admin socket %s: %w", o.Socket, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Server{options: o, socket: sock, stop: stop, ended: make(chan struct{})}
	s.http = &http.Server{
		Handler:           s.routes(ctx),
		ReadHeaderTimeout: headTimeout,
		MaxHeaderBytes:    largestBody,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       s.identify,
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	go func() {
		defer close(s.ended)
		if err := s.http.Serve(sock.listener); !errors.Is(err, http.ErrServerClosed) {
			o.Log.Error("the admin interface has ended", "socket", sock.path, "error", err.Error())
		}
	}()
	return s, nil
}

// Path tells where it listens.
func (s *Server) Path() string { return s.socket.path }

// begin reports whether an action may begin; the server then waits for its end.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing {
		s.acting.Add(1)
	}
	return !s.closing
}

// Close ends streams and actions, lets answers leave that are nearly through, and
// removes the socket.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.stop()
	s.acting.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close()
	}
	<-s.ended
	return errors.Join(err, s.socket.remove())
}
