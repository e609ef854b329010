package supervise

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/guado-server/guado/internal/link"
)

// Reason is why a worker was ended or replaced; metrics count by it.
type Reason string

// The reasons.
const (
	ByBoot      Reason = "boot"        // it could not boot
	ByDeath     Reason = "died"        // by itself or a signal that was not ours
	ByMemory    Reason = "memory"      // more than memory_soft or memory_hard
	ByOOM       Reason = "oom"         // the kernel killed it for want of memory
	ByHang      Reason = "hang"        // no pulse
	ByProtocol  Reason = "protocol"    // it broke the link's protocol
	ByRequests  Reason = "requests"    // max_requests
	ByAge       Reason = "age"         // max_age
	ByInterrupt Reason = "interrupted" // a request past its deadline
	ByReload    Reason = "reload"
	ByOperator  Reason = "operator"
)

var (
	errNoPulse     = errors.New("no answer to PING: stopped or hung below Python")
	errBootTime    = errors.New("not ready within the boot timeout")
	errEnded       = errors.New("worker process ended")
	errOutOfMemory = errors.New("worker was killed by the kernel for want of memory")
	errMemory      = errors.New("more memory than memory_hard allows")
	errHangs       = errors.New("hangs: Python, or its event loop, has not run")
	errKilled      = errors.New("an operator has killed it")
	errRestart     = errors.New("restart was asked for")
)

// reasonOf puts the end of a worker into a class.
func reasonOf(err error) Reason {
	switch {
	case errors.Is(err, errOutOfMemory):
		return ByOOM
	case errors.Is(err, errMemory):
		return ByMemory
	case errors.Is(err, errNoPulse), errors.Is(err, errHangs):
		return ByHang
	case errors.Is(err, link.ErrCorrupt):
		return ByProtocol
	case errors.Is(err, errKilled):
		return ByOperator
	}
	return ByDeath
}

// worker is one process of a slot, from its start to its end. Its methods belong to
// the goroutine that keeps it.
type worker struct {
	slot   *slot
	p      *process // guarded by slot.mu until it is started
	ready  link.Ready
	began  time.Time // when it began to serve
	limits limits

	// Guarded by slot.mu.
	state    State
	since    time.Time
	leaving  Reason // why it is being replaced
	cordoned bool
}

// move takes the worker to a state that the table allows. A move that it does not
// allow is a bug of this package: it is logged with both names and not made.
func (w *worker) move(to State) {
	s := w.slot
	s.mu.Lock()
	err := w.state.check(to)
	from := w.state
	if err == nil {
		w.state, w.since = to, time.Now()
	}
	s.mu.Unlock()
	o := s.group.o()
	if err != nil {
		o.Log.Error("illegal move of a worker", "slot", s.name, "error", err.Error())
		return
	}
	o.Log.Debug("worker", "slot", s.name, "group", o.Name, "from", from, "to", to)
}

// boot takes it from its start to READY. When it cannot, it has ended: it is Stopping.
func (w *worker) boot(ctx context.Context, again <-chan struct{}) error {
	w.move(Starting)
	p, err := w.start(ctx)
	if err != nil {
		w.move(Stopping)
		return err
	}
	ready, err := w.hello(ctx, p, again)
	if err != nil {
		w.move(Stopping)
		p.giveUp(err)
		err = p.reason(err)
		p.close()
		return err
	}
	w.ready = ready
	p.printsStacks()
	w.move(Ready)
	return nil
}

// start makes the link and the process.
func (w *worker) start(ctx context.Context) (*process, error) {
	s, o := w.slot, w.slot.group.o()
	code, err := o.Command.Package(ctx)
	if err != nil {
		return nil, fmt.Errorf("the worker's code: %w", err)
	}
	env, err := o.Command.Env()
	if err != nil {
		return nil, fmt.Errorf("the worker's environment: %w", err)
	}
	p, err := startProcess(o, s.name, code, env, s.journal)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	w.p = p
	s.starts++
	s.mu.Unlock()
	return p, nil
}

// hello shakes hands. again ends it: what is being imported is out of date, or hangs.
func (w *worker) hello(ctx context.Context, p *process, again <-chan struct{}) (link.Ready, error) {
	o := w.slot.group.o()
	hello := o.Hello
	hello.Slot = w.slot.name
	hello.ExitTimeout = (o.ExitTimeout - o.cutGrace()).Milliseconds()
	if o.BootTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.BootTimeout, errBootTime)
		defer cancel()
	}
	ctx, end := context.WithCancelCause(ctx)
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		select {
		case <-again:
			end(errRestart)
		case <-ctx.Done():
		}
	}()
	ready, err := p.link.Hello(ctx, hello)
	if err != nil && context.Cause(ctx) != nil {
		err = context.Cause(ctx)
	}
	end(nil)
	<-asked
	if err == nil && errors.Is(context.Cause(ctx), errRestart) {
		err = errRestart // it became ready meanwhile
	}
	return ready, err
}

// attach gives it requests.
func (w *worker) attach() {
	s, o := w.slot, w.slot.group.o()
	w.began = time.Now()
	w.limits = drawn(o, w.began)
	w.move(Serving)
	o.Crew.Attach(s.name, w.p.link, w.ready)
	o.Log.Info("worker is ready", "slot", s.name, "group", o.Name, "pid", w.p.PID(),
		"python", w.ready.Python, "boot_seconds", w.began.Sub(w.p.Started()).Round(time.Millisecond).Seconds(),
		"import_seconds", float64(w.ready.ImportMS)/1000)
	s.group.healed() // now that the crew knows what it serves
}

// leave lets it finish what it has and end, after it was replaced.
func (w *worker) leave(ctx context.Context) {
	s, o := w.slot, w.slot.group.o()
	o.Crew.Cordon(w.p.link)
	w.move(Draining)
	w.p.retire(ctx, o)
	o.Crew.Detach(w.p.link)
	w.move(Stopping)
	<-w.p.Exited()
	w.p.close()
	w.move(Stopped)
	s.left(w)
}

// end drains it in its place: nothing takes over before it is gone.
func (w *worker) end(ctx context.Context, why error) {
	o := w.slot.group.o()
	w.move(Draining)
	if ctx.Err() != nil || o.Hello.Dev {
		o.Crew.Detach(w.p.link)
		w.p.drain(o.patience(ctx))
	} else {
		o.Crew.Cordon(w.p.link)
		w.p.retire(ctx, o)
		o.Crew.Detach(w.p.link)
	}
	w.move(Stopping)
	w.slot.note(w.p.reason(why))
	w.p.close()
}

// died cleans up behind a worker that has ended, or must be ended at once.
func (w *worker) died(why error) error {
	s, o := w.slot, w.slot.group.o()
	o.Crew.Detach(w.p.link)
	w.move(Stopping)
	w.p.kill(why)
	err := w.p.reason(why)
	w.p.close()
	o.Log.Error("worker died", "slot", s.name, "group", o.Name, "pid", w.p.PID(), "error", err.Error(),
		"served_seconds", time.Since(w.began).Round(time.Millisecond).Seconds())
	s.note(err)
	s.count(reasonOf(err))
	return err
}
