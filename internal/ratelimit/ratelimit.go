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
	epoch  time.Time
	token  time.Duration // until one comes back
	burst  time.Duration // until all of them do
	size   int

	last atomic.Pointer[client] // who was here last is as a rule the next; changed under mu

	mu      sync.Mutex // guards the rest
	clients map[netip.Addr]*list.Element
	recent  list.List // of *client, the last seen in front
}

// client has a bucket of tokens. What is in it follows from when it will be full again
// (the generic cell rate algorithm, ITU-T I.371): one number, which needs no lock.
type client struct {
	home netip.Addr
	full atomic.Int64 // a time.Duration since the handler's epoch
}

// New puts the step in front of next.
func New(next exchange.Handler, o Options) *Handler {
	if o.Burst == 0 {
		o.Burst = o.Requests
	}
	token := max(o.Period/time.Duration(o.Requests), 1)
	return &Handler{
		next: next, exempt: o.Exempt, epoch: time.Now(), token: token, burst: token * time.Duration(o.Burst),
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
	at := now.Sub(h.epoch)
	for {
		was := c.full.Load()
		full := max(time.Duration(was), at) + h.token
		if wait := full - at - h.burst; wait > 0 {
			return wait
		}
		if c.full.CompareAndSwap(was, int64(full)) {
			return 0
		}
	}
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
		made := &client{home: home}
		made.full.Store(math.MinInt64)
		e = h.recent.PushFront(made)
		h.clients[home] = e
	}
	c := e.Value.(*client)
	h.last.Store(c)
	return c
}
