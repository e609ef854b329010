package link

import (
	"encoding/binary"
	"testing"
)

// late is a sink that lets the worker publish a frame at the worst moment: after the
// ring was found empty and before the host is marked asleep, so that nobody wakes it.
type late struct {
	t      *shm
	sent   bool
	frames int
}

func (s *late) frame(header, shared) error { s.frames++; return nil }
func (s *late) ending() bool               { return false }
func (s *late) dead() bool                 { return false }

func (s *late) flush() {
	if s.sent {
		return
	}
	s.sent = true
	lo, hi := header{size: headerSize, kind: KindPong}.words()
	binary.LittleEndian.PutUint64(s.t.up, lo)
	binary.LittleEndian.PutUint64(s.t.up[8:], hi)
	s.t.pubUpHead.Store(headerSize)
	if s.t.hostSleeps.CompareAndSwap(1, 0) {
		panic("the host was asleep already")
	}
}

func TestAFrameThatComesJustBeforeTheHostSleepsIsSeen(t *testing.T) {
	transport, child, err := newShm(1<<14, 1, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	closeFiles(child)
	m, ok := transport.(*shm)
	if !ok {
		t.Fatalf("the transport is %T", transport)
	}
	s := &late{t: m}
	if stop, err := m.turn(s); stop || err != nil {
		t.Fatalf("turn gives %v, %v", stop, err)
	}
	if s.frames != 1 {
		t.Errorf("%d frames were read: the host sleeps beside a frame", s.frames)
	}
	if m.hostSleeps.Load() != 1 {
		t.Error("the host waits and is not marked asleep")
	}
	m.stop()
	if err := m.release(); err != nil {
		t.Error(err)
	}
}
