// Package clock is the time by which users, connections and pages live: it only goes forward,
// whatever becomes of the clock on the wall, and a test may move it.
// Before it: what has a time of life (identity, push, registry). After it: package time.
// Not here: deadlines of requests and sockets, which no test moves.
package clock

import (
	"sync"
	"sync/atomic"
	"time"
)

// Clock tells the time since it was made. Its methods may be called from any goroutine.
type Clock struct {
	start time.Time
	ahead atomic.Int64 // by how much it was moved
	wall  atomic.Int64 // what the wall's clock showed at the start, in ns since 1970

	mu     sync.Mutex // guards timers, and when each is due; taken alone
	timers map[*Timer]struct{}
}

// New makes a clock that begins now.
func New() *Clock { return &Clock{start: time.Now(), timers: map[*Timer]struct{}{}} }

// Now is the time since the clock was made.
func (c *Clock) Now() time.Duration { return time.Since(c.start) + time.Duration(c.ahead.Load()) }

// setAnew is the difference from which on the clock on the wall was set: what is less comes
// of two clocks that are read one after the other, and do not go quite alike.
const setAnew = 50 * time.Millisecond

// Wall is what the clock on the wall shows, or showed, at a time of this one; of the same
// time it tells the same until it is set.
func (c *Clock) Wall(at time.Duration) time.Time {
	now := time.Now() // of both clocks
	start, known := now.UnixNano()-int64(now.Sub(c.start))-c.ahead.Load(), c.wall.Load()
	if time.Duration(start-known).Abs() > setAnew {
		c.wall.Store(start)
		known = start
	}
	return time.Unix(0, known).Add(at)
}

// At is the time of this clock when the one on the wall shows, or showed, t.
func (c *Clock) At(t time.Time) time.Duration { return c.Now() - time.Since(t) }

// Advance moves the clock forward. Timers whose time has come go off.
func (c *Clock) Advance(d time.Duration) {
	c.ahead.Add(int64(max(d, 0)))
	c.mu.Lock()
	defer c.mu.Unlock()
	for t := range c.timers {
		t.timer.Reset(t.due - c.Now())
	}
}

// Timer calls a function once its time has come.
type Timer struct {
	clock *Clock
	timer *time.Timer
	due   time.Duration
}

// AfterFunc makes a timer that is not armed: [Timer.Reset] arms it.
func (c *Clock) AfterFunc(f func()) *Timer {
	t := &Timer{clock: c}
	t.timer = time.AfterFunc(time.Hour, func() {
		c.mu.Lock()
		_, armed := c.timers[t]
		armed = armed && c.Now() >= t.due
		if armed {
			delete(c.timers, t)
		}
		c.mu.Unlock()
		if armed { // it was not stopped or set anew at the same moment
			f()
		}
	})
	t.timer.Stop()
	return t
}

// Reset arms the timer: it goes off after this time, and no other one.
func (t *Timer) Reset(after time.Duration) {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	t.due = t.clock.Now() + after
	t.clock.timers[t] = struct{}{}
	t.timer.Reset(after)
}

// Stop disarms it.
func (t *Timer) Stop() {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	delete(t.clock.timers, t)
	t.timer.Stop()
}
