package child

import (
	"crypto/rand"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

func linuxOnly(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the environment of other processes can be read on Linux only")
	}
}

func TestAHostThatIsKilledLeavesNoneOfItsProcessesBehind(t *testing.T) {
	linuxOnly(t)
	startHost(t).kill(t)
}

func TestAHostThatIsKilledWithItsGuardLeavesNoChildBehind(t *testing.T) {
	linuxOnly(t)
	h := startHost(t)
	guard := h.pids["guard"]
	if err := syscall.Kill(guard, syscall.SIGSTOP); err != nil { // no time to be replaced
		t.Fatal(err)
	}
	if err := h.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the leader is killed by the kernel", func() bool { return gone(h.pids["leader"]) })
	if err := syscall.Kill(guard, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	h.kill(t)
}

func TestAGuardThatDiesIsReplacedAndKnowsAllAgain(t *testing.T) {
	linuxOnly(t)
	h := startHost(t)
	if err := syscall.Kill(h.pids["guard"], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the guard is gone", func() bool { return gone(h.pids["guard"]) })
	eventually(t, "there is another one", func() bool { return childNamed(h.cmd.Process.Pid, "guado-guard") > 0 })
	h.kill(t)
}

// childNamed finds a child of a process by its name.
func childNamed(parent int, name string) int {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		var pid, ppid int
		var state string
		_, rest, ok := strings.Cut(string(stat), " ("+name+") ")
		if err != nil || !ok {
			continue
		}
		_, _ = fmt.Sscan(rest, &state, &ppid)
		if _, err := fmt.Sscan(e.Name(), &pid); err == nil && ppid == parent && state != "Z" {
			return pid
		}
	}
	return 0
}

func TestAChildWithGraceIsAskedToEndBeforeItIsKilled(t *testing.T) {
	linuxOnly(t)
	h := startHost(t, "GRACE=60")
	h.kill(t)
	if !h.lines.Scan() || h.lines.Text() != "asked" {
		t.Errorf("it was not asked: %q", h.lines.Text())
	}
}

func TestAChildIsAskedByItsOwnSignal(t *testing.T) {
	linuxOnly(t)
	h := startHost(t, "GRACE=60", "ASK=INT")
	h.kill(t)
	if !h.lines.Scan() || h.lines.Text() != "interrupted" {
		t.Errorf("it was not asked: %q", h.lines.Text())
	}
}

func TestTheGuardHearsNoSignalOfATerminal(t *testing.T) {
	linuxOnly(t)
	h := startHost(t)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		if err := syscall.Kill(h.pids["guard"], sig); err != nil {
			t.Fatal(err)
		}
	}
	h.kill(t)
}

func TestWhatAChildLeavesInAnotherSessionEndsWithTheSpawner(t *testing.T) {
	linuxOnly(t)
	out, _ := run(t, Child{Path: "sh", Args: []string{"-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!"}, Env: os.Environ()})
	var pid int
	if _, err := fmt.Sscan(out, &pid); err != nil {
		t.Fatal(out)
	}
	if !gone(pid) {
		t.Errorf("process %d was left behind", pid)
	}
}

func TestTheFirstStepSetsWhatOnlyTheProcessItselfCan(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("another account needs root")
	}
	id, err := LookupIdentity("12345", "23456")
	if err != nil {
		t.Fatal(err)
	}
	id.Groups = []int{34567}
	mask, score := 0o27, 500
	out, p := run(t, Child{
		Path: "sh", Env: os.Environ(), Identity: id, Umask: &mask, OOMScoreAdj: &score,
		Rlimits: []Rlimit{{"core", 0, 1 << 20}, {"nofile", 512, 1024}},
		Args: []string{"-c", `echo uid=$(id -u) gid=$(id -g) groups=$(id -G) umask=$(umask) nofile=$(ulimit -Sn):$(ulimit -Hn)` +
			` core=$(ulimit -Sc) oom=$(cat /proc/self/oom_score_adj) marker=$GUADO_CHILD.`},
	})
	want := "uid=12345 gid=23456 groups=23456 34567 umask=0027 nofile=512:1024 core=0 oom=500 marker=.\n"
	if out != want || !p.State().Success() {
		t.Errorf("%q, want %q (%v)", out, want, p.State())
	}
}

