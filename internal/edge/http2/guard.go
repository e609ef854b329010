package http2

import (
	"sync/atomic"
	"time"
)

// guard ends an operation that makes no progress. net/http's own deadlines would do,
// but each change of one is a message to the connection's goroutine; a timer is not.
//
// One goroutine uses it. fire runs on the timer's, at most once, and has returned
// before stop returns: it may use what ends with the exchange.
type guard struct {
	idle time.Duration // 0: never
	fire func()
	shot *shot
}

// shot is one timer and its function. A timer that could not be stopped is left
// behind with its shot, so that it finds nothing of a later operation.
type shot struct {
	timer *time.Timer
	state atomic.Uint32
	fire  func()
	fired chan struct{}
}

const (
	shotOff uint32 = iota
	shotOn
	shotFired
)

// reset makes the guard ready for another exchange.
func (g *guard) reset(idle time.Duration, fire func()) {
	g.idle, g.fire = idle, fire
	if g.shot != nil && g.shot.state.Load() == shotFired {
		g.shot = nil
	}
}

// start begins to wait for progress.
func (g *guard) start() {
	if g.idle <= 0 {
		return
	}
	s := g.shot
	if s == nil {
		s = &shot{fired: make(chan struct{})}
		g.shot = s
	}
	s.fire = g.fire
	if !s.state.CompareAndSwap(shotOff, shotOn) {
		return // fired before: once is enough for an exchange
	}
	if s.timer == nil {
		s.timer = time.AfterFunc(g.idle, s.expire)
		return
	}
	s.timer.Reset(g.idle)
}

// stop reports whether the operation was in time.
func (g *guard) stop() bool {
	s := g.shot
	if g.idle <= 0 || s == nil {
		return true
	}
	if !s.state.CompareAndSwap(shotOn, shotOff) {
		<-s.fired
		return false
	}
	if !s.timer.Stop() {
		g.shot = nil
	}
	return true
}

func (s *shot) expire() {
	if s.state.CompareAndSwap(shotOn, shotFired) {
		s.fire()
		close(s.fired)
	}
}
