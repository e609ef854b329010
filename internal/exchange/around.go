package exchange

import (
	"errors"
	"net"
	"time"
)

// Around is an Answer in front of another one: a step that changes answers embeds it
// and overrides what it changes. What only some lanes offer passes through, and is
// errors.ErrUnsupported where the lane has none.
type Around struct{ Answer }

// Hijack see [Hijacker].
func (a Around) Hijack() (net.Conn, []byte, error) {
	if h, ok := a.Answer.(Hijacker); ok {
		return h.Hijack()
	}
	return nil, nil, errors.ErrUnsupported
}

// SetReadDeadline see [Deadliner].
func (a Around) SetReadDeadline(t time.Time) error {
	if d, ok := a.Answer.(Deadliner); ok {
		return d.SetReadDeadline(t)
	}
	return errors.ErrUnsupported
}

// SetWriteDeadline see [Deadliner].
func (a Around) SetWriteDeadline(t time.Time) error {
	if d, ok := a.Answer.(Deadliner); ok {
		return d.SetWriteDeadline(t)
	}
	return errors.ErrUnsupported
}

// SetIdle see [Idler].
func (a Around) SetIdle(read, write time.Duration) {
	if i, ok := a.Answer.(Idler); ok {
		i.SetIdle(read, write)
	}
}
