package supervise_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/supervise"
)

func TestAWorkerThatIsReadyIsGivenToThePool(t *testing.T) {
	r := start(t, "hello")
	if err := r.firstBoot(); err != nil {
		t.Fatal(err)
	}
	pid := r.ready(1)
	if st := r.pool.Status(); len(st.Workers) != 1 || st.Workers[0].Slot != "p01" {
		t.Errorf("pool %+v", st)
	}
	if pid == 0 || gone(pid) {
		t.Errorf("process %d", pid)
	}
}

func TestAWorkerThatDiesAfterServingStartsAgainAtOnce(t *testing.T) {
	r := start(t, "hello", func(o *supervise.Options) { o.Settled = time.Nanosecond })
	for n := 1; n <= 3; n++ {
		pid := r.ready(n)
		began := time.Now()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		r.ready(n + 1)
		t.Logf("ready again after %v", time.Since(began))
	}
	if strings.Contains(r.log.String(), "put off") {
		t.Error("a start was put off")
	}
	if w := r.worker(); !strings.Contains(w.Last, "killed") {
		t.Errorf("the end of the last one: %q", w.Last)
	}
}

func TestAWorkerThatDiesAgainAndAgainIsPutOff(t *testing.T) {
	r := start(t, "quick")
	r.eventually("its start is put off", func() bool {
		w := r.worker()
		return w.State == supervise.BackingOff && w.Next != nil && w.Starts > 3
	})
}

func TestAnApplicationThatCannotBeImportedIsToldOnceAndTriedAgain(t *testing.T) {
	r := start(t, "fail")
	err := r.firstBoot()
	var boot *link.BootError
	if !errors.As(err, &boot) || boot.Traceback != traceback || boot.Hint != "install it" {
		t.Fatalf("%v", err)
	}
	r.eventually("it was tried again", func() bool { return r.worker().Starts >= 3 })
	log := r.log.String()
	if n := strings.Count(log, "ModuleNotFoundError"); n != 1 {
		t.Errorf("the traceback is %d times in the log", n)
	}
	if strings.Count(log, "worker cannot boot") < 2 || !strings.Contains(log, "install it") || !strings.Contains(log, " app=shop ") {
		t.Errorf("log: %s", log)
	}
	if st := r.pool.Status(); st.Problem == "" {
		t.Error("the pool was not told that there is no worker")
	}
}

func TestAWorkerThatCannotBootNamesNoApplicationWhenNoneIsToBlame(t *testing.T) {
	r := start(t, "fail-all")
	if r.firstBoot() == nil {
		t.Fatal("it booted")
	}
	if log := r.log.String(); !strings.Contains(log, "slot=p01 stage=environment") {
		t.Errorf("log: %s", log)
	}
}

