package websocket

import (
	"sync"
	"time"
)

// wheel wakes sockets at about their time: one timer for all of them, which runs while
// there is somebody to wake. A timer to each costs memory and, in a virtual machine, a
// lot of processor time to arm. Guarded by Server.mu.
type wheel struct {
	timer   *time.Timer
	armed   bool
	stopped bool
	now     uint32 // ticks
	count   int
	slots   [128]*Socket // lists by due tick, modulo
	woken   []*Socket    // the ticking goroutine's
	ticking sync.WaitGroup
}

// tickLength is how exact times are.
const tickLength = 500 * time.Millisecond

func (w *wheel) init(tick func()) {
	w.timer = time.AfterFunc(time.Hour, tick)
	w.timer.Stop()
}

func (w *wheel) add(k *Socket, after time.Duration) {
	w.remove(k)
	if w.stopped {
		return
	}
	k.due = w.now + max(1, uint32(after/tickLength))
	slot := &w.slots[k.due%uint32(len(w.slots))]
	k.next = *slot
	if k.next != nil {
		k.next.prev = k
	}
	*slot = k
	k.waits = true
	w.count++
	if !w.armed {
		w.armed = true
		w.timer.Reset(tickLength)
	}
}

func (w *wheel) remove(k *Socket) {
	if !k.waits {
		return
	}
	if k.prev != nil {
		k.prev.next = k.next
	} else {
		w.slots[k.due%uint32(len(w.slots))] = k.next
	}
	if k.next != nil {
		k.next.prev = k.prev
	}
	k.next, k.prev, k.waits = nil, nil, false
	w.count--
}

// turn moves on by a tick and gives those whose time has come.
func (w *wheel) turn() []*Socket {
	w.now++
	w.woken = w.woken[:0]
	for k := w.slots[w.now%uint32(len(w.slots))]; k != nil; {
		next := k.next
		if k.due == w.now {
			w.remove(k)
			w.woken = append(w.woken, k)
		}
		k = next
	}
	return w.woken
}

// tick is the timer's.
func (s *Server) tick() {
	s.mu.Lock()
	if s.wheel.stopped {
		s.mu.Unlock()
		return
	}
	s.wheel.ticking.Add(1)
	woken := s.wheel.turn()
	s.mu.Unlock()
	for i, k := range woken {
		k.wake()
		woken[i] = nil
	}
	s.mu.Lock()
	s.wheel.armed = s.wheel.count > 0 && !s.wheel.stopped
	if s.wheel.armed {
		s.wheel.timer.Reset(tickLength)
	}
	s.mu.Unlock()
	s.wheel.ticking.Done()
}

// stop ends the timer and waits for a tick under way. Nobody may hold Server.mu.
func (w *wheel) stop() {
	w.timer.Stop()
	w.ticking.Wait()
}

// wakeAfter asks for [Socket.wake].
func (k *Socket) wakeAfter(d time.Duration) {
	k.server.mu.Lock()
	defer k.server.mu.Unlock()
	if _, open := k.server.sockets[k]; open && d > 0 {
		k.server.wheel.add(k, d)
	}
}
