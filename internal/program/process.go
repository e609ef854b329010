package program

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/guado-server/guado/internal/child"
)

// process is a program's process and its output.
type process struct {
	*child.Process
	pid    int
	group  bool // signals that ask it to end go to the whole process group
	out    []*stream
	exited <-chan struct{} // closed when it was reaped
}

// Exit is how a process ended.
type Exit struct {
	Code   int       `json:"code"`             // -1: by a signal
	Signal string    `json:"signal,omitempty"` // "killed"
	OOM    bool      `json:"oom,omitempty"`    // the kernel killed it for want of memory
	Time   time.Time `json:"time"`
}

// String says it in words.
func (e *Exit) String() string {
	switch {
	case e == nil:
		return "not started"
	case e.OOM:
		return "killed by the kernel: out of memory (OOM)"
	case e.Signal != "":
		return "ended by signal: " + e.Signal
	}
	return fmt.Sprintf("exit code %d", e.Code)
}

// start starts the process; listen gives what is added to its environment.
func (i *instance) start(listen *listener) (*process, error) {
	env, err := i.spec.Env()
	if err != nil {
		return nil, fmt.Errorf("the program's environment: %w", err)
	}
	env = append(env, listen.env()...)
	c := i.spec.Child
	c.Path, c.Argv0, c.Args = i.spec.Command[0], i.spec.Command[0], i.spec.Command[1:]
	c.Dir, c.Env, c.Name = i.spec.Dir, env, i.spec.Name
	c.Grace, c.Ask, c.AskAlone = i.spec.StopTimeout, i.spec.StopSignal, !i.spec.StopGroup
	p := &process{group: i.spec.StopGroup}
	names := []string{streamOut, streamErr}
	if i.spec.Stdout.Path != "" && i.spec.Stdout.Path == i.spec.Stderr.Path {
		names = names[:1] // one pipe keeps the order of its lines
	}
	theirs, err := p.pipes(i.out, names)
	if err != nil {
		return nil, err
	}
	c.Stdout, c.Stderr = theirs[0], theirs[len(theirs)-1]
	p.Process, err = i.set.opts.Spawner.Spawn(c)
	for _, f := range theirs {
		_ = f.Close() // the child has its own
	}
	if err != nil {
		p.closeOutput()
		return nil, fmt.Errorf("start of %s: %w", i.spec.Command[0], err)
	}
	p.pid, p.exited = p.PID(), p.Exited()
	return p, nil
}

func (p *process) pipes(j *journal, names []string) ([]*os.File, error) {
	var theirs []*os.File
	for _, name := range names {
		s, w, err := newStream(j, name)
		if err != nil {
			for _, f := range theirs {
				_ = f.Close() // no child was started
			}
			p.closeOutput()
			return nil, fmt.Errorf("pipe for the program's output: %w", err)
		}
		p.out, theirs = append(p.out, s), append(theirs, w)
	}
	return theirs, nil
}

func (p *process) signal(s syscall.Signal, group bool) {
	if group {
		p.Signal(s)
	} else {
		p.SignalLeader(s)
	}
}

// stop asks the process to end and kills it when it does not within the time, or when
// cut ends. false: it had to be killed.
func (p *process) stop(s syscall.Signal, within time.Duration, cut context.Context) bool {
	if p.group {
		p.Linger()
	}
	p.signal(s, p.group)
	if s != syscall.SIGKILL && s != syscall.SIGSTOP {
		p.signal(syscall.SIGCONT, p.group) // one that was stopped does not hear otherwise
	}
	t := time.NewTimer(within)
	defer t.Stop()
	select {
	case <-p.exited:
		return true
	case <-t.C:
	case <-cut.Done():
	}
	p.signal(syscall.SIGKILL, true)
	<-p.exited
	return false
}

// exit tells how it ended; it waits for that.
func (p *process) exit() *Exit {
	<-p.exited
	e := &Exit{Code: -1, OOM: p.OutOfMemory(), Time: time.Now()}
	if state := p.State(); state != nil {
		e.Code = state.ExitCode()
		if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			e.Signal = ws.Signal().String()
		}
	}
	return e
}

// close waits for the rest of the output.
func (p *process) close() {
	<-p.exited
	p.closeOutput()
}

func (p *process) closeOutput() {
	for _, s := range p.out {
		s.close()
	}
}
