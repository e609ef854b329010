package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
)

const (
	pauseMin = 5 * time.Millisecond
	pauseMax = time.Second
)

// accept runs until the listener is closed. Errors that pass (no descriptors left)
// are waited out.
func (s *Server) accept(l *listener) error {
	pause := pauseMin
	for {
		c, err := l.Accept()
		if err == nil {
			pause = pauseMin
			// Over the cap this one waits here, and the kernel's queue behind it.
			if !s.caps.acquire(s.stop) {
				_ = c.Close() // the server stops: nobody will serve it
				return nil
			}
			s.workers.Add()
			go func() {
				defer s.workers.Done()
				s.serve(c, l)
			}()
			continue
		}
		select {
		case <-s.stop:
			return nil
		case <-l.gone:
			return nil
		default:
		}
		if !passes(err) {
			return fmt.Errorf("accept on %s: %w", l.name, err)
		}
		s.log.Warn("cannot accept a connection; trying again", "address", l.name, "error", err, "pause", pause)
		select {
		case <-s.stop:
			return nil
		case <-l.gone:
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, pauseMax)
	}
}

// passes tells the errors of accept that speak of the moment, or of a connection that
// has gone already, from those of the listener.
func passes(err error) bool {
	for _, e := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EPERM,
		syscall.EPROTO, syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EINTR,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// serve brings a connection to its lane. It runs until the connection has ended, or
// until net/http has it.
func (s *Server) serve(raw net.Conn, l *listener) {
	place := &place{caps: s.caps}
	if !s.enter(raw) {
		_ = raw.Close() // the server stops
		place.leave()
		return
	}
	defer s.leave(raw)
	c, info, h2, err := s.open(raw, l, place)
	if err == nil && !s.inLane(raw) {
		err = errStopping
	}
	switch {
	case err != nil:
		if !errors.Is(err, errOverCap) {
			s.log.Debug("connection refused", "address", l.name, "peer", raw.RemoteAddr(), "error", err)
		}
		_ = raw.Close() // refused: there is nobody to tell
		place.leave()
	case h2:
		s.now.Load().lanes.h2.Take(c, info, place.leave)
	default:
		s.now.Load().lanes.h1.ServeConn(c, info)
		place.leave()
	}
}

var errStopping = errors.New("the server stops")

// enter, inLane and leave keep the list of what Drain and Close cut. The first two are
// false when it is too late to begin.
func (s *Server) enter(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		return false
	}
	s.conns[c] = false
	return true
}

func (s *Server) inLane(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		return false
	}
	s.conns[c] = true
	return true
}

func (s *Server) leave(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// open ends what comes before HTTP: PROXY protocol, caps, TLS, the choice of a lane.
// Nothing is read ahead, so that the lanes get the very socket that was accepted.
func (s *Server) open(raw net.Conn, l *listener, p *place) (c net.Conn, info *lane.Conn, h2 bool, err error) {
	info = &lane.Conn{Unix: l.unix}
	describe(info, raw, l)
	named := true
	now := s.now.Load()
	if now.options.ProxyProtocol {
		if named, err = s.readProxyHeader(raw, info); err != nil {
			now.prepare.unproxied.turnAway(raw.RemoteAddr(), err)
			return nil, nil, false, err
		}
	}
	info.Trusted = named && now.prepare.trusts(info)
	if !info.Trusted && info.Peer.IsValid() && !p.enterAddr(info.Peer.Addr()) {
		return nil, nil, false, errOverCap
	}
	switch {
	case l.secure && now.certs != nil:
		return s.handshake(raw, info, now.certs)
	case now.options.H2C:
		h2, err := s.sniff(raw)
		return raw, info, h2, err
	}
	return raw, info, false, nil
}

func describe(info *lane.Conn, c net.Conn, l *listener) {
	if l.unix {
		info.LocalName = l.Addr().String()
		return
	}
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		info.Peer = unmap(a.AddrPort())
	}
	if a, ok := c.LocalAddr().(*net.TCPAddr); ok {
		local := unmap(a.AddrPort())
		info.LocalName, info.LocalPort = local.Addr().String(), local.Port()
	}
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func (s *Server) handshake(raw net.Conn, info *lane.Conn, certs *certificates) (net.Conn, *lane.Conn, bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), certs.timeout)
	defer cancel()
	if speaksPlain(raw, certs.timeout) {
		// The lane answers, as it can tell the client in HTTP what is wrong.
		info.NoTLS = true
		return raw, info, false, nil
	}
	c := tls.Server(raw, certs.config)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, nil, false, fmt.Errorf("TLS handshake: %w", err)
	}
	state := c.ConnectionState()
	info.TLS = &exchange.TLS{Version: state.Version, CipherSuite: state.CipherSuite}
	return c, info, state.NegotiatedProtocol == protoH2, nil
}

// speaksPlain looks whether the client of a TLS listener begins with the letter of an
// HTTP method. Whatever else comes, and whatever goes wrong, is for the handshake.
func speaksPlain(c net.Conn, patience time.Duration) (plain bool) {
	err := peek(c, 1, patience, func(b []byte) bool {
		plain = b[0] >= 'A' && b[0] <= 'Z'
		return true
	})
	return err == nil && plain
}

// preface begins every HTTP/2 connection.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// sniff looks until the bytes are the HTTP/2 preface or cannot become it.
func (s *Server) sniff(c net.Conn) (h2 bool, err error) {
	err = peek(c, len(preface), s.now.Load().options.Limits.KeepAlive, func(b []byte) bool {
		h2 = string(b) == preface
		return string(b) != preface[:len(b)] || h2
	})
	if err != nil {
		return false, fmt.Errorf("reading the first bytes: %w", err)
	}
	return h2, nil
}
