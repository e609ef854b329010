package child

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience bounds every wait for an event.
const patience = 30 * time.Second

// The test binary is shim, guard, host and child too.
func TestMain(m *testing.M) {
	if code, is := Main(os.Args, os.Environ()); is {
		os.Exit(code)
	}
	_ = os.Setenv("GORACE", "atexit_sleep_ms=0") // of the processes started here: they sleep a second at exit otherwise
	switch os.Getenv("ROLE") {
	case "host":
		beHost()
	default:
		goleak.VerifyTestMain(m)
	}
}

// family is a shell line that starts a process in its own group and one in a session of
// its own, and names them.
const family = `sleep 1000 & echo group $!; setsid sh -c 'echo session $$; exec sleep 1000' & sleep 1000 & echo leader $$; wait`

// beHost starts such a family and waits to be killed.
func beHost() {
	s := NewSpawner(Options{Instance: rand.Text()})
	c := Child{Path: "sh", Args: []string{"-c", family}, Env: os.Environ(), Stdout: os.Stdout}
	if seconds, err := strconv.Atoi(os.Getenv("GRACE")); err == nil {
		c.Grace = time.Duration(seconds) * time.Second
		c.Args[1] = `trap 'echo asked; exit' TERM; ` + family
		if os.Getenv("ASK") == "INT" { // the leader alone, who ends the others
			c.Ask, c.AskAlone = syscall.SIGINT, true
			c.Args[1] = `trap 'echo interrupted; trap "" TERM; kill 0; exit' INT; ` + family
		}
	}
	if _, err := s.Spawn(c); err != nil {
		fmt.Println("error", err)
		return
	}
	fmt.Println("guard", s.GuardPID())
	select {}
}

// run starts a child and gives its output and its end.
func run(t *testing.T, c Child) (string, *Process) {
	t.Helper()
	s := NewSpawner(Options{Instance: rand.Text()})
	defer s.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	c.Stdout, c.Stderr = w, w
	p, err := s.Spawn(c)
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for in := bufio.NewScanner(r); in.Scan(); {
		text.WriteString(in.Text() + "\n")
	}
	<-p.Exited()
	return text.String(), p
}

// gone reports whether a process has ended; one that nobody reaps counts as ended.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return syscall.Kill(pid, 0) != nil
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(rest, "Z")
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// host is a process that has started a family, by the names of its members.
type host struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
	pids  map[string]int
}

func startHost(t *testing.T, env ...string) *host {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := &host{cmd: exec.Command(self, "-test.run=^$"), pids: map[string]int{}}
	h.cmd.Env = append(append(os.Environ(), "ROLE=host"), env...)
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = h.cmd.Process.Kill()
		_ = h.cmd.Wait() // killed
	})
	h.lines = bufio.NewScanner(out)
	for len(h.pids) < 4 && h.lines.Scan() {
		name, pid, _ := strings.Cut(h.lines.Text(), " ")
		if h.pids[name], err = strconv.Atoi(pid); err != nil {
			t.Fatal(h.lines.Text())
		}
	}
	return h
}

// kill kills the host and waits until none of its processes is left.
func (h *host) kill(t *testing.T) {
	t.Helper()
	if err := h.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for name, pid := range h.pids {
		eventually(t, name+" is gone", func() bool { return gone(pid) })
	}
}
