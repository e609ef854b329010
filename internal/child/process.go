package child

import (
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Process is a child that was started. All methods may be called by anybody.
type Process struct {
	spawner *Spawner
	cmd     *exec.Cmd
	group   bool
	started time.Time
	oomFile string
	cgroup  string
	exited  chan struct{} // closed when it was reaped

	mu     sync.Mutex // guards all below
	reaped bool       // its id may be another's
	killed bool       // SIGKILL was ours
	linger bool       // its group may end after it
	oom    bool
}

// PID is its process id, and the id of the group that it leads.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Started tells when.
func (p *Process) Started() time.Time { return p.started }

// Exited is closed when it has ended and was reaped, and its group was killed.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Ended waits for the end, for a while.
func (p *Process) Ended(within time.Duration) bool {
	t := time.NewTimer(within)
	defer t.Stop()
	select {
	case <-p.exited:
		return true
	case <-t.C:
		return false
	}
}

// State tells how it ended, after Exited.
func (p *Process) State() *os.ProcessState { return p.cmd.ProcessState }

// OutOfMemory reports whether the kernel killed it for want of memory, after Exited.
func (p *Process) OutOfMemory() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.oom
}

// Verdict is how it ended, in words, after Exited: "exit status 1", "signal: killed".
func (p *Process) Verdict() string {
	text := p.cmd.ProcessState.String()
	if p.OutOfMemory() {
		text += " by the kernel: out of memory (OOM)"
	}
	return text
}

// Signal reaches the whole process group while the process is not reaped.
func (p *Process) Signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.signalLocked(sig)
}

// SignalLeader reaches the process alone.
func (p *Process) SignalLeader(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		_ = syscall.Kill(p.PID(), sig) // ESRCH: it is gone already
	}
}

func (p *Process) signalLocked(sig syscall.Signal) {
	if p.reaped {
		return
	}
	p.killed = p.killed || sig == syscall.SIGKILL
	pid := p.PID()
	if p.group {
		pid = -pid
	}
	_ = syscall.Kill(pid, sig) // ESRCH: it is gone already
}

// Kill ends its group at once.
func (p *Process) Kill() { p.Signal(syscall.SIGKILL) }

// reap waits for the process, then for nobody: what it left in its group is killed,
// while the id of both cannot be another's yet.
func (p *Process) reap() {
	waited := awaitExit(p.PID())
	if !waited {
		_ = p.cmd.Wait() // better a small chance to hit another than to leave a group behind
	}
	ours := p.killedByUs()
	p.awaitGroup()
	p.mu.Lock()
	if p.group {
		p.signalLocked(syscall.SIGKILL)
	}
	p.mu.Unlock()
	p.spawner.forget(p.PID(), p.cgroup, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if waited {
			_ = p.cmd.Wait() // at once; ProcessState has the same
		}
		p.reaped = true
	})
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && !ours && status.Signaled() && status.Signal() == syscall.SIGKILL {
		oom := p.spawner.oom.blame(p.oomFile)
		p.mu.Lock()
		p.oom = oom
		p.mu.Unlock()
	}
	close(p.exited)
}

// Linger lets what the process has started end by itself after it, when a signal asked
// the whole group to: Exited comes once all are gone, and Kill ends the wait. Without it
// the rest of the group is killed as soon as the process has ended.
func (p *Process) Linger() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.linger = true
}

// groupEvery is how often the rest of a group is looked for: its processes are not our
// children, so that nobody tells of their end.
const groupEvery = 20 * time.Millisecond

// awaitGroup waits for the end of those that may linger.
func (p *Process) awaitGroup() {
	for {
		p.mu.Lock()
		wait := p.linger && p.group && !p.killed
		p.mu.Unlock()
		if !wait || !groupLives(p.PID()) {
			return
		}
		time.Sleep(groupEvery)
	}
}

func (p *Process) killedByUs() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.killed
}

// oomTally shares out the kills that the kernel counts: it counts them for a cgroup,
// and names no process.
type oomTally struct {
	mu   sync.Mutex // guards seen
	seen map[string]int
}

// watch notes what was counted before a process of ours could be killed.
func (t *oomTally) watch(pid int) string {
	file := oomCounter(pid)
	if file == "" {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seen == nil {
		t.seen = map[string]int{}
	}
	if _, known := t.seen[file]; !known {
		t.seen[file] = oomKills(file)
	}
	return file
}

// blame reports whether a kill is counted that no process was blamed for.
func (t *oomTally) blame(file string) bool {
	if file == "" {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if oomKills(file) <= t.seen[file] {
		return false
	}
	t.seen[file]++
	return true
}
