package observe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// Endpoints are /metrics, /livez and /readyz, for the admin interface and for a
// listener of their own.
func Endpoints(m *Metrics, h *Health) http.Handler {
	mux := http.NewServeMux()
	if m != nil {
		mux.Handle("GET /metrics", m.Handler())
	}
	mux.Handle("GET /livez", h.Live())
	mux.Handle("GET /readyz", h.Ready())
	return mux
}

// Server is a listener of its own for them.
type Server struct {
	listener net.Listener
	server   *http.Server
	done     chan struct{}
}

// Serve answers on l until Close.
func Serve(l net.Listener, endpoints http.Handler, log *slog.Logger) *Server {
	s := &Server{listener: l, done: make(chan struct{}), server: &http.Server{
		Handler: sameSite(l.Addr(), endpoints), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
	go func() {
		defer close(s.done)
		if err := s.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the listener of metrics failed", "address", l.Addr().String(), "error", err)
		}
	}()
	return s
}

// Close ends it; scrapes under way have a second.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := s.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.server.Close()
	}
	<-s.done
	if err != nil {
		return fmt.Errorf("listener of metrics: %w", err)
	}
	return nil
}

// sameSite refuses foreign names on a loopback listener: a page in a browser on this
// machine could have its own name resolve to 127.0.0.1 and read what is here.
func sameSite(at net.Addr, next http.Handler) http.Handler {
	address, err := netip.ParseAddrPort(at.String())
	if err != nil || !address.Addr().IsLoopback() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err != nil && host != "localhost" {
			http.Error(w, "ask by address or as localhost", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