func TestAChildOfAnotherAccountDiesWithItsHost(t *testing.T) {
	// The change of account forgets the parent-death signal, so it is asked for again.
	linuxOnly(t)
	if os.Getuid() != 0 {
		t.Skip("another account needs root")
	}
	o := order{Death: int(syscall.SIGKILL), Parent: os.Getppid()}
	if err := o.become(); err != nil {
		t.Fatal(err)
	}
	if err := dieWithParent(0); err != nil {
		t.Fatal(err)
	}
	o.Parent = 1 << 29
	if err := o.become(); err != errOrphan { //nolint:errorlint // it is returned as it is
		t.Errorf("a process whose host is gone went on: %v", err)
	}
	if err := dieWithParent(0); err != nil {
		t.Fatal(err)
	}
}

func TestAProgramThatCannotBeExecutedIsToldAtOnce(t *testing.T) {
	s := NewSpawner(Options{Instance: rand.Text()})
	defer s.Close()
	for _, c := range []Child{
		{Path: "/nothing/there"}, {Path: "no-such-command", Env: os.Environ()}, {Path: "/etc/passwd"}, {Path: "/bin/true", Dir: "/nothing"},
		{Path: "/bin/true", Rlimits: []Rlimit{{"nothing", 1, 1}}},
	} {
		if p, err := s.Spawn(c); err == nil {
			<-p.Exited()
			t.Errorf("%+v was started", c)
		}
	}
}

func TestAChildOutlivesTheThreadThatAskedForIt(t *testing.T) {
	linuxOnly(t)
	s := NewSpawner(Options{Instance: rand.Text()})
	defer s.Close()
	started := make(chan *Process)
	for range 8 {
		go func() {
			runtime.LockOSThread() // a goroutine that ends like this takes its thread with it
			p, err := s.Spawn(Child{Path: "sleep", Args: []string{"1000"}, Env: os.Environ()})
			if err != nil {
				t.Error(err)
			}
			started <- p
		}()
	}
	var all []*Process
	for range 8 {
		if p := <-started; p != nil {
			all = append(all, p)
		}
	}
	for _, p := range all {
		if p.Ended(50 * time.Millisecond) { // the absence of an event is tested
			t.Errorf("%s: the kernel took the end of a thread for that of the host", p.Verdict())
		}
	}
	for _, p := range all {
		p.Kill()
		<-p.Exited()
	}
}

func TestWithoutTheHookAChildIsStartedAsItIs(t *testing.T) {
	hooked.Store(false)
	defer hooked.Store(true)
	out, p := run(t, Child{Path: "echo", Args: []string{"hello"}, Env: os.Environ()})
	if out != "hello\n" || !p.State().Success() {
		t.Errorf("%q %v", out, p.State())
	}
	s := NewSpawner(Options{})
	defer s.Close()
	mask := 0
	if _, err := s.Spawn(Child{Path: "/bin/true", Umask: &mask}); err == nil || !strings.Contains(err.Error(), "guado.Child") {
		t.Errorf("the umask was not set, silently: %v", err)
	}
}

func TestDescriptorsOfAChildAreThoseItWasGiven(t *testing.T) {
	linuxOnly(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = errorsClose(r, w) }()
	c := Child{Path: "sh", Args: []string{"-c", "exec ls /proc/self/fd"}, Env: os.Environ(), Files: []*os.File{r, w}}
	got, _ := run(t, c)
	hooked.Store(false)
	defer hooked.Store(true)
	if want, _ := run(t, c); got != want || !strings.Contains(got, "3\n4\n") {
		t.Errorf("descriptors %s, and without the first step %s", got, want)
	}
}

func errorsClose(files ...*os.File) error {
	for _, f := range files {
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

func TestAKillIsBlamedOnWantOfMemoryOnceForEachThatTheKernelCounts(t *testing.T) {
	file := t.TempDir() + "/memory.events"
	count := func(n int) {
		if err := os.WriteFile(file, []byte("low 0\nhigh 3\nmax 7\noom 1\noom_kill "+fmt.Sprint(n)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	count(4)
	tally := oomTally{seen: map[string]int{file: oomKills(file)}}
	if tally.blame(file) {
		t.Error("somebody else's kill was taken for want of memory")
	}
	count(6)
	for i, want := range []bool{true, true, false} {
		if tally.blame(file) != want {
			t.Errorf("two kills are counted, and the answer %d is %t", i, !want)
		}
	}
	if tally.blame("") {
		t.Error("nothing is known here")
	}
}
