package program

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"
)

// instance is one program, or one of its numbered processes; its goroutine is run.
type instance struct {
	set  *Set
	spec Spec
	log  *slog.Logger
	out  *journal
	poke chan struct{} // what is wanted of it has changed
	end  context.CancelFunc
	done chan struct{} // closed at the end of run

	// Guarded by Set.mu.
	state    State
	since    time.Time
	on       bool // a process is wanted
	again    bool // the process that runs is to be replaced
	now      bool // a scheduled program is to run without waiting for its time
	over     bool // it is to leave Done or Frozen
	good     bool // a once program has ended well
	resume   time.Time
	process  *process
	problem  string // why its last process failed
	pid      int
	starts   int
	failures int // starts that came to nothing, in a row
	quick    int // deaths soon after it was ready, in a row
	last     *Exit
	text     string // of STATUS=, as the process told it
}

// newInstance makes one. Set.mu is held, or nobody else knows the set.
func newInstance(s *Set, spec Spec) *instance {
	i := &instance{
		set: s, spec: spec, log: s.opts.Log.With("program", spec.Name),
		poke: make(chan struct{}, 1), done: make(chan struct{}),
		state: Stopped, since: time.Now(), on: spec.Autostart,
	}
	seen := func(stream, line string) { s.opts.Seen(spec.Name, stream, line) }
	i.out = newJournal(s.sink(spec.Stdout, s.opts.Stdout, &spec), s.sink(spec.Stderr, s.opts.Stderr, &spec), seen, i.log)
	return i
}

// move takes the program to a state that the table allows. A move that it does not
// allow is a bug of this package: it is logged with both names and not made.
func (i *instance) move(to State) {
	i.set.mu.Lock()
	from := i.state
	var err error
	if from != to {
		if err = from.check(to); err == nil {
			i.state, i.since = to, time.Now()
			i.set.tell()
		}
	}
	i.set.mu.Unlock()
	switch {
	case err != nil:
		i.log.Error("illegal move of a program", "error", err.Error())
	case from != to:
		i.log.Debug("program", "from", from, "to", to)
	}
}

// satisfies reports whether what comes after it may start. Set.mu is held.
func (i *instance) satisfies() bool {
	if i.spec.Once {
		return i.good
	}
	return i.state == Ready
}

func (i *instance) wake() {
	select {
	case i.poke <- struct{}{}:
	default:
	}
}

// run keeps the program as it is wanted until ctx ends.
func (i *instance) run(ctx context.Context) {
	defer close(i.done)
	for ctx.Err() == nil {
		if i.rest(ctx) && i.hold(ctx) {
			i.settle(i.live(ctx))
		}
	}
	i.move(Stopped)
}

// rest waits until a process is wanted now: it is on, its pause is over, its time has
// come. false: look again.
func (i *instance) rest(ctx context.Context) bool {
	due, on := i.due()
	if !on {
		select {
		case <-i.poke:
		case <-ctx.Done():
		}
		return false
	}
	pause := time.Until(due)
	if pause <= 0 {
		return true
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return time.Until(due) <= 0 // not so when the clock was set back meanwhile
	case <-i.poke:
		return false
	case <-ctx.Done():
		return false
	}
}

// due tells when the next process is to start, and moves a program that has none.
func (i *instance) due() (at time.Time, on bool) {
	i.set.mu.Lock()
	on, at = i.on, i.resume
	state := i.state
	scheduled := on && i.spec.Schedule != nil && !i.now
	over := i.over
	i.now, i.over = false, false
	if scheduled {
		if state != Scheduled {
			i.resume = i.spec.Schedule.Next(time.Now())
		}
		at = i.resume
	}
	i.set.mu.Unlock()
	switch {
	case !on && !over && (state == Done || state == Frozen):
	case !on:
		i.move(Stopped)
	case scheduled:
		i.move(Scheduled)
	}
	return at, on
}

// hold waits for the programs that this one comes after. false: look again.
func (i *instance) hold(ctx context.Context) bool {
	for {
		i.set.mu.Lock()
		missing, changed := i.set.missing(i.spec.After), i.set.changed
		state, on := i.state, i.on
		i.set.mu.Unlock()
		switch {
		case !on:
			return false
		case len(missing) == 0:
			return true
		case state != Held:
			i.log.Info("program waits for others", "programs", missing)
			i.move(Held)
			continue
		}
		select {
		case <-changed:
		case <-i.poke:
		case <-ctx.Done():
			return false
		}
	}
}

