package http2

import (
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/guado-server/guado/internal/edge/lane"
)

// conn is what the lane keeps of a connection.
type conn struct {
	*lane.Conn
	raw    net.Conn
	log    *slog.Logger
	resets *bucket
}

// streamCut counts a stream that ended before its answer did, whoever reset it: a
// client that opens and cancels streams makes the road work for nothing. Streams are
// cheap to cancel for a browser too, so the count is a rate and not a sum.
func (c *conn) streamCut() {
	if c.resets.take() {
		return
	}
	c.log.Warn("HTTP/2 connection closed: too many cancelled streams", "peer", c.Peer.String())
	_ = c.raw.Close() // its streams see it
}

// bucket lets n events pass at once and n per period.
type bucket struct {
	mu   sync.Mutex // guards the rest
	left float64
	size float64
	per  time.Duration
	last time.Time
}

func newBucket(n int, per time.Duration) *bucket {
	return &bucket{left: float64(n), size: float64(n), per: per, last: time.Now()}
}

func (b *bucket) take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.left = min(b.size, b.left+b.size*float64(now.Sub(b.last))/float64(b.per))
	b.last = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}
