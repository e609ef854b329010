// Package limit holds the requests of a mount to limits of its own: the size of a body,
// the time to an answer, the time that a client may stand still.
// Before it: route. After it: what is mounted.
// Not here: limits of the whole server (the lanes); the deadline itself (pool).
package limit

import (
	"time"

	"github.com/guado-server/guado/internal/exchange"
)

// Options of one mount.
type Options struct {
	Body int64 // of the request, in bytes; 0: no other than the lane's
	// Timeout takes the place of the application's; 0: it does not, negative: none.
	Timeout time.Duration
	// ReadIdle and WriteIdle take the place of the lane's; 0: they do not.
	ReadIdle, WriteIdle time.Duration
}

// Handler is the step.
type Handler struct {
	next exchange.Handler
	opts Options
}

// New puts the step in front of next.
func New(next exchange.Handler, o Options) *Handler { return &Handler{next, o} }

// Serve refuses a body that says that it is too long with 413, and counts one that does
// not say its length.
func (h *Handler) Serve(x *exchange.Exchange) {
	if most := h.opts.Body; most > 0 && x.Length > most {
		x.Fail(&exchange.Problem{Status: 413, Code: "body_too_large", Err: exchange.ErrBodyTooLarge})
		return
	} else if most > 0 && x.Length < 0 {
		x.Body = &body{Body: x.Body, left: most}
	}
	if h.opts.Timeout != 0 {
		x.Timeout = h.opts.Timeout
	}
	if h.opts.ReadIdle > 0 || h.opts.WriteIdle > 0 {
		if lane, ok := x.Answer.(exchange.Idler); ok {
			lane.SetIdle(h.opts.ReadIdle, h.opts.WriteIdle)
		}
	}
	h.next.Serve(x)
}

// body is a Body that ends with an error behind its limit. Like every Body it is read
// by one goroutine at a time.
type body struct {
	exchange.Body
	left int64
	over bool
}

// Read see [exchange.Body].
func (b *body) Read(p []byte) (int, error) {
	if b.over {
		return 0, exchange.ErrBodyTooLarge
	}
	n, err := b.Body.Read(p)
	if b.left -= int64(n); b.left < 0 {
		b.over = true
		return 0, exchange.ErrBodyTooLarge
	}
	return n, err
}
