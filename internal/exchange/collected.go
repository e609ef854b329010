package exchange

import (
	"errors"
	"fmt"
	"io"
)

// Collected is an Answer that keeps what it is given: that of an exchange which the host
// makes itself, and behind which there is no connection. It is read after Handler.Serve.
type Collected struct {
	Limit int64 // of Body; over it the answer fails with [ErrAnswerTooLarge]

	Status  int // 0: there was no answer
	Fields  []Field
	Body    []byte
	Refused *Problem // why the host answered itself
	Err     error    // why the answer is not complete
}

// ErrAnswerTooLarge is why a [Collected] took no more.
var ErrAnswerTooLarge = errors.New("the answer is larger than what can be carried")

// Informational drops what nobody waits for.
func (c *Collected) Informational(int, []Field) error { return nil }

// Head begins the answer. The fields are its own from here on.
func (c *Collected) Head(h Head) error {
	c.Status = h.Status
	c.Fields = make([]Field, len(h.Fields))
	for i, f := range h.Fields {
		both := append(append(make([]byte, 0, len(f.Name)+len(f.Value)), f.Name...), f.Value...)
		c.Fields[i] = Field{Name: both[:len(f.Name):len(f.Name)], Value: both[len(f.Name):]}
	}
	if h.Length > c.Limit {
		return c.fail()
	}
	if h.Length > 0 {
		c.Body = make([]byte, 0, h.Length)
	}
	return nil
}

// fail tells the step to give up, as if its client had left.
func (c *Collected) fail() error {
	c.Err = fmt.Errorf("%w: over %d bytes", ErrAnswerTooLarge, c.Limit)
	return fmt.Errorf("%w: %w", ErrClientGone, c.Err)
}

func (c *Collected) Write(p []byte) (int, error) {
	if c.Err != nil {
		return 0, fmt.Errorf("%w: %w", ErrClientGone, c.Err)
	}
	if int64(len(c.Body)+len(p)) > c.Limit {
		return 0, c.fail()
	}
	c.Body = append(c.Body, p...)
	return len(p), nil
}

// File reads a part of a file.
func (c *Collected) File(f File, offset, count int64) error {
	if int64(len(c.Body))+count > c.Limit {
		return c.fail()
	}
	part, err := io.ReadAll(io.NewSectionReader(f, offset, count))
	if err != nil {
		c.Err = fmt.Errorf("read the file of the answer: %w", err)
		return c.Err
	}
	c.Body = append(c.Body, part...)
	return nil
}

// Trailers drops them.
func (c *Collected) Trailers([]Field) error { return nil }

// Flush has nothing to do.
func (c *Collected) Flush() error { return nil }

// Abort ends an answer that is not complete.
func (c *Collected) Abort(err error) {
	if c.Err == nil {
		c.Err = err
	}
}

// Problem is the host's own answer.
func (c *Collected) Problem(_ *Exchange, p *Problem) { c.Refused = p }

// Begun reports whether a head came.
func (c *Collected) Begun() bool { return c.Status != 0 }

// Field gives the value of the answer's first field with this name; nil when there is
// none.
func (c *Collected) Field(name string) []byte {
	for i := range c.Fields {
		if c.Fields[i].Is(name) {
			return c.Fields[i].Value
		}
	}
	return nil
}

// Outcome is how the exchange ended, for its meter.
func (c *Collected) Outcome() Outcome {
	o := Outcome{Status: c.Status, BytesOut: int64(len(c.Body)), Err: c.Err}
	if c.Refused != nil {
		o.Status = c.Refused.Status
	}
	return o
}

// BodyOf is a body that has come already.
func BodyOf(p []byte) Body { return &held{rest: p} }

type held struct{ rest []byte }

func (b *held) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (*held) Trailers() []Field { return nil }
func (*held) Interrupt()        {}
