package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/guado-server/guado/internal/child"
	"github.com/guado-server/guado/internal/link"
)

const (
	// pingEvery is the pulse; a shorter PingTimeout makes it faster.
	pingEvery = 5 * time.Second
	// termGrace lies between SIGTERM and SIGKILL.
	termGrace = time.Second
	// cutGrace is what a stop leaves at most to work whose time is over.
	cutGrace = time.Second
	// quickDeaths is how many workers may die soon after they were ready before the
	// next start is put off.
	quickDeaths = 3
)

var (
	errNoPulse  = errors.New("no answer to PING: stopped or hung below Python")
	errBootTime = errors.New("not ready within the boot timeout")
	errEnded    = errors.New("worker process ended")
)

// slot is the place of one worker; its goroutine is run.
type slot struct {
	group *Group
	name  string
	again chan struct{} // Restart was asked for

	mu      sync.Mutex // guards all below
	state   State
	since   time.Time
	pid     int
	python  string
	loop    string
	starts  int
	last    string // why the last worker ended
	worker  *process
	retired *process // is recycled
	nextRun time.Time
}

func newSlot(g *Group, name string) *slot {
	return &slot{group: g, name: name, again: make(chan struct{}, 1), state: Stopped, since: time.Now()}
}

// move takes the slot to a state that the table allows. A move that it does not
// allow is a bug of this package: it is logged with both names and not made.
func (s *slot) move(to State) {
	s.mu.Lock()
	err := s.state.check(to)
	from := s.state
	if err == nil {
		s.state, s.since = to, time.Now()
	}
	s.mu.Unlock()
	if err != nil {
		s.group.opts.Log.Error("illegal move of a slot", "slot", s.name, "error", err.Error())
		return
	}
	s.group.opts.Log.Debug("slot", "slot", s.name, "group", s.group.opts.Name, "from", from, "to", to)
}

func (s *slot) current() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// ask makes the slot restart its worker.
func (s *slot) ask() {
	select {
	case s.again <- struct{}{}:
	default:
	}
}

// recycle makes the slot replace the worker behind l; false when it has another one, or
// does so already.
func (s *slot) recycle(l *link.Link, why string) bool {
	s.mu.Lock()
	p := s.worker
	ok := p != nil && p.link == l && s.retired != p
	if ok {
		s.retired = p
		s.last = why
	}
	s.mu.Unlock()
	if ok {
		s.ask()
	}
	return ok
}

func (s *slot) recycling(p *process) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.retired == p
}

// kill ends the worker at once, whatever it is doing.
func (s *slot) kill(why error) {
	s.mu.Lock()
	p := s.worker
	s.mu.Unlock()
	if p != nil {
		p.kill(why)
	}
}

// run keeps a worker in the slot until ctx ends.
func (s *slot) run(ctx context.Context) {
	retry := backoff{first: backoffFirst, most: backoffMost}
	quick := 0
	for ctx.Err() == nil {
		s.move(Starting)
		served, err := s.live(ctx)
		s.note(err)
		if ctx.Err() != nil {
			break
		}
		pause := time.Duration(0)
		switch {
		case errors.Is(err, errRestart):
			retry.reset()
		case served == 0:
			s.group.failed(s, err)
			pause = retry.next()
		case errors.Is(err, link.ErrCorrupt):
			pause = retry.next()
		case served >= settled:
			quick = 0
			retry.reset()
		default:
			if quick++; quick > quickDeaths {
				pause = retry.next()
			}
		}
		if pause > 0 && !s.putOff(ctx, pause) {
			break
		}
	}
	s.move(Stopped)
}

// putOff waits before the next start; false when ctx ended meanwhile. In development
// the same code would only fail again: the next start is that of a change.
func (s *slot) putOff(ctx context.Context, pause time.Duration) bool {
	s.mu.Lock()
	s.nextRun = time.Now().Add(pause)
	s.mu.Unlock()
	s.move(Waiting)
	t := time.NewTimer(pause)
	defer t.Stop()
	if s.group.opts.Hello.Dev {
		t.Stop()
		s.group.opts.Log.Info("the worker is started again when a file changes", "slot", s.name, "group", s.group.opts.Name)
	} else {
		s.group.opts.Log.Info("next start of the worker is put off", "slot", s.name, "group", s.group.opts.Name, "seconds", pause.Round(time.Millisecond).Seconds())
	}
	select {
	case <-t.C:
		return true
	case <-s.again:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *slot) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pid, s.worker = 0, nil
	if err != nil {
		s.last = err.Error()
	}
}

