package link

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
)

// outbox sends: frames go straight into the transport, and wait on their stream's
// line when it is full. No sender ever blocks.
type outbox struct {
	mu     sync.Mutex // guards all below, every line, and the transport's [out] methods
	t      transport
	frames int // payload of the largest frame

	first, last *line       // lines with frames, in the order in which they are served
	linked      atomic.Bool // first != nil, for the reader to look at without mu
	own         *line       // of the link itself
	closed      bool
	roomy       []*Stream // whose bells ring for room once mu is left
	urgent      bool      // what is being sent is waited for, so its reader is woken at once
}

// line holds the frames of one stream that wait for room. Guarded by outbox.mu.
type line struct {
	s        *Stream // nil: the link itself
	mem      buffer  // encoded frames, padded
	at       int     // first unsent byte of mem
	request  int     // end of the last REQUEST frame in mem; 0: none waits
	ahead    int     // end of the last frame in mem that nothing may overtake; of own only
	sent     uint32  // stream whose REQUEST was queued last
	next     *line
	linked   bool
	wantRoom bool // ring the stream when the line has emptied
}

func (n *line) waiting() int { return len(n.mem.b) - n.at }

// send sends one message of a line, in fragments of the largest frame when need be.
func (o *outbox) send(n *line, kind Kind, id, arg uint32, p []byte) error {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return ErrClosed
	}
	return o.finish(n, kind, 0, id, arg, p)
}

// sendNow sends a message that a thread of the worker waits for: it is woken at once, and not
// behind the goroutines that are ready.
func (o *outbox) sendNow(n *line, kind Kind, arg uint32, p []byte) error {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return ErrClosed
	}
	o.urgent = true
	return o.finish(n, kind, 0, 0, arg, p)
}

// mostAhead is what may wait on the link's own line when more comes that everything later
// must follow. A worker so far behind does not read.
const mostAhead = 64 << 20

// lead sends a message of the link itself that nothing sent later may overtake, on whatever
// stream. Without wake the worker is woken by what is sent next.
func (o *outbox) lead(kind Kind, p []byte, wake bool) error {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return ErrClosed
	}
	if n := o.own.waiting(); n > mostAhead {
		o.mu.Unlock()
		return fmt.Errorf("%w: %d MiB wait for it", errBehind, n>>20)
	}
	if o.first != nil {
		o.flushLocked()
	}
	h := header{kind: kind, flags: More}
	for len(p) > o.frames {
		o.frame(o.own, h, p[:o.frames])
		p = p[o.frames:]
	}
	h.flags = 0
	o.frame(o.own, h, p)
	o.own.ahead = len(o.own.mem.b)
	if wake {
		return o.leave()
	}
	o.mu.Unlock()
	return nil
}

// request marks the slot and sends REQUEST or TURN.
func (o *outbox) request(s *Stream, kind Kind, id uint32, p []byte, end bool) error {
	flags := Flags(0)
	if end {
		flags = End
	}
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return ErrClosed
	}
	o.t.queue(id)
	s.line.sent = id
	return o.finish(&s.line, kind, flags, id, 0, p)
}

// body sends p whole or, when limit bytes of the stream wait already, not at all: a
// worker that gives credit and does not read must not fill the host.
func (o *outbox) body(s *Stream, kind Kind, flags Flags, id, arg uint32, p []byte, limit int) (bool, error) {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return false, ErrClosed
	}
	if len(p) > 0 && s.line.waiting() >= limit {
		s.line.wantRoom = true
		o.mu.Unlock()
		return false, nil
	}
	return true, o.finish(&s.line, kind, flags, id, arg, p)
}

// finish sends a message, leaves mu, and only then wakes the worker.
func (o *outbox) finish(n *line, kind Kind, flags Flags, id, arg uint32, p []byte) error {
	if o.first != nil {
		o.flushLocked()
	}
	more := More
	if kind == KindBody {
		more = 0 // pieces of a body are whole frames
	}
	h := header{kind: kind, flags: more, stream: id, arg: arg}
	for len(p) > o.frames {
		o.frame(n, h, p[:o.frames])
		p = p[o.frames:]
	}
	h.flags = flags
	o.frame(n, h, p)
	return o.leave()
}

// leave publishes, unlocks mu, and wakes whom there is to wake.
func (o *outbox) leave() error {
	w, err := o.t.publish(), o.t.fault()
	roomy := o.roomy
	o.roomy = nil
	if w != 0 && o.urgent {
		w |= wakeNow
	}
	o.urgent = false
	o.mu.Unlock()
	if w != 0 {
		o.t.wake(w)
	}
	for _, s := range roomy {
		s.ring()
	}
	return err
}

