package push

import (
	"sync"
	"time"

	"github.com/guado-server/guado/internal/clock"
)

// wheel wakes sessions at about their time: one timer for all of them, armed only while
// there is somebody to wake. A timer to each costs memory and processor time to arm.
//
// A session is in it once, at its nearest time; it finds out itself what is due. Locks:
// Session.mu before wheel.mu, which is never held while a session is woken.
type wheel struct {
	time  *clock.Clock
	start time.Duration

	mu      sync.Mutex // guards the rest, and next, prev and due of each session
	timer   *clock.Timer
	stopped bool
	turning bool // a turn is under way: it arms the timer at its end
	now     tick // up to which sessions were woken
	armed   tick // when the timer goes off; 0: it does not
	count   int
	slots   [wheelSlots]*Session
	busy    sync.WaitGroup
}

// tick is a moment in the life of a hub; 0 is never.
type tick uint32

const (
	tickLength = 250 * time.Millisecond
	wheelSlots = 512
)

// ticks is a time in ticks, at least one.
func ticks(d time.Duration) tick { return tick(max(1, (d+tickLength-1)/tickLength)) }

func (w *wheel) init(c *clock.Clock) {
	w.time, w.start = c, c.Now()
	w.now = 1
	w.timer = c.AfterFunc(w.turn)
}

// clock is the moment now.
func (w *wheel) clock() tick { return tick((w.time.Now()-w.start)/tickLength) + 1 }

// wall is what the clock on the wall showed then.
func (w *wheel) wall(at tick) time.Time {
	return w.time.Wall(w.start + time.Duration(at-1)*tickLength)
}

// set wakes a session at due, in place of what was set before.
func (w *wheel) set(s *Session, due tick) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unlink(s)
	if w.stopped {
		return
	}
	s.due = max(due, w.now+1)
	slot := &w.slots[s.due%wheelSlots]
	s.next = *slot
	if s.next != nil {
		s.next.prev = s
	}
	*slot = s
	w.count++
	w.arm(s.due)
}

// remove forgets a session.
func (w *wheel) remove(s *Session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unlink(s)
}

func (w *wheel) unlink(s *Session) {
	if s.due == 0 {
		return
	}
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		w.slots[s.due%wheelSlots] = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	}
	s.next, s.prev, s.due = nil, nil, 0
	w.count--
}

// arm sets the timer, unless it goes off before. Under mu.
func (w *wheel) arm(due tick) {
	if w.turning || w.armed != 0 && w.armed <= due {
		return
	}
	w.armed = due
	w.timer.Reset(w.start + time.Duration(due-1)*tickLength - w.time.Now())
}

// turn wakes all whose time has come, on the timer's goroutine.
func (w *wheel) turn() {
	w.mu.Lock()
	if w.stopped || w.turning {
		w.mu.Unlock()
		return
	}
	w.busy.Add(1)
	defer w.busy.Done()
	w.turning, w.armed = true, 0
	to := max(w.clock(), w.now+1)
	var due []*Session
	for at := max(w.now+1, to-min(to-1, wheelSlots-1)); at <= to; at++ {
		for s := w.slots[at%wheelSlots]; s != nil; {
			next := s.next
			if s.due <= to {
				w.unlink(s)
				due = append(due, s)
			}
			s = next
		}
	}
	w.now = to
	w.mu.Unlock()
	for _, s := range due {
		s.wake(to)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.turning = false
	if w.count == 0 || w.stopped {
		return
	}
	// The nearest slot in which somebody is: perhaps for a later round.
	at := w.now + 1
	for w.slots[at%wheelSlots] == nil {
		at++
	}
	w.arm(at)
}

// stop wakes nobody any more and waits for a turn under way.
func (w *wheel) stop() {
	w.mu.Lock()
	w.stopped = true
	w.timer.Stop()
	w.mu.Unlock()
	w.busy.Wait()
}