var errRestart = errors.New("restart was asked for")

// live is one worker from its start to its end. served is how long it was ready.
func (s *slot) live(ctx context.Context) (served time.Duration, err error) {
	p, err := s.start(ctx)
	if err != nil {
		s.move(Ending)
		return 0, err
	}
	defer p.close()
	s.move(Booting)
	ready, err := s.boot(ctx, p)
	if err != nil {
		s.move(Ending)
		p.giveUp(err)
		return 0, p.reason(err)
	}
	s.mu.Lock()
	s.python, s.loop = ready.Python, ready.Loop
	s.mu.Unlock()
	s.move(Ready)
	began := time.Now()
	s.group.opts.Crew.Attach(s.name, p.link, ready)
	s.group.opts.Log.Info("worker is ready", "slot", s.name, "group", s.group.opts.Name, "pid", p.PID(),
		"python", ready.Python, "boot_seconds", began.Sub(p.Started()).Round(time.Millisecond).Seconds())
	s.group.healed() // now that the crew knows what it serves
	err = s.watch(ctx, p)
	if errors.Is(err, errRestart) && s.recycling(p) {
		s.move(Draining)
		p.retire(ctx, &s.group.opts)
		s.group.opts.Crew.Detach(p.link)
		s.move(Ending)
		return time.Since(began), p.reason(err)
	}
	s.group.opts.Crew.Detach(p.link)
	if errors.Is(err, errRestart) || ctx.Err() != nil {
		s.move(Draining)
		p.drain(s.group.opts.patience(ctx))
		s.move(Ending)
		return time.Since(began), p.reason(err)
	}
	s.move(Ending)
	p.kill(err)
	err = p.reason(err)
	s.group.opts.Log.Error("worker died", "slot", s.name, "group", s.group.opts.Name, "pid", p.PID(), "error", err.Error())
	return time.Since(began), err
}

// start makes the link and the process.
func (s *slot) start(ctx context.Context) (*process, error) {
	o := &s.group.opts
	code, err := o.Command.Package(ctx)
	if err != nil {
		return nil, fmt.Errorf("the worker's code: %w", err)
	}
	env, err := o.Command.Env()
	if err != nil {
		return nil, fmt.Errorf("the worker's environment: %w", err)
	}
	p, err := startProcess(o, s.name, code, env)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.worker, s.pid = p, p.PID()
	s.starts++
	s.mu.Unlock()
	return p, nil
}

func (s *slot) boot(ctx context.Context, p *process) (link.Ready, error) {
	o := &s.group.opts
	hello := o.Hello
	hello.Slot = s.name
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
		case <-s.again: // what is being imported is out of date, or hangs
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
		s.ask() // it became ready meanwhile: watch restarts it
	}
	return ready, err
}

// watch waits for a reason to end the worker: its own end, no pulse, or ours.
func (s *slot) watch(ctx context.Context, p *process) error {
	o := &s.group.opts
	var tick <-chan time.Time
	beat := pulse{every: min(pingEvery, o.PingTimeout/3), timeout: o.PingTimeout, last: time.Now()}
	if o.PingTimeout > 0 {
		t := time.NewTicker(beat.every)
		defer t.Stop()
		tick = t.C
	}
	nonce := uint32(0)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.again:
			return errRestart
		case <-p.link.Done():
			return p.link.Err()
		case <-tick:
			if _, pong := p.link.LastPong(); beat.stopped(time.Now(), pong) {
				return fmt.Errorf("%w (%s)", errNoPulse, o.PingTimeout)
			}
			nonce++
			p.link.Ping(nonce)
		}
	}
}