// outcome is how one process came to its end.
type outcome struct {
	asked  bool  // we ended it: stop, restart, the end of the host
	exit   *Exit // nil: it could not be started
	err    error // why it failed, when its exit alone does not say
	early  bool  // before it was ready
	ready  bool
	served time.Duration // since it was ready
}

// failed reports whether the end was a failure.
func (o *outcome) failed(codes []int) bool {
	return o.exit == nil || o.err != nil || o.exit.Signal != "" || !slices.Contains(codes, o.exit.Code)
}

// settle decides what follows the end of a process.
func (i *instance) settle(o outcome) {
	failed := o.failed(i.spec.ExitCodes)
	i.set.mu.Lock()
	i.pid, i.process, i.text, i.resume = 0, nil, "", time.Time{}
	i.problem = o.text()
	if o.exit != nil {
		i.last = o.exit
	}
	i.good = i.good || !failed && !o.asked
	stopping := i.set.stopping
	i.set.tell()
	i.set.mu.Unlock()
	switch {
	case o.asked:
		i.log.Info("program was ended", "exit", o.exit.String())
		i.reset()
	case stopping:
		i.log.Info("program has ended while the host stops", "exit", o.text())
		i.off(Done)
	case i.spec.Schedule != nil:
		i.report(o, failed)
	case !o.ready && i.spec.Restart != Never && (failed || i.spec.Restart == Always):
		i.retry(o)
	case i.spec.Restart == Always || i.spec.Restart == OnFailure && failed:
		i.revive(o)
	default:
		i.report(o, failed)
		i.off(Done)
	}
}

// reset forgets failures: what comes next was asked for.
func (i *instance) reset() {
	i.set.mu.Lock()
	i.failures, i.quick = 0, 0
	i.set.mu.Unlock()
}

// off leaves the program in a state that only an order ends.
func (i *instance) off(state State) {
	i.set.mu.Lock()
	i.on = false
	i.set.mu.Unlock()
	i.move(state)
}

// report logs the end of a program that is not started again by itself.
func (i *instance) report(o outcome, failed bool) {
	if failed {
		i.log.Error("program has failed", "error", o.text(), "output", i.out.told(shownLines, false))
		return
	}
	i.log.Info("program has ended", "exit", o.text())
}

// retry puts off the start after one that came to nothing, or gives up.
func (i *instance) retry(o outcome) {
	i.set.mu.Lock()
	n := i.failures
	i.failures++
	i.set.mu.Unlock()
	if most := i.spec.StartRetries; most >= 0 && n >= most {
		i.log.Error("program is frozen: it could not be started; mend it and start it by hand",
			"error", o.text(), "starts", n+1, "output", i.out.tail(keptLines))
		i.off(Frozen)
		return
	}
	i.putOff(pause(n), "program cannot be started", o)
}

// revive starts a program again that had been ready: at once, unless it dies again
// and again.
func (i *instance) revive(o outcome) {
	i.set.mu.Lock()
	i.failures = 0
	if o.served >= settled {
		i.quick = 0
	} else {
		i.quick++
	}
	quick := i.quick
	i.set.mu.Unlock()
	if quick > quickDeaths {
		i.putOff(pause(quick-quickDeaths-1), "program dies again and again", o)
		return
	}
	i.warn("program has ended and is started again", "error", o.text())
}

func (i *instance) putOff(d time.Duration, what string, o outcome) {
	i.set.mu.Lock()
	i.resume = time.Now().Add(d)
	i.set.mu.Unlock()
	i.warn(what, "error", o.text(), "next_start_seconds", d.Round(time.Millisecond).Seconds())
	i.move(Waiting)
}

// warn logs why a process has ended, with its last lines where nobody has seen them.
func (i *instance) warn(what string, attrs ...any) {
	if lines := i.out.told(shownLines, true); lines != "" {
		attrs = append(attrs, "output", lines)
	}
	i.log.Warn(what, attrs...)
}

// text says how it ended.
func (o *outcome) text() string {
	switch {
	case o.exit == nil:
		return o.err.Error()
	case o.early:
		return o.exit.String() + ", before it was ready"
	case o.err != nil:
		return errors.Join(o.err, errors.New(o.exit.String())).Error()
	}
	return o.exit.String()
}
