// Package ratelimit bounds how many requests a client makes in a time, by its address.
// Before it: edge or route. After it: route or what is mounted.
// Not here: limits of connections (edge); who the client behind a trusted proxy is (edge).
package ratelimit

import (
	"container/list"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
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

	last atomic.Pointer[client] // who was here last is as a rule the next; changed under mu

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
	c := h.last.Load()
	if c == nil || c.home != home {
		c = h.find(home)
	}
	bucket := c.bucket
	if bucket.AllowN(now, 1) {
		return 0
	}
	ticket := bucket.ReserveN(now, 1)
	wait := ticket.DelayFrom(now)
	if wait > 0 {
		ticket.CancelAt(now)
	}
	return wait
}

// find finds or makes what is known of a client. One that is forgotten while a request of
// it is here is counted a last time.
func (h *Handler) find(home netip.Addr) *client {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.clients[home]
	if e != nil {
		h.recent.MoveToFront(e)
	} else {
		if len(h.clients) >= h.size {
			oldest := h.recent.Back()
			delete(h.clients, oldest.Value.(*client).home)
			h.recent.Remove(oldest)
		}
		e = h.recent.PushFront(&client{home, rate.NewLimiter(h.rate, h.burst)})
		h.clients[home] = e
	}
	c := e.Value.(*client)
	h.last.Store(c)
	return c
}
