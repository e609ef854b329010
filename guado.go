// Package guado serves Python WSGI and ASGI applications, Go handlers, static
// folders and upstreams from one process: the library behind the command guado.
// Before it: a program, or cmd/guado. After it: the road of a request, which this
// package assembles (serve.go). Not here: flags and signals, which a program has.
//
//	s := guado.New(guado.Default())
//	s.Mount("/legacy", guado.WSGI("shop.wsgi:application"))
//	s.Mount("/api", apiHandler) // any http.Handler
//	err := s.Run(ctx)
package guado

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/link"
)

// Config is everything a server is told: the structure of guado.toml. Start from
// [Default], whose values are those of a file that says nothing.
type Config = config.Config

// App is a WSGI or ASGI application; see [WSGI] and [ASGI].
type App = config.App

// Group is an interpreter, its environment and the workers that run in it.
type Group = config.Group

// MountConfig is what a path is bound to; see [Static], [Redirect] and [Upstream].
type MountConfig = config.Mount

// Duration is a time span of the configuration, spelled "25s" in a file.
type Duration = config.Duration

// Size is a number of bytes of the configuration, spelled "64KiB" in a file.
type Size = config.Size

// BootError is why a worker could not import or start its application.
type BootError = link.BootError

// ErrNeverReady is what [Server.Run] returns (wrapping the cause, often a
// [*BootError]) when there is one application and its first worker could not boot.
var ErrNeverReady = errors.New("the application could not be started")

// Default is the configuration of a server that was told nothing.
func Default() *Config { return config.Default() }

// Server is one host. Set its exported fields before Run.
type Server struct {
	Log     *slog.Logger // default: slog.Default()
	Stdout  io.Writer    // of workers, line by line; default: os.Stdout
	Stderr  io.Writer    // default: os.Stderr
	Environ []string     // base of the workers' environment; default: os.Environ()
	// Ready is called once, when the sockets are open and each group's first worker
	// has booted or failed to.
	Ready func(Status)
	// NotifySocket is that of the service manager that has started the program
	// ($NOTIFY_SOCKET): it is told when the server is ready, reloads and stops. Empty:
	// nobody is told.
	NotifySocket string
	// Watchdog is within what time that manager wants to hear of the server again and
	// again ($WATCHDOG_USEC); 0: it does not ask.
	Watchdog time.Duration
	// Load reads the configuration anew for [Server.Reload]: complete and checked, as
	// [Load] gives it. nil: there is nothing to read again.
	Load func() (*Config, error)
	// Level is that of Log, for a change of server.log_level; nil: it stays as it is.
	Level *slog.LevelVar

	config   *Config
	resolved bool
	problems []error // of Mount

	mu   sync.Mutex // guards host
	host *host      // while Run runs

	cut     context.Context
	cutStop context.CancelFunc
}

// New makes a server of a configuration that Run completes and checks; nil means
// [Default]. The configuration belongs to the server from now on.
func New(c *Config) *Server {
	if c == nil {
		c = Default()
	}
	s := &Server{config: c, Log: slog.Default(), Stdout: os.Stdout, Stderr: os.Stderr, Environ: os.Environ()}
	s.cut, s.cutStop = context.WithCancel(context.Background())
	return s
}

// NewResolved makes a server of a configuration that was completed and checked
// already, as config.Load does for a file.
func NewResolved(c *Config) *Server {
	s := New(c)
	s.resolved = true
	return s
}

// Cut ends the patience of a Run whose context has ended: workers and connections
// that are still there are cut at once.
func (s *Server) Cut() { s.cutStop() }

// running gives the host while Run runs.
func (s *Server) running() *host {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.host == nil {
		return nil
	}
	return s.host.now()
}

// Restart ends each worker in order and starts it anew; waiting requests wait.
func (s *Server) Restart() { s.RestartGroups() }

// RestartGroups is Restart for the workers of these groups; all when none is named.
func (s *Server) RestartGroups(groups ...string) {
	if h := s.running(); h != nil {
		h.restart(groups...)
	}
}
