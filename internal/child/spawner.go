package child

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/guado-server/guado/internal/guard"
)

var errClosed = errors.New("no more processes are started: the host is stopping")

const (
	// execTime bounds the step from the gate to the program: reading it from a disk.
	execTime = 30 * time.Second
	// adoptEvery is how often a host that adopts orphans looks for dead ones. One is
	// reaped at the second look: whoever started it may be about to wait for it.
	adoptEvery = 5 * time.Second
)

// Options of a spawner.
type Options struct {
	// Instance names the host in the environment of its children, by which the guard
	// finds those that left their group. Empty: they cannot be found.
	Instance string
	Log      *slog.Logger
}

// Spawner starts child processes from one thread that lives as long as it does: the
// kernel sends a child its parent-death signal when the *thread* that forked it ends,
// and Go's threads come and go. One serves all workers and programs of a host.
//
// In a program that has called [Main] each child passes the shim and is known to the
// guard. In any other program a child is started as it is, and held by the
// parent-death signal alone.
type Spawner struct {
	opts   Options
	jobs   chan func()
	done   chan struct{}
	once   sync.Once
	quit   chan struct{}
	guard  *guard.Client // nil without the hook
	oom    oomTally
	groups *cgroups // nil where the host has no tree of its own
	wait   sync.WaitGroup

	mu    sync.Mutex // guards known; held while a process is forked
	known map[int]bool
}

// NewSpawner starts the thread, and the guard where the program can be one.
func NewSpawner(o Options) *Spawner {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Spawner{opts: o, jobs: make(chan func()), done: make(chan struct{}), quit: make(chan struct{}), known: map[int]bool{}}
	go s.run()
	if hooked.Load() {
		s.guard = guard.NewClient(guard.Options{
			Command: guardCommand, Instance: o.Instance, Log: o.Log,
			Started: s.learn, Ended: s.unlearn,
		})
		s.groups = openCgroups(o.Instance)
	}
	if adopts() {
		s.wait.Go(s.adopt)
	}
	return s
}

func guardCommand() *exec.Cmd {
	path, err := selfPath()
	if err != nil {
		path = os.Args[0]
	}
	cmd := exec.Command(path) //nolint:noctx // its end is the client's to order
	cmd.Args = []string{"guado", "guard"}
	// Without the instance of a host that this one runs in: the guard must still be there
	// when that one's guard has ended this host.
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, guard.Variable+"=") }), marker+"="+asGuard)
	cmd.Stderr = os.Stderr
	return cmd
}

func (s *Spawner) run() {
	runtime.LockOSThread()
	// Unlocked at the end: a thread that dies with its goroutine would take the
	// children with it that are still on their way out.
	defer runtime.UnlockOSThread()
	defer close(s.done)
	for {
		select {
		case job := <-s.jobs:
			job()
		case <-s.quit:
			return
		}
	}
}

// start forks on the thread.
func (s *Spawner) start(cmd *exec.Cmd) error {
	result := make(chan error, 1)
	job := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		err := cmd.Start()
		if err == nil {
			s.known[cmd.Process.Pid] = true
		}
		result <- err
	}
	select {
	case s.jobs <- job:
		return <-result
	case <-s.quit:
		return errClosed
	}
}

// Spawn starts a child and returns once it runs the program asked for, or could not.
// The caller waits for its end (Exited) before it closes the spawner.
func (s *Spawner) Spawn(c Child) (*Process, error) {
	path, err := c.Find()
	if err != nil {
		return nil, err
	}
	if c.Identity != nil && c.Identity.same() {
		c.Identity = nil // nothing is to be changed, which an ordinary account could not
	}
	if s.opts.Instance != "" {
		c.Env = append(c.Env[:len(c.Env):len(c.Env)], guard.Variable+"="+s.opts.Instance)
	}
	name := c.Argv0
	if name == "" {
		name = path
	}
	cmd := &exec.Cmd{
		Path: path, Args: append([]string{name}, c.Args...), Dir: c.Dir, Env: c.Env, ExtraFiles: c.Files,
		SysProcAttr: attributes(!c.Terminal),
	}
	for _, std := range []struct {
		file *os.File
		in   *io.Reader
		out  *io.Writer
	}{{c.Stdin, &cmd.Stdin, nil}, {c.Stdout, nil, &cmd.Stdout}, {c.Stderr, nil, &cmd.Stderr}} {
		switch {
		case std.file == nil: // a nil *os.File in an interface would not be nil
		case std.in != nil:
			*std.in = std.file
		default:
			*std.out = std.file
		}
	}
	p := &Process{spawner: s, cmd: cmd, group: !c.Terminal, exited: make(chan struct{})}
	if s.guard == nil {
		return p, s.plain(p, &c)
	}
	return p, s.throughShim(p, &c)
}

// plain starts the program itself.
func (s *Spawner) plain(p *Process, c *Child) error {
	if c.special() {
		return errNoShim
	}
	if err := s.start(p.cmd); err != nil {
		return err
	}
	s.attend(p)
	return nil
}