// pulse judges whether a worker still answers PING.
type pulse struct {
	every, timeout time.Duration
	last           time.Time // tick
	asked          time.Time // the first PING since the last answer; zero: none is open
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

// process is a worker's process with its link and its output.
type process struct {
	*child.Process
	link *link.Link
	out  []*output

	mu  sync.Mutex // guards why
	why error      // first reason for which we killed it
}

func startProcess(o *Options, slot, code string, environ []string) (*process, error) {
	l, err := link.New(o.Link)
	if err != nil {
		return nil, err
	}
	var name func(uint32) string
	if o.RequestID != nil {
		name = func(stream uint32) string { return o.RequestID(l, stream) }
	}
	l.Logs(name, func(m link.LogMessage) { o.log(slot, m) })
	if o.Calls != nil {
		l.Calls(o.Calls(l))
	}
	files, env := l.Child()
	c := child.Child{
		Path: o.Command.Path, Args: o.Command.Args, Dir: o.Command.Dir, Files: files, Terminal: o.Terminal, Name: slot,
		Env: append(append([]string{}, environ...), "GUADO_LINK="+env, "GUADO_PACKAGE="+code),
	}
	p := &process{link: l}
	if o.Terminal {
		c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	} else if err := p.pipes(o, &c); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	p.Process, err = o.Spawner.Spawn(c)
	if !o.Terminal {
		_ = c.Stdout.Close() // the child has its own
		_ = c.Stderr.Close()
	}
	l.CloseChild()
	if err != nil {
		p.closeOutput()
		return nil, errors.Join(fmt.Errorf("start of the interpreter: %w", err), l.Close())
	}
	go func() {
		<-p.Exited()
		l.ProcessExited()
	}()
	return p, nil
}

func (p *process) pipes(o *Options, c *child.Child) (err error) {
	for _, std := range []struct {
		to    *Lines
		child **os.File
	}{{o.Stdout, &c.Stdout}, {o.Stderr, &c.Stderr}} {
		var out *output
		if out, *std.child, err = newOutput(std.to); err != nil {
			if c.Stdout != nil {
				_ = c.Stdout.Close() // no child was started
			}
			p.closeOutput()
			return fmt.Errorf("pipe for the worker's output: %w", err)
		}
		p.out = append(p.out, out)
	}
	return nil
}

// kill ends it at once; the first reason stays.
func (p *process) kill(why error) {
	p.mu.Lock()
	if p.why == nil {
		p.why = why
	}
	p.mu.Unlock()
	p.Signal(syscall.SIGKILL)
}

// terminate asks it to end by SIGTERM first.
func (p *process) terminate(grace time.Duration) {
	p.Signal(syscall.SIGTERM)
	if !p.Ended(grace) {
		p.Signal(syscall.SIGKILL)
	}
}

// giveUp ends a worker that did not become ready. One that has said why ends by
// itself, and may still have something to print.
func (p *process) giveUp(err error) {
	var boot *link.BootError
	if !errors.As(err, &boot) || !p.Ended(termGrace) {
		p.terminate(termGrace)
	}
}

// patience is how long a drain waits for what is under way, and for the exit in all.
// At a stop nobody waits for what still runs: its part is short, so that lifespan
// shutdown and atexit have the rest.
func (o *Options) patience(ctx context.Context) (grace, exit time.Duration) {
	if ctx.Err() != nil {
		return o.cutGrace(), o.ExitTimeout
	}
	return o.GracefulTimeout, o.GracefulTimeout + o.ExitTimeout
}

// cutGrace is the part of ExitTimeout that a stop leaves to work whose time is over.
func (o *Options) cutGrace() time.Duration { return min(cutGrace, o.ExitTimeout/5) }

// drain lets it finish for grace, run lifespan shutdown and atexit, and exit.
func (p *process) drain(grace, exit time.Duration) {
	p.link.Drain(grace)
	if !p.Ended(exit) {
		p.terminate(termGrace)
	}
}

// retire lets a worker finish what it has, as long as that may take; a stop of the host
// shortens it.
func (p *process) retire(ctx context.Context, o *Options) {
	p.link.Drain(o.DrainMax)
	t := time.NewTimer(o.DrainMax + o.ExitTimeout)
	defer t.Stop()
	select {
	case <-p.Exited():
	case <-t.C:
		p.terminate(termGrace)
	case <-ctx.Done():
		p.drain(o.patience(ctx))
	}
}

// reason is why the worker ended, said as exactly as can be.
func (p *process) reason(err error) error {
	<-p.Exited()
	p.mu.Lock()
	why := p.why
	p.mu.Unlock()
	var boot *link.BootError
	switch {
	case errors.As(err, &boot), errors.Is(err, link.ErrCorrupt), errors.Is(err, errBootTime), errors.Is(err, errRestart):
		return err
	case why != nil && !errors.Is(why, link.ErrExited):
		return why
	}
	return fmt.Errorf("%w: %s", errEnded, p.Verdict())
}

// close frees what belongs to the worker once it has ended.
func (p *process) close() {
	<-p.Exited()
	<-p.link.Done()
	_ = p.link.Close() // the process is gone: nobody is left to tell
	p.closeOutput()
}

func (p *process) closeOutput() {
	for _, o := range p.out {
		o.close()
	}
}
