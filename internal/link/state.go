package link

import (
	"bytes"
	"encoding/binary"
	"errors"
	"sync/atomic"

	"github.com/guado-server/guado/internal/exchange"
)

// Keeper keeps the host's copy of the worker's stores. It runs on the link's reader and
// must not wait.
type Keeper interface {
	// State applies the state of a commit; stream: of the exchange that made it, or 0.
	// [ErrRefused]: the exchange is answered "moved", and the worker goes on. Any other
	// error ends the worker. What it gives is the rest of the frame: the effects. also is to
	// be kept with the state, or not at all: see [exchange.Once]; nil: nothing.
	State(stream uint32, state []byte, also any) (effects []byte, err error)
}

// maxState bounds a STATE after reassembly.
const maxState = 64 << 20

// states reassembles STATE, and holds what goes with a COMMIT until that is here. All of
// it is the reader's, but keeper and tell.
type states struct {
	keeper  atomic.Pointer[Keeper]
	tell    atomic.Pointer[func(key uint64)]
	partial []byte
	stream  uint32
	flags   Flags
	open    bool // a part of it is here
	held    bool // it waits for its COMMIT
}

// Keep sets who keeps the worker's stores. Call it before the worker runs; without it a
// worker that sends STATE is ended.
func (l *Link) Keep(k Keeper) { l.states.keeper.Store(&k) }

func (l *Link) state(h header, p shared) error {
	g := &l.states
	switch {
	case g.keeper.Load() == nil:
		return corrupt("STATE, and nobody has asked for stores")
	case g.held:
		return corrupt("STATE of stream 0x%08x between that of 0x%08x and its COMMIT", h.stream, g.stream)
	case h.flags&^(More|Alone) != 0:
		return corrupt("STATE with flags 0x%02x", uint8(h.flags))
	case g.open && (g.stream != h.stream || g.flags&Alone != h.flags&Alone):
		return corrupt("STATE of stream 0x%08x between fragments of that of 0x%08x", h.stream, g.stream)
	case len(g.partial)+p.len() > maxState:
		return corrupt("STATE of more than %d bytes", maxState)
	case h.flags&Alone == 0 && h.stream == 0:
		return corrupt("STATE that waits for the COMMIT of no stream")
	}
	g.partial = append(g.partial, p.b...)
	g.stream, g.flags, g.open = h.stream, h.flags, h.flags&More != 0
	if g.open {
		return nil
	}
	if h.flags&Alone == 0 {
		g.held = true
		return nil
	}
	if err := l.applyState(l.about(h.stream), nil, false); err != nil && !isRefused(err) {
		return err
	}
	return nil // of one that stands alone no answer hears
}

// applyState applies the STATE that is here, and then tells who wants to know, before
// anybody sees its effects.
func (l *Link) applyState(a about, payload []byte, answered bool) error {
	g := &l.states
	var also any
	if a.once != nil {
		also = a.once.Keeps(payload)
	}
	effects, err := (*g.keeper.Load()).State(g.stream, g.partial, also)
	g.held = false
	if err == nil {
		l.committed(a, payload, answered)
	}
	if err == nil || isRefused(err) {
		if wrong := l.effects(effects, err != nil); wrong != nil {
			return wrong
		}
	}
	if g.partial = g.partial[:0]; cap(g.partial) > keepState {
		g.partial = nil
	}
	return err
}

func isRefused(err error) bool { return errors.Is(err, ErrRefused) }

// effects does the calls that came with a commit.
func (l *Link) effects(p []byte, refused bool) error {
	if len(p) < 4 {
		return corrupt("STATE without the number of its effects")
	}
	count := binary.LittleEndian.Uint32(p)
	p = p[4:]
	for ; count > 0; count-- {
		if len(p) < 8 {
			return corrupt("STATE ends in its effects")
		}
		id, n := binary.LittleEndian.Uint32(p), uint64(binary.LittleEndian.Uint32(p[4:]))
		if n > uint64(len(p)-8) {
			return corrupt("an effect of %d bytes in %d", n, len(p)-8)
		}
		call := bytes.Clone(p[8 : 8+n])
		p = p[8+n:]
		if refused {
			if err := l.Reply(id, 409, "moved", []byte("the user's state is another worker's since")); err != nil {
				return err
			}
			continue
		}
		if err := l.calls.call(id, call); err != nil {
			return err
		}
	}
	if len(p) > 0 {
		return corrupt("STATE with %d stray bytes", len(p))
	}
	return nil
}

