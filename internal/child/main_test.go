package child

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"slices"
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
	case "limited":
		beLimited()
	case "hoard":
		hoard()
	default:
		goleak.VerifyTestMain(m)
	}
}

// family is a shell line that starts a process in its own group and one in a session of
// its own, and names them.
const family = `sleep 1000 & echo group $!; setsid sh -c 'echo session $$; exec sleep 1000' & sleep 1000 & echo leader $$; wait`

// stranger adds one that neither its group nor its environment tells of.
const stranger = `env -i setsid sh -c 'echo stranger $$; exec sleep 1000' & `

// beHost starts such a family and waits to be killed. With a TREE, the folder of a cgroup
// that is its own, it lives there.
func beHost() {
	tree := os.Getenv("TREE")
	if tree != "" {
		if err := os.WriteFile(tree+"/cgroup.procs", []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
			fmt.Println("error", err)
			return
		}
	}
	s := NewSpawner(Options{Instance: rand.Text()})
	c := Child{Path: "sh", Name: "p01", Args: []string{"-c", family}, Env: os.Environ(), Stdout: os.Stdout}
	if seconds, err := strconv.Atoi(os.Getenv("GRACE")); err == nil {
		c.Grace = time.Duration(seconds) * time.Second
		c.Args[1] = `trap 'echo asked; exit' TERM; ` + family
		if os.Getenv("ASK") == "INT" { // the leader alone, who ends the others
			c.Ask, c.AskAlone = syscall.SIGINT, true
			c.Args[1] = `trap 'echo interrupted; trap "" TERM; kill 0; exit' INT; ` + family
		}
	}
	if tree != "" {
		c.Args[1] = stranger + c.Args[1]
	}
	if _, err := s.Spawn(c); err != nil {
		fmt.Println("error", err)
		return
	}
	fmt.Println("guard", s.GuardPID())
	select {}
}

// beLimited moves into a cgroup and tells how two of its children end: one that wants
// more memory than there is, and one that somebody kills.
func beLimited() {
	if err := os.WriteFile(os.Getenv("CGROUP"), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		fmt.Println(err)
		return
	}
	s := NewSpawner(Options{Instance: rand.Text()})
	defer s.Close()
	self, err := os.Executable()
	if err != nil {
		fmt.Println(err)
		return
	}
	first := 1000 // for the kernel to choose
	for _, c := range []Child{
		{Path: self, Args: []string{"-test.run=^$"}, Env: append(os.Environ(), "ROLE=hoard"), OOMScoreAdj: &first, Stdout: os.Stdout},
		{Path: "sh", Args: []string{"-c", "kill -9 $$"}, Env: os.Environ()},
	} {
		p, err := s.Spawn(c)
		if err != nil {
			fmt.Println(err)
			return
		}
		<-p.Exited()
		fmt.Println(p.Verdict())
	}
}

// hoard takes memory until it is killed, within bounds.
func hoard() {
	var all [][]byte
	for range 64 {
		piece := make([]byte, 64<<20)
		for i := 0; i < len(piece); i += 4096 {
			piece[i] = 1
		}
		all = append(all, piece)
	}
	fmt.Println("it has", len(all), "pieces")
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
	members := 4
	if slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, "TREE=") }) {
		members++
	}
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
	for len(h.pids) < members && h.lines.Scan() {
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
