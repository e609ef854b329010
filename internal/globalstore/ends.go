package globalstore

import (
	"cmp"
	"container/heap"
	"time"
)

// end says when a node ends by itself. Guarded by Store.mu.
type end struct {
	node  *node
	at    time.Duration // by the clock
	index int           // in the heap
}

// ends are those of a store, the next one first.
type ends []*end

func (e ends) Len() int           { return len(e) }
func (e ends) Less(a, b int) bool { return cmp.Less(e[a].at, e[b].at) }
func (e ends) Swap(a, b int) {
	e[a], e[b] = e[b], e[a]
	e[a].index, e[b].index = a, b
}

// Push is for container/heap.
func (e *ends) Push(x any) {
	one, ok := x.(*end)
	if !ok {
		return
	}
	one.index = len(*e)
	*e = append(*e, one)
}

// Pop is for container/heap.
func (e *ends) Pop() any {
	old := *e
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*e = old[:len(old)-1]
	return last
}

func (s *Store) endLocked(n *node, ttl time.Duration) {
	n.end = &end{node: n, at: s.o.Clock.Now() + ttl}
	heap.Push(&s.ends, n.end)
}

// armLocked has the timer go off for the next end.
func (s *Store) armLocked() {
	var first *end
	if !s.closed && len(s.ends) > 0 {
		first = s.ends[0]
	}
	switch first {
	case s.armed:
	case nil:
		s.timer.Stop()
	default:
		s.timer.Reset(first.at - s.o.Clock.Now())
	}
	s.armed = first
}

// expire takes away what has ended, as one update. It is the timer's: after Close it finds
// nothing to do.
func (s *Store) expire() {
	s.order.Lock()
	defer s.order.Unlock()
	s.mu.Lock()
	e := &edit{s: s}
	s.armed = nil
	for now := s.o.Clock.Now(); !s.closed && len(s.ends) > 0 && s.ends[0].at <= now; {
		e.remove(s.ends[0].node.path())
		s.expired++
	}
	text := e.updateLocked()
	s.armLocked()
	s.mu.Unlock()
	s.tell(text)
}
