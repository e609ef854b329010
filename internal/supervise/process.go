package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/guado-server/guado/internal/child"
	"github.com/guado-server/guado/internal/link"
)

const (
	// termGrace lies between SIGTERM and SIGKILL.
	termGrace = time.Second
	// cutGrace is what a stop leaves at most to work whose time is over.
	cutGrace = time.Second
	// stackFirst is how long the first line of a stack dump may take, and stackQuiet how
	// long there is silence behind the last.
	stackFirst = time.Second
	stackQuiet = 150 * time.Millisecond
)

// process is a worker's process with its link and its output.
type process struct {
	*child.Process
	link    *link.Link
	out     []*output
	journal *journal // nil: it has the terminal
	told    chan struct{}

	mu     sync.Mutex // guards all below
	why    error      // first reason for which we killed it
	stacks bool       // it prints its stacks at stackSignal
}

func startProcess(o *Options, slot, code string, environ []string, j *journal) (*process, error) {
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
		l.Calls(o.Calls(l, slot))
	}
	files, env := l.Child()
	c := o.Command.Child
	c.Path, c.Args, c.Dir, c.Files, c.Terminal, c.Name = o.Command.Path, slices.Clone(o.Command.Args), o.Command.Dir, files, o.Terminal, slot
	for i, arg := range c.Args {
		c.Args[i] = strings.ReplaceAll(arg, "{slot}", slot)
	}
	c.Env = append(append([]string{}, environ...), "GUADO_LINK="+env, "GUADO_PACKAGE="+code)
	p := &process{link: l, told: make(chan struct{})}
	if o.Terminal {
		c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	} else if err := p.pipes(o, &c, j); err != nil {
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
		defer close(p.told)
		<-p.Exited()
		l.ProcessExited()
	}()
	return p, nil
}

func (p *process) pipes(o *Options, c *child.Child, j *journal) (err error) {
	p.journal = j
	for _, std := range []struct {
		name  string
		to    *Lines
		child **os.File
	}{{"stdout", o.Stdout, &c.Stdout}, {"stderr", o.Stderr, &c.Stderr}} {
		var out *output
		if out, *std.child, err = newOutput(j, std.name, std.to); err != nil {
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
	p.blame(why)
	p.Kill()
}

func (p *process) blame(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.why == nil {
		p.why = why
	}
}

// printsStacks is called once the worker has said that it is ready: it prints its
// stacks at a signal from then on, which would have ended it before.
func (p *process) printsStacks() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stacks = true
}

// dump makes the worker print the stacks of all its threads, and gives what it printed.
// It needs no GIL. Where the worker has the terminal, they are there.
func (p *process) dump() []Line {
	p.mu.Lock()
	can := p.stacks
	p.mu.Unlock()
	if !can {
		return nil
	}
	if p.journal == nil {
		p.SignalLeader(stackSignal)
		return nil
	}
	mark := p.journal.mark()
	p.SignalLeader(stackSignal)
	return p.journal.collect(mark, stackFirst, stackQuiet)
}

// terminate asks it to end by SIGTERM, and when it does not, has it print its stacks
// and kills it, with all of its process group.
func (p *process) terminate(grace time.Duration) {
	p.Signal(syscall.SIGTERM)
	if p.Ended(grace) {
		return
	}
	p.dump()
	p.Signal(syscall.SIGKILL)
}

// giveUp ends a worker that did not become ready. One that has said why ends by
// itself, and may still have something to print. Of one that hangs, Python prints the
// stacks when it is aborted, as soon as it has begun to import.
func (p *process) giveUp(err error) {
	var boot *link.BootError
	if errors.As(err, &boot) && p.Ended(termGrace) {
		return
	}
	p.Signal(syscall.SIGTERM)
	if p.Ended(termGrace) {
		return
	}
	if errors.Is(err, errBootTime) {
		p.SignalLeader(syscall.SIGABRT)
		p.Ended(termGrace)
	}
	p.Signal(syscall.SIGKILL)
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
	case p.OutOfMemory():
		return fmt.Errorf("%w: %s", errOutOfMemory, p.Verdict())
	}
	return fmt.Errorf("%w: %s", errEnded, p.Verdict())
}

// close frees what belongs to the worker once it has ended.
func (p *process) close() {
	<-p.told
	<-p.link.Done()
	_ = p.link.Close() // the process is gone: nobody is left to tell
	p.closeOutput()
}

func (p *process) closeOutput() {
	for _, o := range p.out {
		o.close()
	}
	if p.journal != nil {
		p.journal.flush()
	}
}