// keepState is the most memory that is kept for the next STATE.
const keepState = 64 << 10

// withState applies what was sent ahead of this COMMIT, and tells that it is here; refused:
// it must not be delivered.
func (l *Link) withState(h header, p shared) (refused bool, err error) {
	if h.kind == KindAbort { // what was committed for it came alone
		l.committed(about{key: l.about(h.stream).key}, nil, false)
	}
	if h.kind != KindCommit {
		return false, nil
	}
	g := &l.states
	if g.held && h.stream != g.stream {
		return false, corrupt("COMMIT of stream 0x%08x behind STATE of stream 0x%08x", h.stream, g.stream)
	}
	if h.flags&More != 0 {
		return false, nil
	}
	a := l.about(h.stream)
	var payload []byte
	if a.once != nil {
		payload = l.whole(h, p)
	}
	if !g.held {
		l.committed(a, payload, true)
		return false, nil
	}
	if err = l.applyState(a, payload, true); err == nil || isRefused(err) {
		return err != nil, nil
	}
	return false, err
}

// Commits has somebody told, by the number of [exchange.Who], of each exchange of which
// something is real: its state was applied, its answer came, or the application failed, which
// commits, too. Before any effect and answer is seen; it must not wait. Call it before the
// worker runs.
func (l *Link) Commits(tell func(key uint64)) { l.states.tell.Store(&tell) }

// about is the exchange of a stream: its number, and who is told what becomes real of it.
type about struct {
	key  uint64
	once exchange.Once
}

func (l *Link) about(stream uint32) (a about) {
	if stream == 0 {
		return a
	}
	s, err := l.table.find(stream)
	if s == nil || err != nil {
		return a
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.id.Load() == stream {
		a = s.about
	}
	return a
}

// committed tells of an exchange who wants to know.
func (l *Link) committed(a about, payload []byte, answered bool) {
	if tell := l.states.tell.Load(); tell != nil && a.key != 0 {
		(*tell)(a.key)
	}
	switch {
	case a.once == nil:
	case answered:
		a.once.Answered(payload)
	default:
		a.once.Committed()
	}
}

// whole is a copy of the answer, where this COMMIT is all of it; nil: it is not.
func (l *Link) whole(h header, p shared) []byte {
	s, err := l.table.find(h.stream)
	if s == nil || err != nil || h.flags&End == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.id.Load() != h.stream || s.partial != nil {
		return nil
	}
	return bytes.Clone(p.b)
}

// Of says of which exchange the stream is, and who is told what becomes real of it; nil:
// nobody. Call it before Request.
func (s *Stream) Of(key uint64, once exchange.Once) {
	s.mu.Lock()
	s.about = about{key, once}
	s.mu.Unlock()
}

// refuse takes a COMMIT that must not be delivered: its consumer finds an ABORT of the
// host's own instead.
func (s *Stream) refuse(h header, p shared) error {
	s.mu.Lock()
	if s.id.Load() != h.stream {
		s.mu.Unlock()
		return nil
	}
	next, err := s.life.after(h, s.socket)
	if err != nil || s.dropping {
		s.mu.Unlock()
		return s.file(h, p)
	}
	back := s.dropAll()
	more, err := s.discard(h, p, next)
	back.bytes += more.bytes
	s.in.recs = append(s.in.recs[:0], record{kind: KindAbort, arg: AbortMoved})
	tell := next < lifeBusy
	s.cancelled |= 1 << CancelGone
	s.life = next
	over := s.abandoned && next == lifeOver
	b := s.bell
	s.rung = true
	s.unlock()
	switch {
	case err != nil:
		return err
	case over:
		s.release(h.stream)
		return nil
	}
	b.Ring()
	if tell {
		s.l.tell(s, h.stream, KindCancel, CancelGone)
	}
	s.l.grant(s, h.stream, back)
	return nil
}

// Restore sends a store ahead of what is sent next: the worker is woken by that.
func (l *Link) Restore(payload []byte) error {
	return l.sent(l.out.lead(KindRestore, payload, false))
}

// Release tells the worker that an item has ended.
func (l *Link) Release(payload []byte) error {
	return l.sent(l.out.lead(KindRelease, payload, true))
}