func (o *outbox) frame(n *line, h header, p []byte) {
	h.size = uint32(headerSize + len(p))
	// While anything waits, everything does: otherwise a busy stream would take the
	// room that comes before those that have waited for it.
	if o.first == nil && o.t.put(h, p) {
		return
	}
	n.mem.room(padded(int(h.size)))
	n.mem.b = append(h.append(n.mem.b), p...)
	for len(n.mem.b)%frameAlign != 0 {
		n.mem.b = append(n.mem.b, 0)
	}
	if h.kind == KindRequest || h.kind == KindTurn {
		n.request = len(n.mem.b)
	}
	if !n.linked {
		o.link(n)
	}
}

func (o *outbox) link(n *line) {
	n.linked, n.next = true, nil
	if o.last == nil {
		o.first = n
		o.linked.Store(true)
	} else {
		o.last.next = n
	}
	o.last = n
}

// flush sends what waited. The reader calls it when the worker has made room.
func (o *outbox) flush() error {
	if !o.linked.Load() {
		return nil
	}
	o.mu.Lock()
	if o.closed || o.first == nil {
		o.mu.Unlock()
		return nil
	}
	o.flushLocked()
	return o.leave()
}

// leadLocked sends what nothing may overtake; false: there is no room for all of it.
func (o *outbox) leadLocked() bool {
	n := o.own
	for n.at < n.ahead {
		h, p := n.peek()
		if !o.t.put(h, p) {
			return false
		}
		n.at += padded(int(h.size))
	}
	return true
}

// flushLocked serves the lines in turn, one frame each.
func (o *outbox) flushLocked() {
	if !o.leadLocked() {
		return
	}
	for n := o.first; n != nil; n = o.first {
		if n.waiting() > 0 {
			h, p := n.peek()
			if !o.t.put(h, p) {
				return
			}
			n.at += padded(int(h.size))
		}
		if o.first = n.next; o.first == nil {
			o.last = nil
			o.linked.Store(false)
		}
		if n.waiting() > 0 {
			o.link(n)
			continue
		}
		n.mem.reset()
		n.at, n.request, n.ahead, n.linked, n.next = 0, 0, 0, false, nil
		if n.wantRoom && n.s != nil {
			n.wantRoom = false
			o.roomy = append(o.roomy, n.s)
		}
	}
}

// peek gives the line's next frame, which the host itself has encoded.
func (n *line) peek() (header, []byte) {
	b := n.mem.b[n.at:]
	lo, hi := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	h := header{size: uint32(lo), kind: Kind(lo >> 32), flags: Flags(lo >> 40), stream: uint32(hi), arg: uint32(hi >> 32)}
	return h, b[headerSize:h.size]
}

// drop forgets what waits on a line of which nothing was sent yet, so that the
// memory of a revoked request does not wait for a stuck worker.
func (o *outbox) drop(n *line) {
	if n.at == 0 && n.request > 0 {
		n.mem.b = n.mem.b[:0]
		n.request = 0
	}
}

// revoke takes back a request that the worker has not started. fateOpen: this
// transport cannot, or the link has ended (then the stream's fate is set).
func (o *outbox) revoke(s *Stream, id uint32) fate {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return fateOpen
	}
	return o.revokeLocked(s, id)
}

func (o *outbox) revokeLocked(s *Stream, id uint32) fate {
	if s.line.sent != id {
		return fateNotStarted
	}
	f := o.t.revoke(id)
	if f == fateOpen && s.line.request > s.line.at {
		f = fateNotStarted // the worker does not have all of it yet
	}
	if f == fateNotStarted {
		o.drop(&s.line)
	}
	return f
}

func (o *outbox) started(id uint32) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.closed && o.t.started(id)
}

// close refuses whatever comes after it and decides the fate of the open requests,
// so that a request may be tried elsewhere only when this worker will never run it.
// exact says that everything the worker has ever said was read.
func (o *outbox) close(open []*Stream, exact bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	for _, s := range open {
		f := o.revokeLocked(s, s.id.Load())
		if f == fateOpen { // a socket has no slot words
			f = fateNotStarted
			if s.started.Load() || !exact {
				f = fateStarted
			}
		}
		s.fate.Store(uint32(f))
	}
	o.first, o.last = nil, nil
	o.linked.Store(false)
}

// end sends a last frame of a stream.
func (o *outbox) end(s *Stream, kind Kind, id, arg uint32, p []byte) error {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return ErrClosed
	}
	return o.finish(&s.line, kind, End, id, arg, p)
}
