package link

import (
	"encoding/binary"
	"sync"
)

// Callee answers the calls of a worker. Its methods run on the link's reader and must
// not wait.
type Callee interface {
	Call(id uint32, c Call)
	Cancel(id uint32)
	End() // of the link: nobody waits for an answer any more
}

// Call is what a worker asks of the host.
type Call struct {
	What      uint16
	Name      string
	TimeoutMS uint32
	Data      []byte
	TooLarge  bool // Data was dropped
}

// What a worker may call.
const (
	CallExecute = 1 // runs something on an executor
	CallHost    = 2 // asks the host itself
)

// maxCall bounds a CALL after reassembly.
const maxCall = 64 << 20

const callHead = 8

// calls reassembles CALL.
type calls struct {
	mu     sync.Mutex // guards callee and ended
	callee Callee
	ended  bool

	// The reader's.
	partial []byte
	id      uint32
	open    bool
	dropped bool
}

// Calls sets who answers the worker's calls; until then they are answered by nobody.
func (l *Link) Calls(c Callee) {
	l.calls.mu.Lock()
	l.calls.callee = c
	ended := l.calls.ended
	l.calls.mu.Unlock()
	if ended {
		c.End()
	}
}

func (g *calls) frame(h header, p shared) error {
	if g.open && g.id != h.arg {
		return corrupt("CALL %d between fragments of CALL %d", h.arg, g.id)
	}
	if h.flags&^More != 0 {
		return corrupt("CALL with flags 0x%02x", uint8(h.flags))
	}
	g.id, g.open = h.arg, h.flags&More != 0
	if len(g.partial)+p.len() > maxCall {
		g.dropped = true
	}
	if !g.dropped || len(g.partial) < callHead {
		g.partial = append(g.partial, p.b...)
	}
	if g.open {
		return nil
	}
	whole, dropped := g.partial, g.dropped
	g.partial, g.dropped = nil, false
	return g.pass(h.arg, whole, dropped)
}

// call is one that came with a commit.
func (g *calls) call(id uint32, payload []byte) error { return g.pass(id, payload, false) }

func (g *calls) pass(id uint32, payload []byte, dropped bool) error {
	c, err := parseCall(payload)
	if err != nil {
		return err
	}
	if c.TooLarge = dropped; dropped {
		c.Data = nil
	}
	if callee := g.who(); callee != nil {
		callee.Call(id, c)
	}
	return nil
}

func parseCall(b []byte) (Call, error) {
	if len(b) < callHead {
		return Call{}, corrupt("CALL of %d bytes", len(b))
	}
	n := int(binary.LittleEndian.Uint16(b[2:]))
	if len(b) < callHead+n {
		return Call{}, corrupt("CALL of %d bytes with a name of %d", len(b), n)
	}
	return Call{
		What: binary.LittleEndian.Uint16(b), TimeoutMS: binary.LittleEndian.Uint32(b[4:]),
		Name: string(b[callHead : callHead+n]), Data: b[callHead+n:],
	}, nil
}

func (g *calls) cancel(id uint32) {
	if callee := g.who(); callee != nil {
		callee.Cancel(id)
	}
}

func (g *calls) who() Callee {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.callee
}

// end tells the callee that the link has ended.
func (g *calls) end() {
	g.mu.Lock()
	callee := g.callee
	g.ended = true
	g.mu.Unlock()
	if callee != nil {
		callee.End()
	}
}

// Reply answers a call, and wakes who waits for it.
func (l *Link) Reply(id uint32, status uint16, code string, data []byte) error {
	err := l.ReplyFirst(id, status, code, data)
	if err == nil {
		l.WakeCallers()
	}
	return err
}

// ReplyFirst answers the first ones of several calls; behind the last comes
// [Link.WakeCallers].
func (l *Link) ReplyFirst(id uint32, status uint16, code string, data []byte) error {
	return l.sent(l.out.send(&l.line, KindReply, 0, id, replyOf(status, code, data)))
}

// ReplyNow is Reply of what took no time: who waits for it is woken before anything else is
// done.
func (l *Link) ReplyNow(id uint32, status uint16, code string, data []byte) error {
	err := l.sent(l.out.sendNow(&l.line, KindReply, id, replyOf(status, code, data)))
	if err == nil {
		l.WakeCallers()
	}
	return err
}

func replyOf(status uint16, code string, data []byte) []byte {
	p := make([]byte, callHead, callHead+len(code)+len(data))
	binary.LittleEndian.PutUint16(p, status)
	binary.LittleEndian.PutUint16(p[2:], uint16(len(code)))
	return append(append(p, code...), data...)
}

// WakeCallers sends PING behind a reply. A loop that waits for it in a synchronous call
// leaves its wake-up unanswered; the frame behind it calls the worker's watch thread.
// In a worker without a loop whoever is woken reads, and calls the others.
func (l *Link) WakeCallers() {
	if !l.loopless.Load() {
		l.tellWorker(KindPing, 0, nil)
	}
}
