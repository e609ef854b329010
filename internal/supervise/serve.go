package supervise

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/guado-server/guado/internal/link"
)

// coming is a worker that boots beside the one it will replace.
type coming struct {
	w    *worker
	why  Reason
	done chan error // the end of its boot
	stop context.CancelFunc
}

// serve keeps a worker that serves until there is a reason to end it: its own end, no
// pulse, too much memory, an order. It gives the worker that has taken over, if one
// has; otherwise the one given has ended and is Stopping.
func (s *slot) serve(ctx context.Context, w *worker) (*worker, error) {
	o := s.group.o()
	var c *coming
	defer func() { s.abandon(c) }()
	look := time.NewTicker(watchEvery)
	defer look.Stop()
	beat := pulse{every: min(pingEvery, o.PingTimeout/3), timeout: o.PingTimeout, last: time.Now()}
	var tick <-chan time.Time
	if o.PingTimeout > 0 {
		t := time.NewTicker(beat.every)
		defer t.Stop()
		tick = t.C
	}
	for {
		var booted <-chan error
		if c != nil {
			booted = c.done
		}
		var why error
		select {
		case <-ctx.Done():
			s.abandon(c)
			c = nil
			w.end(ctx, ctx.Err())
			return nil, ctx.Err()
		case <-s.again:
			order, ok := s.take()
			if !ok {
				continue
			}
			s.abandon(c)
			if c = nil; order.what == replace && !o.Terminal {
				c = s.prepare(ctx, order.why)
				continue
			}
			s.count(order.why)
			if order.what == halt {
				w.end(ctx, errHalt)
				return nil, errHalt
			}
			w.end(ctx, errRestart)
			return nil, errRestart
		case err := <-booted:
			if next := s.takeOver(ctx, w, c, err); next != nil {
				c = nil
				return next, nil
			}
			c = nil
			continue
		case <-w.p.link.Done():
			why = w.p.link.Err()
		case <-tick:
			why = beat.check(w.p.link)
		case now := <-look.C:
			if why = w.look(now); why == nil {
				why = w.hangs(now)
			}
		}
		if why != nil {
			return s.lost(ctx, w, &c, why)
		}
	}
}

// prepare starts the worker that will take over.
func (s *slot) prepare(ctx context.Context, why Reason) *coming {
	ctx, stop := context.WithCancel(ctx)
	c := &coming{w: &worker{slot: s, state: Stopped, since: time.Now()}, why: why, done: make(chan error, 1), stop: stop}
	s.mu.Lock()
	s.coming = c.w
	s.mu.Unlock()
	s.group.wait.Go(func() { c.done <- c.w.boot(ctx, nil) })
	return c
}

// abandon ends a worker that was to take over, and waits for its end.
func (s *slot) abandon(c *coming) {
	if c == nil {
		return
	}
	c.stop()
	if err := <-c.done; err == nil {
		c.w.move(Stopping)
		c.w.p.terminate(termGrace)
		c.w.p.close()
	}
	c.w.move(Stopped)
	s.mu.Lock()
	s.coming = nil
	s.mu.Unlock()
}

// takeOver puts a worker that has booted in front, and lets the old one leave. nil: it
// could not boot, and the old one goes on.
func (s *slot) takeOver(ctx context.Context, old *worker, c *coming, err error) *worker {
	defer c.stop()
	o := s.group.o()
	s.mu.Lock()
	s.coming = nil
	if err == nil {
		s.front = c.w
		s.old = append(s.old, old)
		s.last = "replaced: " + string(c.why)
	}
	s.mu.Unlock()
	if err != nil {
		c.w.move(Stopped)
		s.count(ByBoot)
		s.group.tell(s, err)
		o.Log.Error("worker is not replaced: its successor cannot boot, and it goes on", "slot", s.name, "group", o.Name, "reason", c.why)
		s.answer(fmt.Errorf("%s: %w", s.name, err))
		return nil
	}
	c.w.attach()
	s.count(c.why)
	s.group.wait.Go(func() { old.leave(ctx) })
	o.Log.Info("worker is replaced", "slot", s.name, "group", o.Name, "reason", c.why, "pid", c.w.p.PID(), "old_pid", old.p.PID())
	s.answer(nil)
	return c.w
}

// lost cleans up behind a worker that ended, or must be ended at once. One that was
// about to take over does so now.
func (s *slot) lost(ctx context.Context, w *worker, c **coming, why error) (*worker, error) {
	if errors.Is(why, errNoPulse) || errors.Is(why, errHangs) {
		w.logStacks(why)
	}
	err := w.died(why)
	if *c == nil {
		return nil, err
	}
	next := *c
	select {
	case <-ctx.Done():
		return nil, err // serve abandons it
	case bootErr := <-next.done:
		*c = nil
		next.stop()
		s.mu.Lock()
		s.coming = nil
		s.mu.Unlock()
		if bootErr != nil {
			next.w.move(Stopped)
			s.group.tell(s, bootErr)
			s.answer(bootErr)
			return nil, err
		}
		w.move(Stopped)
		s.mu.Lock()
		s.front = next.w
		s.mu.Unlock()
		next.w.attach()
		s.answer(nil)
		return next.w, nil
	}
}

// logStacks has a worker that hangs print its stacks before it is killed.
func (w *worker) logStacks(why error) {
	o := w.slot.group.o()
	o.Log.Error("worker hangs: the stacks of its threads follow", "slot", w.slot.name, "group", o.Name, "error", why.Error(),
		"stacks", text(w.p.dump()))
}

// pulse judges whether a worker still answers PING.
type pulse struct {
	every, timeout time.Duration
	last           time.Time // tick
	asked          time.Time // the first PING since the last answer; zero: none is open
	nonce          uint32
}

// check is one tick: it asks again, unless the worker has been silent for too long.
func (b *pulse) check(l *link.Link) error {
	if _, pong := l.LastPong(); b.stopped(time.Now(), pong) {
		return fmt.Errorf("%w (%s)", errNoPulse, b.timeout)
	}
	b.nonce++
	l.Ping(b.nonce)
	return nil
}

// stopped is asked at each tick, before the next PING. Only a PING that the host had
// the chance to hear the answer of counts: where the host itself stood still (SIGSTOP,
// a frozen container), every worker looks silent.
func (b *pulse) stopped(now, pong time.Time) bool {
	slept := now.Sub(b.last) > 2*b.every
	b.last = now
	if b.asked.IsZero() || slept || !pong.Before(b.asked) {
		b.asked = now
		return false
	}
	return now.Sub(b.asked) > b.timeout
}