// attend looks after a process that was forked.
func (s *Spawner) attend(p *Process) {
	p.started = time.Now()
	p.oomFile = s.oom.watch(p.PID())
	go p.reap()
}

// throughShim starts the program behind its first step, which waits until the guard
// knows it.
func (s *Spawner) throughShim(p *Process, c *Child) (err error) {
	self, err := selfPath()
	if err != nil {
		return fmt.Errorf("this program's own file: %w", err)
	}
	ours, theirs, err := gate()
	if err != nil {
		return err
	}
	defer func() { _ = ours.Close() }()
	o := c.order()
	o.Gate, o.Parent, o.Death = 3+len(c.Files), os.Getpid(), int(syscall.SIGKILL)
	if c.Grace > 0 {
		o.Death = 0 // the guard is kinder than the kernel
	}
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	cmd := p.cmd
	cmd.Args = append([]string{"guado", string(text), cmd.Path}, cmd.Args...)
	cmd.Path = self
	cmd.Env = append(cmd.Env, marker+"="+asShim)
	cmd.ExtraFiles = append(cmd.ExtraFiles[:len(cmd.ExtraFiles):len(cmd.ExtraFiles)], theirs)
	folder, err := s.groups.make(c.Name)
	if err != nil {
		s.opts.Log.Warn("a process gets no cgroup of its own", "name", c.Name, "error", err.Error())
	}
	if folder != nil {
		p.cgroup = folder.Name()
		useCgroup(cmd.SysProcAttr, folder)
	}
	err = s.start(cmd)
	_ = theirs.Close() // the child has its own
	if folder != nil {
		_ = folder.Close() // only the name is needed
	}
	if err != nil {
		s.groups.remove(p.cgroup)
		return err
	}
	s.attend(p)
	if err := s.guard.Add(guard.Entry{PID: p.PID(), Group: p.group, Grace: c.Grace, Ask: c.Ask, Alone: c.AskAlone, Cgroup: p.cgroup}); err != nil {
		s.opts.Log.Warn("a process is started without the guard", "pid", p.PID(), "error", err.Error())
	}
	if err := pass(ours); err != nil {
		p.Kill()
		<-p.exited
		return err
	}
	return nil
}

// gate makes the socket at which the shim waits.
func gate() (ours, theirs *os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
		err = syscall.SetNonblock(fds[0], true) // so that it knows deadlines
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, fmt.Errorf("socket to the first step of a process: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "gate"), os.NewFile(uintptr(fds[1]), "gate"), nil
}

// pass opens the gate and waits until the program runs: its end of the gate is closed
// by exec. What comes before that is why it does not run.
func pass(gate *os.File) error {
	err := gate.SetDeadline(time.Now().Add(execTime))
	if err == nil {
		_, _ = gate.Write([]byte{1}) // a shim that has given up already has written why
		var why []byte
		why, err = io.ReadAll(gate)
		if len(why) > 0 {
			return errors.New(string(why))
		}
	}
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("the first step of the process: %w", err)
	}
	return nil
}

func (s *Spawner) learn(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[pid] = true
}

// forget has the process reaped, after which its number may be another's.
func (s *Spawner) forget(pid int, cgroup string, reap func()) {
	if s.guard != nil && cgroup != "" {
		s.groups.end(cgroup)
	}
	if s.guard != nil {
		s.guard.Drop(pid, reap)
	} else {
		reap()
	}
	s.unlearn(pid)
}

func (s *Spawner) unlearn(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, pid)
}

// adopt reaps orphans that became ours, as process 1 or as their subreaper. The exits
// of our own children are left alone.
func (s *Spawner) adopt() {
	t := time.NewTicker(adoptEvery)
	defer t.Stop()
	seen := map[int]bool{}
	for {
		select {
		case <-s.quit:
			return
		case <-t.C:
			seen = s.reapOrphans(seen)
		}
	}
}

// reapOrphans reaps the zombies that were seen before and gives those seen now.
func (s *Spawner) reapOrphans(before map[int]bool) map[int]bool {
	now := map[int]bool{}
	for _, pid := range zombies() {
		s.mu.Lock()
		known := s.known[pid]
		s.mu.Unlock()
		switch {
		case known:
		case !before[pid]:
			now[pid] = true
		default:
			if status, ok := reapOne(pid); ok {
				s.opts.Log.Debug("an orphan was reaped", "pid", pid, "status", int(status))
			}
		}
	}
	return now
}

// GuardPID is the guard's process; 0 where there is none.
func (s *Spawner) GuardPID() int {
	if s.guard == nil {
		return 0
	}
	return s.guard.PID()
}

// Close ends the thread, and lets the guard end what the children left behind; it
// comes after the end of all children.
func (s *Spawner) Close() {
	s.once.Do(func() {
		close(s.quit)
		if s.guard != nil {
			s.guard.Close()
		}
		s.groups.close()
	})
	<-s.done
	s.wait.Wait()
}
