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

// Switcher is implemented by the Answer of a step that changes heads. What makes another
// protocol of the connection writes its 101 itself, past all steps, and asks for what they
// would have made of it.
type Switcher interface {
	Switch(h Head) Head
}

// Switch see [Switcher].
func (a Around) Switch(h Head) Head {
	if s, ok := a.Answer.(Switcher); ok {
		return s.Switch(h)
	}
	return h
}

// Switched gives the fields with which a 101 leaves. Those of the handshake are not
// among them, for no step may change these.
func Switched(a Answer, fields []Field) []Field {
	return Around{a}.Switch(Head{Status: 101, Fields: fields}).Fields
}
