package edge

import (
	"errors"
	"net"
	"slices"
)

// listener is an open socket and what is known of it.
type listener struct {
	net.Listener
	name   string // for logs
	unix   bool
	secure bool          // speaks TLS while there is a certificate
	gone   chan struct{} // closed when it is not wanted any more
}

func newListener(l net.Listener) *listener {
	own := &listener{Listener: l, name: l.Addr().String(), unix: l.Addr().Network() == "unix", gone: make(chan struct{})}
	asked, ok := l.(*Listener)
	own.secure = !own.unix && (!ok || !asked.Plain)
	return own
}

// Serve accepts on all listeners until [Server.Drain] or [Server.Close], or until one
// of them fails for good.
func (s *Server) Serve() error {
	s.mu.Lock()
	s.serving = true
	for _, l := range s.listeners {
		s.begin(l)
	}
	s.mu.Unlock()
	<-s.stop
	s.loops.Wait()
	select {
	case err := <-s.failed:
		return err
	default:
		return nil
	}
}

// begin starts the accept loop of a listener. Called with mu held, and not after stop.
func (s *Server) begin(l *listener) {
	s.workers.Add()
	s.loops.Go(func() {
		defer s.workers.Done()
		if err := s.accept(l); err != nil {
			select {
			case s.failed <- err:
			default: // another one was first
			}
			s.stopAccepting()
		}
	})
}

// listen accepts on these listeners instead of those of before. Which are new, and which
// are not wanted any more and closed, is told by what they are, not by their addresses.
func (s *Server) listen(list []net.Listener) error {
	var err error
	var now []*listener
	s.mu.Lock()
	for _, l := range list {
		i := slices.IndexFunc(s.listeners, func(o *listener) bool { return o.Listener == l })
		if i >= 0 {
			now = append(now, s.listeners[i])
			continue
		}
		own := newListener(l)
		now = append(now, own)
		switch {
		case s.stopped:
			err = errors.Join(err, own.Close())
		case s.serving:
			s.begin(own)
		}
	}
	before := s.listeners
	s.listeners = now
	s.mu.Unlock()
	for _, l := range before {
		if !slices.Contains(now, l) {
			close(l.gone)
			err = errors.Join(err, l.Close())
		}
	}
	return err
}

func (s *Server) stopAccepting() {
	s.mu.Lock()
	before := s.stopped
	if s.stopped = true; !before {
		close(s.stop)
	}
	list := s.listeners
	s.mu.Unlock()
	if before {
		return
	}
	for _, l := range list {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			s.log.Warn("closing a listener", "address", l.name, "error", err)
		}
	}
}