func TestAWorkerThatBootsInTheEndHealsItsGroup(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fixed")
	r := start(t, "fail-until:"+file)
	if r.firstBoot() == nil {
		t.Fatal("it booted")
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.Restart() // a changed file: at once, and not when the pause is over
	r.eventually("the pool has a worker", func() bool { st := r.pool.Status(); return len(st.Workers) == 1 && st.Problem == "" })
}

func TestAWorkerThatExitsBeforeItIsReadyIsAFailedBoot(t *testing.T) {
	r := start(t, "exit")
	if err := r.firstBoot(); err == nil || !strings.Contains(err.Error(), "exit status 7") {
		t.Errorf("%v", err)
	}
}

func TestABootThatSaysNothingEndsAtItsTimeout(t *testing.T) {
	r := start(t, "silent", func(o *supervise.Options) { o.BootTimeout = 300 * time.Millisecond })
	if err := r.firstBoot(); err == nil || !strings.Contains(err.Error(), "boot timeout") {
		t.Errorf("%v", err)
	}
}

func TestAStoppedWorkerIsKilledAndStartedAgain(t *testing.T) {
	r := start(t, "hello", func(o *supervise.Options) { o.PingTimeout = time.Second })
	pid := r.ready(1)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if again := r.ready(2); again == pid || !gone(pid) {
		t.Errorf("process %d, then %d", pid, again)
	}
	if w := r.worker(); !strings.Contains(w.Last, "PING") {
		t.Errorf("the end of the last one: %q", w.Last)
	}
}

func TestAnAliveWorkerIsNotKilledForItsPulse(t *testing.T) {
	r := start(t, "hello", func(o *supervise.Options) { o.PingTimeout = 1500 * time.Millisecond })
	pid := r.ready(1)
	time.Sleep(3 * time.Second) // twice the timeout: the absence of an event is tested
	if w := r.worker(); w.PID != pid || w.Starts != 1 {
		t.Errorf("%+v", w)
	}
}

func TestAWorkerThatBreaksTheProtocolIsEndedAndPutOff(t *testing.T) {
	// However long it has served: it would do the same again.
	r := start(t, "corrupt", func(o *supervise.Options) { o.Settled = time.Nanosecond })
	r.eventually("its start is put off", func() bool { return r.worker().State == supervise.BackingOff })
	if w := r.worker(); !strings.Contains(w.Last, "protocol") {
		t.Errorf("the end of the last one: %q", w.Last)
	}
}

func TestADrainLetsTheWorkerFinish(t *testing.T) {
	r := start(t, "hello")
	pid := r.ready(1)
	r.Drain(context.Background())
	if !gone(pid) || r.worker().State != supervise.Stopped || !strings.Contains(r.out.String(), "drained\n") {
		t.Errorf("%+v, output %q", r.worker(), r.out.String())
	}
	if st := r.pool.Status(); len(st.Workers) != 0 {
		t.Errorf("pool %+v", st)
	}
}

func TestAWorkerThatDoesNotHearIsKilledAfterItsTime(t *testing.T) {
	r := start(t, "deaf", func(o *supervise.Options) { o.ExitTimeout = 200 * time.Millisecond })
	pid := r.ready(1)
	began := time.Now()
	r.Drain(context.Background())
	if took := time.Since(began); !gone(pid) || took < 200*time.Millisecond || took > patience/2 {
		t.Errorf("gone %t after %v", gone(pid), took)
	}
}

func TestACutDrainKillsAtOnce(t *testing.T) {
	r := start(t, "deaf", func(o *supervise.Options) { o.ExitTimeout = time.Hour })
	pid := r.ready(1)
	cut, cancel := context.WithCancel(context.Background())
	drained := make(chan struct{})
	go func() {
		r.Drain(cut)
		close(drained)
	}()
	r.eventually("it drains", func() bool { return r.worker().State == supervise.Draining })
	cancel()
	select {
	case <-drained:
	case <-time.After(patience):
		t.Fatal("still there")
	}
	if !gone(pid) {
		t.Error("the worker lives")
	}
}

func TestADrainEndsABootAndAPause(t *testing.T) {
	for _, role := range []string{"silent", "fail"} {
		r := start(t, role, func(o *supervise.Options) { o.ExitTimeout = 100 * time.Millisecond })
		r.eventually("it has begun", func() bool { w := r.worker(); return w.Starts > 0 || w.State == supervise.BackingOff })
		r.Drain(context.Background())
		if r.worker().State != supervise.Stopped {
			t.Errorf("%s: %+v", role, r.worker())
		}
	}
}

func TestWhatAWorkerLeavesBehindEndsWithIt(t *testing.T) {
	r := start(t, "parent")
	worker := r.ready(1)
	child := 0
	r.eventually("the child is named", func() bool {
		_, rest, ok := strings.Cut(r.out.String(), "child ")
		if ok {
			_, _ = fmt.Sscan(rest, &child)
		}
		return child > 0
	})
	if err := syscall.Kill(worker, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.eventually("the child is gone", func() bool { return gone(child) })
}

func TestOutputPassesByWholeLinesOfBoundedLength(t *testing.T) {
	r := start(t, "output")
	if r.firstBoot() == nil {
		t.Fatal("it booted")
	}
	r.out.Wait(t, patience, "no newline at the end\n")
	if r.errOut.String() != "shop p01 | to stderr\n" {
		t.Errorf("stderr %q", r.errOut.String())
	}
	if strings.Count(r.out.String(), "x") < 200<<10 {
		t.Error("a part of the long line is lost")
	}
}

func TestRestartReplacesTheWorkerInOrder(t *testing.T) {
	r := start(t, "hello")
	pid := r.ready(1)
	r.Restart()
	if again := r.ready(2); again == pid || !gone(pid) {
		t.Errorf("process %d, then %d", pid, again)
	}
	if !strings.Contains(r.out.String(), "drained\n") || strings.Contains(r.log.String(), "worker died") {
		t.Errorf("it was not drained: %s", r.log.String())
	}
}

func TestWorkersOfOneGroupAreIndependent(t *testing.T) {
	r := start(t, "hello", func(o *supervise.Options) { o.Slots = []string{"p01", "p02", "p03"} })
	r.eventually("all are ready", func() bool { return len(r.pool.Status().Workers) == 3 })
	st := r.Status()
	if err := syscall.Kill(st.Workers[1].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.eventually("the second one is there again", func() bool {
		w := r.Status().Workers[1]
		return w.Starts == 2 && w.State == supervise.Serving
	})
	if now := r.Status(); now.Workers[0].PID != st.Workers[0].PID || now.Workers[2].PID != st.Workers[2].PID {
		t.Errorf("%+v", now)
	}
}

func TestWorkersEndWithTheirHost(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the parent-death signal is Linux's; elsewhere the worker reads the end of its control socket")
	}
	host, _, worker := startHost(t)
	if err := host.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = host.Wait() // killed
	for end := time.Now().Add(patience); !gone(worker); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the worker outlived its host")
		}
	}
}

// startHost starts a host with one worker. What is written to it makes it tell of the
// worker once more.
func startHost(t *testing.T) (host *exec.Cmd, say func() string, worker int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	host = exec.Command(self, "-test.run=^$")
	host.Env = append(os.Environ(), "ROLE=host")
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := host.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	if _, scanErr := fmt.Sscan(line, &worker); errors.Join(err, scanErr) != nil || worker == 0 {
		t.Fatal(line, err)
	}
	return host, func() string {
		_, writeErr := in.Write([]byte("tell\n"))
		line, err := lines.ReadString('\n')
		if err := errors.Join(writeErr, err); err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(line)
	}, worker
}

func TestAHostThatStoodStillDoesNotBlameItsWorkers(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long: make test runs it")
	}
	host, say, worker := startHost(t)
	defer func() {
		_ = host.Process.Kill()
		_ = host.Wait() // killed
	}()
	for range 2 {
		if err := host.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * hostPing) // what is tested is that this time does not count
		if err := host.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * hostPing) // as is the absence of an event
	}
	if got, want := say(), fmt.Sprint(worker, " ", 1); got != want {
		t.Errorf("worker and starts %q, want %q", got, want)
	}
}

func TestARestartEndsABootThatHangs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fixed")
	r := start(t, "silent-until:"+file, func(o *supervise.Options) { o.BootTimeout = time.Hour })
	r.out.Wait(t, patience, "hangs\n")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.Restart()
	r.ready(2)
	if strings.Contains(r.log.String(), "cannot boot") {
		t.Error("an ordered restart is told as a failure")
	}
}
