package supervise_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/guado-server/guado/internal/child"
	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/link/linktest"
	"github.com/guado-server/guado/internal/pool"
	"github.com/guado-server/guado/internal/supervise"
	"github.com/guado-server/guado/test/harness"
)

// patience bounds every wait for an event.
const patience = 20 * time.Second

// The test binary is the worker too: a real process that speaks the link.
func TestMain(m *testing.M) {
	if code, is := child.Main(os.Args, os.Environ()); is {
		os.Exit(code)
	}
	_ = os.Setenv("GORACE", "atexit_sleep_ms=0") // of the processes started here: they sleep a second at exit otherwise
	switch role := os.Getenv("ROLE"); {
	case role == "host":
		beHost()
	case os.Getenv("GUADO_LINK") != "":
		os.Exit(beWorker(role))
	default:
		goleak.VerifyTestMain(m)
	}
}

const traceback = "Traceback (most recent call last):\n  File \"shop.py\", line 1, in <module>\nModuleNotFoundError: No module named 'nothing'\n"

func beWorker(role string) int {
	fmt.Println("worker", os.Getpid(), "as", role)
	if role == "exit" {
		return 7
	}
	p, err := linktest.FromEnv()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	switch {
	case role == "silent", strings.HasPrefix(role, "silent-until:") && missing(role[len("silent-until:"):]):
		fmt.Println("hangs")
		select {}
	case role == "fail", strings.HasPrefix(role, "fail-until:") && missing(role[len("fail-until:"):]):
		if _, err := p.Hello(); err != nil {
			return 1
		}
		_ = p.SendJSON(link.KindFailed, link.BootError{Stage: "import", App: "shop", Message: "No module named 'nothing'", Traceback: traceback, Hint: "install it"})
		return 1
	case role == "fail-all": // for what no single application is to blame
		if _, err := p.Hello(); err != nil {
			return 1
		}
		_ = p.SendJSON(link.KindFailed, link.BootError{Stage: "environment", Message: "gevent has replaced Python's threading"})
		return 1
	case strings.HasPrefix(role, "alternate:"): // fails to boot and dies soon after READY, by turns
		file := role[len("alternate:"):]
		if missing(file) {
			_ = os.WriteFile(file, nil, 0o600)
			return 7
		}
		_ = os.Remove(file)
		_, _ = p.Shake()
		return 0
	case strings.HasPrefix(role, "wait:"):
		for missing(role[len("wait:"):]) {
			time.Sleep(5 * time.Millisecond)
		}
	case role == "flood":
		fmt.Print(strings.Repeat("flood\n", 5000), "the end\n")
	case role == "json":
		fmt.Print("{\"level\":\"info\"}\n{broken\n")
	case role == "output":
		fmt.Fprint(os.Stderr, "to stderr\n")
		fmt.Print(strings.Repeat("x", 200<<10), "\nno newline at the end")
		return 0
	case role == "deaf":
		signal.Ignore(syscall.SIGTERM)
		hello, err := p.Shake()
		if err != nil {
			return 1
		}
		_ = p.Requests(hello, nil) // returns at DRAIN
		select {}
	case role == "parent":
		sleep := exec.Command("sleep", "1000")
		sleep.Stdout = os.Stdout
		if err := sleep.Start(); err != nil {
			return 1
		}
		fmt.Println("child", sleep.Process.Pid)
	case role == "quick":
		_, _ = p.Shake()
		return 0
	case role == "corrupt":
		_, _ = p.Shake()
		_ = p.SendRaw(make([]byte, 64)) // a frame of size 0
		select {}
	}
	err = p.Serve(func(q *linktest.Request) { _ = q.Reply(200, []byte("hello")) })
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("drained")
	return 0
}

func missing(file string) bool {
	_, err := os.Stat(file)
	return err != nil
}

const hostPing = time.Second

// beHost starts a worker and waits to be killed.
func beHost() {
	spawner := child.NewSpawner(child.Options{Instance: rand.Text()})
	o := options("hello", pool.New(pool.Options{Log: slog.New(slog.DiscardHandler)}), spawner)
	o.PingTimeout = hostPing
	g := supervise.New(o)
	g.Start()
	<-g.FirstBoot()
	fmt.Println(g.Status().Workers[0].PID)
	_, _ = fmt.Scanln() // the line that asks for more; its end is as good
	w := g.Status().Workers[0]
	fmt.Println(w.PID, w.Starts)
	select {}
}

func options(role string, crew supervise.Crew, spawner *child.Spawner) supervise.Options {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return supervise.Options{
		Name: "shop", Slots: []string{"p01"}, Crew: crew, Spawner: spawner,
		Hello: link.Hello{Apps: []link.App{{Name: "shop"}}},
		Command: supervise.Command{
			Path: self, Args: []string{"-test.run=^$"},
			Env:     func() ([]string, error) { return append(os.Environ(), "ROLE="+role), nil },
			Package: func(context.Context) (string, error) { return "", nil },
		},
		Log: slog.New(slog.DiscardHandler), BootTimeout: patience, ExitTimeout: 5 * time.Second,
	}
}

// rig is a group of workers and its pool.
type rig struct {
	*supervise.Group
	t           *testing.T
	pool        *pool.Pool
	out, errOut harness.Log
	log         harness.Log
}

func start(t *testing.T, role string, change ...func(*supervise.Options)) *rig {
	t.Helper()
	r := &rig{t: t}
	log := slog.New(slog.NewTextHandler(&r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r.pool = pool.New(pool.Options{Log: log, Spool: pool.NewSpool(pool.SpoolOptions{})})
	spawner := child.NewSpawner(child.Options{Instance: rand.Text()})
	o := options(role, r.pool, spawner)
	o.Log, o.Stdout, o.Stderr = log, supervise.NewLines(&r.out, nil), supervise.NewLines(&r.errOut, nil)
	for _, f := range change {
		f(&o)
	}
	r.Group = supervise.New(o)
	r.Start()
	t.Cleanup(func() {
		cut, cancel := context.WithCancel(context.Background())
		cancel()
		r.Drain(cut)
		spawner.Close()
		if t.Failed() {
			t.Log(r.log.String())
		}
	})
	return r
}

func (r *rig) worker() supervise.WorkerStatus { return r.Status().Workers[0] }

func (r *rig) firstBoot() error {
	r.t.Helper()
	select {
	case err := <-r.FirstBoot():
		return err
	case <-time.After(patience):
		r.t.Fatal("the first boot does not end")
		return nil
	}
}

// ready waits for the n-th worker to be ready and gives its process id.
func (r *rig) ready(n int) int {
	r.t.Helper()
	r.eventually(fmt.Sprintf("worker %d is ready", n), func() bool {
		w := r.worker()
		return w.Starts == n && w.State == supervise.Serving
	})
	return r.worker().PID
}

func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("not within %v: %s (%+v)", patience, what, r.worker())
		}
	}
}

// gone reports whether a process has ended; one that nobody reaps counts as ended.
func gone(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	defer func() { _ = f.Close() }()
	line, _ := bufio.NewReader(f).ReadString('\n')
	fields := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	return len(fields) > 0 && fields[0] == "Z"
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}
