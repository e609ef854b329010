package http2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
)

// longAgo is a deadline that has passed: how net/http is told to end an operation now.
var longAgo = time.Unix(1, 0)

// body is the request's body as exchange.Body.
type body struct {
	ctx         context.Context //nolint:containedctx // the stream's own life
	request     *http.Request
	limit       int64
	count       int64
	err         error // the same ever after
	guard       guard
	interrupted atomic.Bool
	trailers    []exchange.Field
}

func (b *body) reset(r *http.Request, limits lane.Limits, control *http.ResponseController) {
	b.ctx, b.request, b.limit = r.Context(), r, limits.BodyBytes
	b.count, b.err, b.trailers = 0, nil, b.trailers[:0]
	b.interrupted.Store(false)
	b.guard.reset(limits.ReadIdle, func() {
		// Reading ends with os.ErrDeadlineExceeded; answering goes on.
		_ = control.SetReadDeadline(longAgo)
	})
}

func (b *body) release() { b.ctx, b.request, b.guard.fire = nil, nil, nil }

// Read reads; the first one sends 100 Continue when the client waits for it.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	b.guard.start()
	n, err := b.request.Body.Read(p)
	inTime := b.guard.stop()
	b.count += int64(n)
	switch {
	case b.interrupted.Load():
		n, b.err = 0, exchange.ErrInterrupted
	case b.limit > 0 && b.count > b.limit:
		n, b.err = 0, exchange.ErrBodyTooLarge
	case err == nil:
	case err == io.EOF: //nolint:errorlint // the sentinel itself, as of io.Reader
		b.err = io.EOF
		b.readTrailers()
	case !inTime || errors.Is(err, os.ErrDeadlineExceeded):
		b.err = exchange.ErrSlowClient
	case b.ctx.Err() != nil:
		b.err = fmt.Errorf("%w: %w", exchange.ErrClientGone, err)
	default:
		b.err = fmt.Errorf("%w: %w", exchange.ErrMalformedBody, err)
	}
	return n, b.err
}

func (b *body) readTrailers() {
	for name, values := range b.request.Trailer {
		for _, v := range values {
			b.trailers = append(b.trailers, exchange.Field{Name: []byte(name), Value: []byte(v)})
		}
	}
}

// Trailers are those that the request announced in Trailer; net/http drops others.
func (b *body) Trailers() []exchange.Field { return b.trailers }

// Interrupt ends a Read under way.
func (b *body) Interrupt() {
	b.interrupted.Store(true)
	_ = b.request.Body.Close() // of net/http's body: it has no error to give
}
