package link

import (
	"sync"
	"sync/atomic"
)

// table gives out slots. The reader finds streams in it without a lock.
type table struct {
	streams []atomic.Pointer[Stream] // by slot; made at first use and kept

	mu   sync.Mutex // guards below
	idle []*Stream  // last in, first out: their memory is warm
	made int
	last []uint16 // generations, by slot
}

func newTable(slots int) table {
	return table{streams: make([]atomic.Pointer[Stream], slots), last: make([]uint16, slots)}
}

// take gives a free stream and its next id; nil when all slots are taken.
func (t *table) take(l *Link) (*Stream, uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var s *Stream
	switch n := len(t.idle); {
	case n > 0:
		s = t.idle[n-1]
		t.idle = t.idle[:n-1]
	case t.made < len(t.streams):
		s = &Stream{l: l, slot: uint32(t.made), in: new(box), out: new(box)}
		s.line.s = s
		t.streams[t.made].Store(s)
		t.made++
	default:
		return nil, 0
	}
	t.last[s.slot]++
	if t.last[s.slot] == 0 {
		t.last[s.slot] = 1
	}
	return s, streamID(s.slot, uint32(t.last[s.slot]))
}

func (t *table) free(s *Stream) {
	t.mu.Lock()
	t.idle = append(t.idle, s)
	t.mu.Unlock()
}

// find gives the stream that holds id's slot; the caller checks its id under its
// mutex. nil: the slot was never used.
func (t *table) find(id uint32) (*Stream, error) {
	if slotOf(id) >= uint32(len(t.streams)) || generationOf(id) == 0 {
		return nil, corrupt("frame for stream 0x%08x, which cannot be", id)
	}
	return t.streams[slotOf(id)].Load(), nil
}

// all gives every stream ever made, open or not.
func (t *table) all() []*Stream {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]*Stream, t.made)
	for i := range out {
		out[i] = t.streams[i].Load()
	}
	return out
}

func (t *table) open() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.made - len(t.idle)
}
