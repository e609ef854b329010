package compress

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/guado-server/guado/internal/exchange"
)

// answer is an Answer whose body is compressed when it pays. The head of an answer of
// unknown length is kept until MinSize bytes or a Flush: a small one stays as it is.
type answer struct {
	exchange.Around
	x *exchange.Exchange
	c *compressor

	held     *exchange.Head // waits for the decision
	fields   []exchange.Field
	buffered []byte
	coding   *coding
	encoder  encoder
	aborted  bool
}

var errTwoHeads = errors.New("a second head in one answer")

var answers = sync.Pool{New: func() any { return &answer{} }}

func (a *answer) release() {
	if a.encoder != nil {
		a.coding.put(a.encoder)
	}
	*a = answer{fields: a.fields[:0], buffered: a.buffered[:0]}
	answers.Put(a)
}

// Problem takes the place of a head that was kept.
func (a *answer) Problem(x *exchange.Exchange, p *exchange.Problem) {
	a.held = nil
	a.Answer.Problem(x, p)
}

// Head decides what the head alone can tell.
func (a *answer) Head(h exchange.Head) error {
	if a.held != nil {
		return errTwoHeads
	}
	if a.Begun() || !compressible(a.x, &h) {
		return a.Answer.Head(h)
	}
	// Whether it is compressed or not, a cache must know that it depends.
	a.fields = appendVary(append(a.fields[:0], h.Fields...))
	h.Fields = a.fields
	if a.coding = choose(a.x, a.c.offered); a.coding == nil || h.Length >= 0 && h.Length < int64(a.c.minSize) {
		return a.Answer.Head(h)
	}
	if a.x.Method == "HEAD" {
		// As GET would be answered, but for its length, which is not known.
		h.Fields, h.Length = encodedFields(h.Fields, a.coding.name), -1
		return a.Answer.Head(h)
	}
	if h.Length >= 0 {
		return a.encode(h)
	}
	// The fields belong to the step until it calls again.
	for i, f := range a.fields {
		a.fields[i] = exchange.Field{Name: bytes.Clone(f.Name), Value: bytes.Clone(f.Value)}
	}
	a.held = &h
	return nil
}

// encode sends the head of a compressed answer.
func (a *answer) encode(h exchange.Head) error {
	a.held = nil
	h.Fields, h.Length = encodedFields(h.Fields, a.coding.name), -1
	if err := a.Answer.Head(h); err != nil {
		return err
	}
	a.encoder = a.coding.get(a.Answer)
	return nil
}

// Write compresses p, or keeps it while the answer may turn out to be small.
func (a *answer) Write(p []byte) (int, error) {
	if a.held != nil {
		if len(a.buffered)+len(p) < a.c.minSize {
			a.buffered = append(a.buffered, p...)
			return len(p), nil
		}
		if err := a.start(); err != nil {
			return 0, err
		}
	}
	if a.encoder == nil {
		return a.Answer.Write(p)
	}
	return a.encoder.Write(p)
}

// start begins to compress a held answer.
func (a *answer) start() error {
	if err := a.encode(*a.held); err != nil {
		return err
	}
	_, err := a.encoder.Write(a.buffered)
	a.buffered = a.buffered[:0]
	return err
}

const fileChunk = 32 << 10

// File reads the file itself when its bytes must be compressed.
func (a *answer) File(f exchange.File, offset, count int64) error {
	if a.held == nil && a.encoder == nil {
		return a.Answer.File(f, offset, count)
	}
	buf := make([]byte, min(count, fileChunk))
	for count > 0 {
		n, err := f.ReadAt(buf[:min(int64(len(buf)), count)], offset)
		if n == 0 && err != nil {
			return fmt.Errorf("reading the file of an answer at %d: %w", offset, err)
		}
		offset, count = offset+int64(n), count-int64(n)
		if _, err := a.Write(buf[:n]); err != nil {
			return err
		}
	}
	return nil
}

// Flush sends all that was written: the client can decode it at once.
func (a *answer) Flush() error {
	if a.held != nil {
		if err := a.start(); err != nil {
			return err
		}
	}
	if a.encoder != nil {
		if err := a.encoder.Flush(); err != nil {
			return err
		}
	}
	return a.Answer.Flush()
}

// Trailers end the body.
func (a *answer) Trailers(fields []exchange.Field) error {
	if err := a.finish(); err != nil {
		return err
	}
	return a.Answer.Trailers(fields)
}

// Abort leaves the compressed body without its end.
func (a *answer) Abort(err error) {
	a.aborted = true
	a.Answer.Abort(err)
}

// end is called when the step has returned.
func (a *answer) end() {
	if a.aborted {
		return
	}
	if err := a.finish(); err != nil {
		a.Answer.Abort(err)
	}
}

func (a *answer) finish() error {
	if a.held != nil {
		// Small and complete: as it is, with a length.
		h := *a.held
		a.held = nil
		h.Length = int64(len(a.buffered))
		if err := a.Answer.Head(h); err != nil {
			return err
		}
		_, err := a.Answer.Write(a.buffered)
		return err
	}
	if a.encoder == nil {
		return nil
	}
	err := a.encoder.Close()
	a.coding.put(a.encoder)
	a.encoder = nil
	return err
}
