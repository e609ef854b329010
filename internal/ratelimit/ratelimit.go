// Package ratelimit bounds how many requests a client makes in a time, by its address.
// Before it: edge or route. After it: route or what is mounted.
// Not here: limits of connections (edge); who the client behind a trusted proxy is (edge).
package ratelimit

import (
	"container/list"
	"math"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/guado-server/guado/internal/address"
	"github.com/guado-server/guado/internal/exchange"
)

// tableSize bounds the clients that are remembered; the one that was seen least recently
// is forgotten first. Each takes some 200 bytes.
const tableSize = 1 << 15

// Options of one limit.
type Options struct {
	Requests int // in each Period
	Period   time.Duration
	Burst    int         // at once; 0: Requests
	Exempt   address.Set // not limited, and neither is who came over a Unix socket without a name
}

// Handler is the step.
type Handler struct {
	next   exchange.Handler
	exempt address.Set
	rate   rate.Limit
	burst  int
	size   int

	mu      sync.Mutex // guards the rest
	clients map[netip.Addr]*list.Element
	recent  list.List // of *client, the last seen in front
}

type client struct {
	home   netip.Addr
	bucket *rate.Limiter
}

// New puts the step in front of next.
func New(next exchange.Handler, o Options) *Handler {
	if o.Burst == 0 {
		o.Burst = o.Requests
	}
	return &Handler{
		next: next, exempt: o.Exempt, rate: rate.Limit(float64(o.Requests) / o.Period.Seconds()), burst: o.Burst,
		size: tableSize, clients: map[netip.Addr]*list.Element{},
	}
}

// Serve lets x pass, or refuses it with 429 and code rate_limited.
func (h *Handler) Serve(x *exchange.Exchange) {
	from, ok := address.Client(x)
	if ok && !h.exempt.Has(x) {
		if wait := h.take(address.Home(from), x.Received); wait > 0 {
			x.Fail(&exchange.Problem{Status: 429, Code: "rate_limited", RetryAfter: int(math.Ceil(wait.Seconds()))})
			return
		}
	}
	h.next.Serve(x)
}

// take counts one request of a client; how long it must wait first, when it may not yet.
// A refused request takes nothing, so that who keeps asking is let in again all the same.
func (h *Handler) take(home netip.Addr, now time.Time) time.Duration {
	h.mu.Lock()
	bucket := h.bucket(home)
	allowed := bucket.AllowN(now, 1)
	h.mu.Unlock()
	if allowed {
		return 0
	}
	ticket := bucket.ReserveN(now, 1)
	wait := ticket.DelayFrom(now)
	if wait > 0 {
		ticket.CancelAt(now)
	}
	return wait
}

// bucket finds or makes the client's bucket. Called with mu held.
func (h *Handler) bucket(home netip.Addr) *rate.Limiter {
	if e := h.recent.Front(); e != nil && e.Value.(*client).home == home {
		return e.Value.(*client).bucket // who was last here is as a rule the next
	}
	if e := h.clients[home]; e != nil {
		h.recent.MoveToFront(e)
		return e.Value.(*client).bucket
	}
	if len(h.clients) >= h.size {
		oldest := h.recent.Back()
		delete(h.clients, oldest.Value.(*client).home)
		h.recent.Remove(oldest)
	}
	c := &client{home, rate.NewLimiter(h.rate, h.burst)}
	h.clients[home] = h.recent.PushFront(c)
	return c.bucket
}
