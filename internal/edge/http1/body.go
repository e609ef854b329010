package http1

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guado-server/guado/internal/exchange"
)

// bodyBuffer is the size of the input buffer while a chunked body is read, and of
// connections whose requests come with bodies.
const bodyBuffer = 16 << 10

// body reads the body of one request, and never gives one that was cut as complete.
type body struct {
	interrupted atomic.Bool
	waiting     atomic.Bool // the client waits for 100 Continue before it sends

	mu      sync.Mutex // guards the rest: a Read may run in another goroutine than the answer
	c       *conn
	x       *exchange.Exchange
	left    int64 // bytes to come: of the body, or of the running chunk
	total   int64 // bytes given out
	limit   int64 // of total; 0 none
	chunked bool
	chunk   chunkState
	extra   int // bytes of chunk extensions so far
	err     error
	section []byte // trailer lines
	ends    []int  // where each line ends in section
	fields  []exchange.Field
	drain   bool // the lane reads by itself: no 100, no phase of its own
	scratch [smallFile]byte
}

func (b *body) begin(c *conn, x *exchange.Exchange, h *head) {
	b.c, b.x, b.limit = c, x, c.server.limits.BodyBytes
	b.chunked, b.left = h.chunked, max(x.Length, 0)
	if b.waiting.Store(x.Expect); !h.chunked && b.left == 0 {
		b.err = io.EOF
	}
}

func (b *body) reset() {
	b.interrupted.Store(false)
	b.waiting.Store(false)
	b.c, b.x, b.left, b.total, b.chunked, b.chunk, b.extra = nil, nil, 0, 0, false, chunkSize, 0
	b.err, b.section, b.ends, b.fields, b.drain = nil, nil, nil, nil, false
}

// Read reads body bytes; see [exchange.Body].
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.interrupted.Load() {
		return 0, exchange.ErrInterrupted
	}
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	if b.waiting.Load() && len(b.c.w.in.buffered()) == 0 {
		// The flag falls in Informational, with the 100.
		if err := b.c.w.answer.Informational(100, nil); err != nil {
			return 0, b.fail(err)
		}
	}
	return b.read(p)
}

// read is Read for whoever holds mu.
func (b *body) read(p []byte) (n int, err error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.chunked {
		n, err = b.readChunked(p)
	} else {
		n, err = b.readData(p)
		if b.left == 0 && err == nil {
			b.err = io.EOF // the next call's; this one has bytes
		}
	}
	b.total += int64(n)
	if err == nil && b.limit > 0 && b.total > b.limit {
		err = exchange.ErrBodyTooLarge
	}
	if err != nil {
		return 0, b.fail(err)
	}
	return n, nil
}

// fail makes err the answer to all later reads, except for an interruption, which
// is the caller's and not the body's.
func (b *body) fail(err error) error {
	if !errors.Is(err, exchange.ErrInterrupted) {
		b.err = err
	}
	return err
}

// readData reads up to left bytes of content.
func (b *body) readData(p []byte) (int, error) {
	p = p[:min(int64(len(p)), b.left)]
	in := &b.c.w.in
	for {
		if buffered := in.buffered(); len(buffered) > 0 {
			n := copy(p, buffered)
			in.take(n)
			b.left -= int64(n)
			return n, nil
		}
		n, err := b.receive(p)
		if n > 0 || err != nil {
			b.left -= int64(n)
			return n, err
		}
	}
}

// fill reads more into the input buffer.
func (b *body) fill() error {
	n, err := b.receive(nil)
	b.c.w.in.w += n
	return err
}

// receive waits for bytes from the client, into p or (nil) behind those buffered.
// It may return nothing without an error after a watch had a byte: look into the
// buffer again.
func (b *body) receive(p []byte) (int, error) {
	c := b.c
	if by := c.readBy.Load(); by != 0 && time.Now().UnixNano() >= by {
		return 0, errReadDeadline
	}
	if !b.drain {
		if old := c.rd.enter(readBody, c.tick()); old.watched() {
			had := len(c.w.in.buffered())
			c.endWatch()
			if len(c.w.in.buffered()) > had {
				c.rd.enter(readBusy, c.tick())
				return 0, nil
			}
		}
		// After the phase was entered: Interrupt either sees it or is seen here.
		if b.interrupted.Load() {
			c.rd.enter(readBusy, c.tick())
			return 0, exchange.ErrInterrupted
		}
	}
	if p == nil {
		p = c.w.in.space(bodyBuffer)
	}
	n, err := c.nc.Read(p)
	if b.drain {
		if n > 0 {
			err = nil
		}
		return n, err
	}
	old := c.rd.enter(readBusy, c.tick())
	return n, b.explain(n, err, old)
}

var errReadDeadline = fmt.Errorf("%w: %w", exchange.ErrSlowClient, os.ErrDeadlineExceeded)

// explain turns what a read of the socket gave into an error of [exchange.Body].
func (b *body) explain(n int, err error, old word) error {
	switch {
	case old.expired():
		if by := b.c.readBy.Load(); by != 0 && time.Now().UnixNano() >= by {
			return errReadDeadline
		}
		return exchange.ErrSlowClient
	case n > 0 || err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		if b.interrupted.Load() {
			return exchange.ErrInterrupted
		}
		return exchange.ErrSlowClient
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		// The client may still read: it is told of its cut request, if somebody wants to.
		b.x.SetGone(exchange.HalfClosed)
		return fmt.Errorf("%w inside its request body", exchange.ErrClientGone)
	}
	b.x.SetGone(exchange.Closed)
	return fmt.Errorf("%w: %w", exchange.ErrClientGone, err)
}

// Trailers gives the trailer fields, complete after io.EOF.
func (b *body) Trailers() []exchange.Field {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fields
}

// Interrupt ends a Read under way and all later ones.
func (b *body) Interrupt() {
	b.interrupted.Store(true)
	if c := b.c; c.rd.load().phase() == readBody {
		c.poke()
	}
}

// settle waits for a Read that an Interrupt has ended and takes the reading side
// over for the lane. It gives the bytes that were read.
func (b *body) settle() int64 {
	if !b.mu.TryLock() {
		b.Interrupt() // the step forgot to
		b.mu.Lock()
	}
	defer b.mu.Unlock()
	return b.total
}

// rest says how the connection stands: whether the whole body was read, and if
// not, whether discarding what is left is worth keeping the connection for.
func (b *body) rest() (complete, worth bool) {
	if !b.mu.TryLock() {
		return false, true // being read right now; the end of the exchange decides
	}
	defer b.mu.Unlock()
	if b.err != nil {
		return errors.Is(b.err, io.EOF), false
	}
	return false, !b.waiting.Load() && (b.chunked || b.left <= drainBytes)
}

// drainBytes and drainTime bound what is read and thrown away after an answer.
const (
	drainBytes = 256 << 10
	drainTime  = 5 * time.Second
)

// discard reads what is left of the body; false when it is too much, too slow or
// malformed. Called after settle, in phase readDrain.
func (b *body) discard() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drain, b.limit = true, 0
	for read := 0; read <= drainBytes; {
		n, err := b.read(b.scratch[:])
		if err != nil {
			return errors.Is(err, io.EOF)
		}
		read += n
	}
	return false
}
