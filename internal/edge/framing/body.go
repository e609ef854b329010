// Package framing holds the rules by which an answer is put on the wire, the same
// for both lanes: which answers have a body, how its length is enforced, which
// fields the lane writes itself, what a field may contain.
// Before it: the step that answers. After it: a lane (http1, http2).
// Not here: the bytes of either protocol.
package framing

import (
	"errors"
	"fmt"

	"github.com/guado-server/guado/internal/exchange"
)

// ErrShort: the answer ended before the length it declared. The connection must be
// cut, or the client waits for the rest.
var ErrShort = errors.New("answer is shorter than its declared length")

// HasBody reports whether an answer with this status to this method carries a
// body: not on HEAD, 1xx, 204, 205 and 304 (RFC 9110, sections 6.4.1 and 15.3.6).
func HasBody(method string, status int) bool {
	return method != "HEAD" && status >= 200 && status != 204 && status != 205 && status != 304
}

// Body counts the body of one answer against what its head declared.
type Body struct {
	declared int64 // -1: unknown
	sent     int64
	cut      int64
	field    bool // Content-Length goes into the head
	carries  bool
}

// Begin opens the account of an answer. length is Head.Length.
func Begin(method string, status int, length int64) Body {
	b := Body{declared: length, carries: HasBody(method, status)}
	switch {
	case status < 200 || status == 204:
		// RFC 9110, 8.6: never a Content-Length.
	case status == 205:
		b.declared, b.field = 0, true
	case status == 304 || method == "HEAD":
		// What a GET would have had. A step that saw a 304 has no body to count, so
		// its zero says nothing, and "0" would tell a cache that the page is empty.
		b.field = length > 0 || length == 0 && status != 304
	default:
		b.field = length >= 0
	}
	return b
}

// Carries reports whether body bytes may follow the head.
func (b *Body) Carries() bool { return b.carries }

// Length is the value of the answer's Content-Length field; ok is false when it
// has none.
func (b *Body) Length() (n int64, ok bool) { return b.declared, b.field }

// Streams reports whether the answer has a body of unknown length.
func (b *Body) Streams() bool { return b.carries && b.declared < 0 }

// Take says how many of the next n bytes may leave; the rest is beyond the declared
// length (or belongs to an answer without a body) and must be dropped.
func (b *Body) Take(n int64) int64 {
	if !b.carries {
		return 0
	}
	if b.declared >= 0 && n > b.declared-b.sent {
		b.cut += n - (b.declared - b.sent)
		n = b.declared - b.sent
	}
	b.sent += n
	return n
}

// Sent is the number of body bytes taken so far.
func (b *Body) Sent() int64 { return b.sent }

// Cut is how many bytes were written beyond the declared length.
func (b *Body) Cut() int64 { return b.cut }

// Finish gives [ErrShort] when the answer owes bytes that its length promised.
func (b *Body) Finish() error {
	if b.carries && b.declared > b.sent {
		return fmt.Errorf("%w: %d of %d bytes", ErrShort, b.sent, b.declared)
	}
	return nil
}

// CheckHead gives an error when h cannot be put on the wire as it is: a status that
// is not final, a name or value that would break out of its line. Nothing of h has
// left then, so the step can still answer with a Problem.
func CheckHead(h *exchange.Head) error {
	if h.Status < 200 || h.Status > 999 {
		return fmt.Errorf("status %d is not that of a final answer", h.Status)
	}
	if h.Length < -1 {
		return fmt.Errorf("length %d of an answer is negative", h.Length)
	}
	for i := 0; i < len(h.Reason); i++ {
		if c := h.Reason[i]; c < ' ' && c != '\t' || c == 0x7f {
			return fmt.Errorf("reason phrase %q has a control character", h.Reason)
		}
	}
	return CheckFields(h.Fields)
}

// CheckFields is CheckHead for informational answers and trailers.
func CheckFields(fields []exchange.Field) error {
	for i := range fields {
		if f := &fields[i]; !ValidName(f.Name) {
			return fmt.Errorf("field name %q is not a token", f.Name)
		} else if !ValidValue(f.Value) {
			return fmt.Errorf("value %q of field %s has a control character", f.Value, f.Name)
		}
	}
	return nil
}
