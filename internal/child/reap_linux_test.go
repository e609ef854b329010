package child

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"
)

func TestASignalAfterTheEndDoesNotHitAnotherProcessThatGotTheID(t *testing.T) {
	s := NewSpawner(Options{})
	defer s.Close()
	p, err := s.Spawn(Child{Path: "/bin/true"})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Exited():
	case <-time.After(20 * time.Second):
		t.Fatal("it does not end")
	}
	other := reuse(t, p.PID())
	defer func() {
		_ = other.Process.Kill()
		_ = other.Wait() // killed
	}()
	p.Kill()
	p.Signal(syscall.SIGTERM)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		awaitExit(other.Process.Pid)
	}()
	select {
	case <-ended:
		t.Error("another process was killed")
	case <-time.After(300 * time.Millisecond): // the absence of an event is tested
	}
	_ = other.Process.Kill()
	<-ended
}

// reuse starts a process, leader of its own group, that has this id.
func reuse(t *testing.T, pid int) *exec.Cmd {
	t.Helper()
	for range 50 {
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0); err != nil {
			t.Skipf("the next process id cannot be chosen here: %v", err)
		}
		cmd := exec.Command("sleep", "100")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if cmd.Process.Pid == pid {
			return cmd
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	}
	t.Skip("others were faster to take the process id")
	return nil
}
