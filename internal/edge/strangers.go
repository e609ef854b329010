package edge

import (
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/guado-server/guado/internal/exchange"
)

// strangers tells the operator of a proxy that was forgotten in trusted_proxies. It ends
// TLS and says so in X-Forwarded-Proto, which is dropped: applications then make http
// links, refuse forms, and redirect to https forever. Everybody can send the field, so
// it is said once in a while only.
type strangers struct {
	log  *slog.Logger
	next atomic.Int64 // Unix ns before which nothing is said
}

const saidEvery = 10 * time.Minute

// due reports whether it is time to say something again.
func (s *strangers) due(now time.Time) bool {
	next := s.next.Load()
	return now.UnixNano() >= next && s.next.CompareAndSwap(next, now.UnixNano()+int64(saidEvery))
}

// turnAway tells of a connection that was closed because of the PROXY protocol: of a
// proxy that is not listed, or that does not speak it, all are, and its clients cannot
// tell why.
func (s *strangers) turnAway(peer net.Addr, why error) {
	if s.due(time.Now()) {
		s.log.Warn("a connection was closed; is its peer in server.trusted_proxies, and does it send the PROXY protocol?",
			"peer", peer.String(), "error", why.Error())
	}
}

// claim notes that the peer of x, who is no trusted proxy, has said which scheme its
// client used.
func (s *strangers) claim(x *exchange.Exchange, proto []byte) {
	if exchange.EqualFold(proto, x.Scheme) {
		return // true anyway
	}
	if !s.due(x.Received) {
		return
	}
	peer := "unix"
	if x.Peer.IsValid() {
		peer = x.Peer.String()
	}
	s.log.Warn("X-Forwarded-Proto of a peer that is no trusted proxy was dropped; if it is yours, add it to server.trusted_proxies",
		"peer", peer, "value", string(proto), "request_id", x.ID)
}
