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

	mu     sync.Mutex // guards timers, and when each is due; taken alone
	timers map[*Timer]struct{}
}

// New makes a clock that begins now.
func New() *Clock { return &Clock{start: time.Now(), timers: map[*Timer]struct{}{}} }

// Now is the time since the clock was made.
func (c *Clock) Now() time.Duration { return time.Since(c.start) + time.Duration(c.ahead.Load()) }

// Wall is what the clock on the wall shows, or showed, at a time of this one.
func (c *Clock) Wall(at time.Duration) time.Time { return time.Now().Add(at - c.Now()) }

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
