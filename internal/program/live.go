package program

import (
	"context"
	"errors"
	"time"
)

var (
	errReadyTime = errors.New("not ready within ready_timeout")
	errRunTime   = errors.New("ran longer than run_timeout")
)

// live is one process from its start to its end.
func (i *instance) live(ctx context.Context) outcome {
	i.move(Starting)
	i.out.begin()
	i.set.mu.Lock()
	i.again = false
	i.starts++
	i.set.mu.Unlock()
	listen, err := i.spec.Ready.prepare(i)
	if err != nil {
		return outcome{err: err}
	}
	defer listen.close()
	p, err := i.start(listen)
	if err != nil {
		return outcome{err: err}
	}
	defer p.close()
	i.set.mu.Lock()
	i.pid, i.process = p.pid, p
	i.set.tell()
	i.set.mu.Unlock()
	i.log.Debug("program was started", "pid", p.pid)
	l := life{instance: i, process: p, began: time.Now()}
	return l.run(ctx, listen)
}

// life is what is known of a process while it runs.
type life struct {
	*instance
	process *process
	began   time.Time
	readyAt time.Time
	err     error // why we end it
	asked   bool
}

func (l *life) run(ctx context.Context, listen *listener) outcome {
	ready, late := l.first(listen)
	runTime := newAlarm(l.spec.RunTimeout)
	overlap := l.overlapping()
	defer func() {
		for _, a := range []alarm{late, runTime, overlap} {
			a.stop()
		}
	}()
	for {
		select {
		case <-l.process.exited:
			return l.outcome()
		case <-ready:
			ready = nil
			late.stop()
			l.readyAt = time.Now()
			l.log.Info("program is ready", "pid", l.process.pid, "start_seconds", l.readyAt.Sub(l.began).Round(time.Millisecond).Seconds())
			l.move(Ready)
		case <-late.C:
			return l.give(errReadyTime)
		case <-runTime.C:
			return l.give(errRunTime)
		case <-overlap.C:
			if l.meets() {
				return l.give(nil)
			}
			overlap = l.overlapping()
		case <-l.poke:
			if l.unwanted() {
				return l.give(nil)
			}
		case <-ctx.Done():
			return l.give(nil)
		}
	}
}

// first gives what makes the process ready and when that is too late. One that runs to
// its end is never ready.
func (l *life) first(listen *listener) (ready <-chan struct{}, late alarm) {
	if l.spec.Once || l.spec.Schedule != nil {
		l.move(Running)
		l.log.Info("program runs", "pid", l.process.pid)
		return nil, alarm{}
	}
	return listen.watch(l.spec.StartTime), newAlarm(l.spec.ReadyTimeout)
}

// alarm is a timer that may be none.
type alarm struct {
	C     <-chan time.Time
	timer *time.Timer
}

// newAlarm gives one that never rings when d is 0.
func newAlarm(d time.Duration) alarm {
	if d <= 0 {
		return alarm{}
	}
	t := time.NewTimer(d)
	return alarm{C: t.C, timer: t}
}

func (a alarm) stop() {
	if a.timer != nil {
		a.timer.Stop()
	}
}

// overlapping is the timer of a scheduled program's next time.
func (l *life) overlapping() alarm {
	if l.spec.Schedule == nil {
		return alarm{}
	}
	next := l.spec.Schedule.Next(time.Now())
	l.set.mu.Lock()
	l.resume = next
	l.set.mu.Unlock()
	return newAlarm(max(time.Until(next), 1))
}

// meets does what the policy says about a time that came while the process runs;
// true: the process is to make place.
func (l *life) meets() bool {
	l.log.Warn("program still runs when its next time comes", "overlap", l.spec.Overlap, "seconds", time.Since(l.began).Round(time.Millisecond).Seconds())
	if l.spec.Overlap == Skip {
		return false
	}
	l.set.mu.Lock()
	l.now = true
	l.set.mu.Unlock()
	return l.spec.Overlap == Replace
}

func (l *life) unwanted() bool {
	l.set.mu.Lock()
	defer l.set.mu.Unlock()
	return !l.on || l.again
}

// give ends the process: err says why it failed, nil that its end was asked for.
func (l *life) give(err error) outcome {
	l.err, l.asked = err, err == nil
	l.move(Stopping)
	switch ended := l.process.stop(l.spec.StopSignal, l.spec.StopTimeout, l.set.cut); {
	case ended:
	case l.set.cut.Err() != nil:
		l.log.Warn("program was killed: the stop was cut short")
	default:
		l.log.Warn("program did not end in time and was killed", "stop_signal", l.spec.StopSignal.String(), "stop_seconds", l.spec.StopTimeout.Seconds())
	}
	return l.outcome()
}

func (l *life) outcome() outcome {
	o := outcome{asked: l.asked, exit: l.process.exit(), err: l.err, ready: !l.readyAt.IsZero()}
	if o.ready {
		o.served = time.Since(l.readyAt)
	}
	o.early = !o.ready && !o.asked && o.err == nil && l.spec.Schedule == nil && !l.spec.Once
	return o
}
