package gohandler

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/guado-server/guado/internal/exchange"
)

// body is the request's body as net/http gives it: Read after Close fails, and
// trailers appear in the request at the end.
type body struct {
	x       *exchange.Exchange
	request *http.Request
	mu      sync.Mutex // one Read at a time, as of net/http's body
	closed  atomic.Bool
}

// Read reads from the client; the first Read answers an Expect: 100-continue.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.x.Body.Read(p)
	switch {
	case err == nil:
	case err == io.EOF: //nolint:errorlint // Body gives the sentinel itself
		for _, f := range b.x.Body.Trailers() {
			if b.request.Trailer == nil {
				b.request.Trailer = http.Header{}
			}
			b.request.Trailer.Add(string(f.Name), string(f.Value))
		}
	case errors.Is(err, exchange.ErrInterrupted):
		err = http.ErrBodyReadAfterClose
	case errors.Is(err, exchange.ErrBodyTooLarge):
		// What handlers know from http.MaxBytesReader.
		err = errors.Join(&http.MaxBytesError{}, err)
	}
	return n, err
}

// Close ends reading, also a Read under way in another goroutine (a reverse proxy
// still reads while the answer is complete), and waits for that one.
func (b *body) Close() error {
	b.closed.Store(true)
	if !b.mu.TryLock() {
		b.x.Body.Interrupt()
		b.mu.Lock()
	}
	b.mu.Unlock()
	return nil
}
