package program_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/guado-server/guado/internal/child"
	"github.com/guado-server/guado/internal/program"
	"github.com/guado-server/guado/internal/supervise"
)

// patience is far more than anything here takes, on a busy machine too.
const patience = 60 * time.Second

// spawner is one for all tests: its guard takes a while to end.
var spawner *child.Spawner

// TestMain is the tests, or one of the programs that they run.
func TestMain(m *testing.M) {
	if code, is := child.Main(os.Args, os.Environ()); is {
		os.Exit(code)
	}
	if role := os.Getenv("ROLE"); role != "" {
		os.Exit(play(role))
	}
	spawner = child.NewSpawner(child.Options{Instance: rand.Text()})
	code := m.Run()
	spawner.Close()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Println(err)
		code = 1
	}
	os.Exit(code)
}

// play is what the programs of the tests do.
func play(role string) int {
	switch role {
	case "sleep":
		ask := heard(syscall.SIGTERM)
		fmt.Println("up")
		<-ask
		fmt.Println("down")
		return 0
	case "int": // hears INT alone
		signal.Ignore(syscall.SIGTERM)
		ask := heard(syscall.SIGINT)
		fmt.Println("up")
		<-ask
		return 0
	case "listen":
		fmt.Println("not yet")
		for {
			if _, err := os.Stat("go"); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		l, err := net.Listen(os.Getenv("NETWORK"), os.Getenv("ADDRESS"))
		if err != nil {
			fmt.Println(err)
			return 1
		}
		defer l.Close() //nolint:errcheck // of the test
		<-heard(syscall.SIGTERM)
		return 0
	case "notify", "notify-sleep":
		ask := heard(syscall.SIGTERM)
		conn, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
		if err != nil {
			fmt.Println(err)
			return 1
		}
		_, _ = conn.Write([]byte("STATUS=2 of 7 tasks\nREADY=1"))
		_, _ = conn.Write([]byte("STATUS=3 of 7 tasks"))
		_ = conn.Close()
		if role == "notify-sleep" {
			<-ask
		}
		return 0
	case "deaf":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("up")
		select {}
	}
	return 99
}

// heard is asked before the program says anything: a signal may follow at once.
func heard(s os.Signal) <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, s)
	return c
}

// text collects what is written to it.
type text struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (x *text) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.Write(p)
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.String()
}

// rig is a set of programs, its output and its log.
type rig struct {
	*program.Set
	t        *testing.T
	dir      string
	out, log text
	seen     text // lines that do not reach the host's output
	passed   text // lines that do, and whose they are
}

// shell is a program that a shell runs.
func shell(name, script string) program.Spec {
	return program.Spec{
		Name: name, Program: name, Command: []string{"sh", "-c", script},
		Env:       func() ([]string, error) { return os.Environ(), nil },
		Autostart: true, Restart: program.Always, ExitCodes: []int{0}, StartRetries: 10,
		StopSignal: syscall.SIGTERM, StopTimeout: patience, StopGroup: true,
	}
}

// self is a program that this test binary plays.
func self(t *testing.T, name, role string) program.Spec {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := shell(name, "")
	s.Command = []string{exe, "-test.run=^$"}
	s.Env = func() ([]string, error) { return append(os.Environ(), "ROLE="+role), nil }
	return s
}

func start(t *testing.T, specs ...program.Spec) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir()}
	out := supervise.NewLines(&r.out, func(source, line string) { _, _ = fmt.Fprintln(&r.passed, source, line) })
	for i := range specs {
		if specs[i].Dir == "" {
			specs[i].Dir = r.dir
		}
	}
	r.Set = program.New(program.Options{
		Programs: specs, Spawner: spawner, Stdout: out, Stderr: out,
		Seen: func(name, stream, line string) { _, _ = fmt.Fprintln(&r.seen, name, stream, line) },
		Log:  slog.New(slog.NewTextHandler(io.MultiWriter(&r.log), &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	r.Start()
	t.Cleanup(func() {
		cut, cancel := context.WithCancel(context.Background())
		cancel()
		r.Stop(cut)
		if t.Failed() {
			t.Logf("log:\n%s\noutput:\n%s", r.log.String(), r.out.String())
		}
		if strings.Contains(r.log.String(), "illegal move") {
			t.Error(r.log.String())
		}
	})
	return r
}

func (r *rig) get(name string) program.Status {
	r.t.Helper()
	for _, st := range r.Status(0) {
		if st.Name == name {
			return st
		}
	}
	r.t.Fatalf("no program %s", name)
	return program.Status{}
}

func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("not within %v: %s (%+v)", patience, what, r.Status(5))
		}
	}
}

func (r *rig) becomes(name string, state program.State) program.Status {
	r.t.Helper()
	r.eventually(name+" is "+string(state), func() bool { return r.get(name).State == state })
	return r.get(name)
}

func (r *rig) file(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	r.t.Cleanup(cancel)
	return ctx
}

// gone reports whether a process has ended; one that nobody reaps counts as ended.
func gone(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(rest, "Z")
}
