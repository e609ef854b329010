package guado_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/guado-server/guado"
)

// jobs is what the processes run.
const jobs = `
import ctypes, os, time

def square(x):
    return x * x

def pid():
    return os.getpid()

def size(data):
    return len(data)

def zeros(n):
    return bytes(n)

def wrong():
    raise LookupError("no such thing")

class Odd(Exception):
    def __init__(self, a, b):
        super().__init__("odd")

def odd():
    raise Odd(1, 2)

def unpicklable():
    return lambda: 0

def die():
    os.kill(os.getpid(), 9)

def spin():
    try:
        while True:
            pass
    except BaseException as error:
        print("told by", type(error).__name__, flush=True)
        raise

def sleep():
    time.sleep(1000)

def grip():
    """Computes in C for seconds, and keeps the GIL."""
    ctypes.PyDLL(None).sleep(7)
    return "done"

def hold(folder, name):
    """Says that it runs and waits until it may end."""
    open(os.path.join(folder, name + ".runs"), "w").close()
    while not os.path.exists(os.path.join(folder, "go")):
        time.sleep(0.01)
    return name
`

// caller is the application: /name?… answers with what came of a task.
const caller = `
import asyncio, os, time
import guado, jobs

FOLDER = os.environ["FOLDER"]

def task(path):
    cpu, one = guado.executor("cpu"), guado.executor("one")
    return {
        "/square": lambda: cpu.submit(jobs.square, 7),
        "/size": lambda: cpu.submit(jobs.size, bytes(3_000_000)),
        "/zeros": lambda: cpu.submit(jobs.zeros, 3_000_000),
        "/wrong": lambda: cpu.submit(jobs.wrong),
        "/odd": lambda: cpu.submit(jobs.odd),
        "/unpicklable": lambda: cpu.submit(jobs.unpicklable),
        "/lambda": lambda: cpu.submit(lambda: 0),
        "/die": lambda: cpu.submit(jobs.die),
        "/pid": lambda: cpu.submit(jobs.pid),
        "/short": lambda: guado.executor("short").submit(jobs.pid),
        "/bypass": lambda: guado.executor("bypass").submit(jobs.pid),
        "/typo": lambda: guado.executor("cup"),
        "/hold": lambda: one.submit(jobs.hold, FOLDER, "held"),
        "/late": lambda: guado.executor("one", timeout=0.3).submit(jobs.hold, FOLDER, "late"),
        "/spin": lambda: guado.executor("one", timeout=0.3).submit(jobs.spin),
        "/sleep": lambda: guado.executor("one", timeout=0.3).submit(jobs.sleep),
        "/grip": lambda: one.submit(jobs.grip),
        "/onepid": lambda: one.submit(jobs.pid),
        "/next": lambda: one.submit(jobs.hold, FOLDER, "next"),
    }[path]()

def text(result):
    return f"{len(result)} bytes" if isinstance(result, bytes) else str(result)

def failure(error):
    return f"{type(error).__name__}: {error}\n{error.__cause__}"


def cancel():
    """Submits behind a task that runs, and takes it back."""
    t = task("/next")
    return f"{t.cancel()} {t.cancelled()} {t.done()}"

def cancel_running():
    t = task("/hold")
    while not os.path.exists(os.path.join(FOLDER, "held.runs")):
        time.sleep(0.01)
    return f"{t.cancel()} {t.cancelled()} {t.done()}"

def wsgi(environ, start):
    start("200 OK", [])
    path = environ["PATH_INFO"]
    try:
        special = {"/cancel": cancel, "/cancelrunning": cancel_running}.get(path)
        return [(special() if special else text(task(path).result())).encode()]
    except Exception as error:
        return [failure(error).encode()]

async def asgi(scope, receive, send):
    path = scope["path"]
    try:
        if path == "/cancel":
            answer = cancel()
        elif path == "/blocking":
            answer = text(task("/square").result())
        elif path == "/many":
            cpu = guado.executor("cpu")
            answer = text(sum(await asyncio.gather(*(cpu.submit(jobs.square, n) for n in range(100)))))
        else:
            answer = text(await task(path))
    except Exception as error:
        answer = failure(error)
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": answer.encode()})
`

// calls is a site whose application has executors.
func calls(t *testing.T, transport, kind string, change ...func(*guado.App)) (s *site, folder string) {
	t.Helper()
	s, c := newSite(t, transport)
	dir := t.TempDir()
	for name, text := range map[string]string{"jobs.py": jobs, "caller.py": caller} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a := app(t, guado.WSGI("caller:"+kind))
	a.Kind, a.Dir, a.Env = kind, dir, map[string]string{"FOLDER": dir}
	for _, f := range change {
		f(&a)
	}
	s.Mount("/", a)
	cpu, one, bypass, short := guado.NewExecutor("cpu"), guado.NewExecutor("one"), guado.NewExecutor("bypass"), guado.NewExecutor("short")
	cpu.Processes, cpu.Preload = 2, []string{"jobs"}
	one.Queue, bypass.Bypass, short.MaxTasks = 1, true, 3
	c.Executors = []guado.Executor{cpu, one, bypass, short}
	s.run()
	return s, dir
}

func (s *site) executor(name string) guado.ExecutorStatus {
	for _, e := range s.Status().Executors {
		if e.Name == name {
			return e
		}
	}
	s.t.Fatalf("no executor %s", name)
	return guado.ExecutorStatus{}
}

func (s *site) eventually(what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func TestAnApplicationRunsFunctionsOnAnExecutor(t *testing.T) {
	for _, transport := range transports() {
		for _, kind := range []string{"wsgi", "asgi"} {
			t.Run(transport+" "+kind, func(t *testing.T) {
				s, _ := calls(t, transport, kind)
				for path, want := range map[string]string{
					"/square": "49", "/size": "3000000", "/zeros": "3000000 bytes",
					"/wrong":       "LookupError: no such thing\n\nTraceback (most recent call last):\n",
					"/odd":         "RuntimeError: Odd: odd\n",
					"/unpicklable": "TypeError: what unpicklable returned cannot be pickled",
					"/lambda":      "<lambda> cannot be run by another process: define it with def at the top of a module",
					"/typo":        "UnknownExecutor: there is no [[executor]] 'cup'; did you mean 'cpu'?",
				} {
					if got := s.get(path); !strings.Contains(got, want) {
						t.Errorf("%s: %q, want %q", path, got, want)
					}
				}
				if got := s.get("/wrong"); !strings.Contains(got, "jobs.py\", line") {
					t.Errorf("no traceback of the process: %q", got)
				}
				worker := strconv.Itoa(s.Status().Groups[0].Workers[0].PID)
				if in, here := s.get("/pid"), s.get("/bypass"); in == worker || here != worker {
					t.Errorf("the worker is %s, tasks ran in %s and, bypassed, in %s", worker, in, here)
				}
				if kind == "asgi" {
					if got := s.get("/many"); got != "328350" {
						t.Errorf("many: %s", got)
					}
					if got := s.get("/blocking"); got != "49" {
						t.Errorf("blocking: %s", got)
					}
				}
				if st := s.executor("cpu"); st.Done == 0 || st.Waiting != 0 || st.Lost != 0 {
					t.Errorf("%+v", st)
				}
			})
		}
	}
}

func TestAKilledProcessFailsItsTaskAlone(t *testing.T) {
	s, _ := calls(t, "auto", "wsgi")
	others := make(chan string, 20)
	for range cap(others) {
		go func() {
			_, body, err := s.do("GET", "/square", "")
			others <- fmt.Sprint(body, err)
		}()
	}
	if got := s.get("/die"); !strings.HasPrefix(got, "ProcessDied: ") {
		t.Errorf("%q", got)
	}
	for range cap(others) {
		if got := <-others; got != "49<nil>" {
			t.Errorf("another task: %s", got)
		}
	}
	if got := s.get("/square"); got != "49" {
		t.Errorf("afterwards: %q", got)
	}
	if st := s.executor("cpu"); st.Lost != 1 {
		t.Errorf("%+v", st)
	}
}

func TestTasksThatWaitAreBoundedCanBeCancelledAndHaveADeadline(t *testing.T) {
	for _, kind := range []string{"wsgi", "asgi"} {
		t.Run(kind, func(t *testing.T) {
			s, folder := calls(t, "auto", kind)
			held := make(chan string, 1)
			go func() {
				_, body, err := s.do("GET", "/hold", "")
				held <- fmt.Sprint(body, err)
			}()
			s.eventually("a task runs", func() bool {
				_, err := os.Stat(filepath.Join(folder, "held.runs"))
				return err == nil
			})
			if got := s.get("/late"); !strings.HasPrefix(got, "TaskTimeout: ") {
				t.Errorf("its time is over while it waits: %q", got)
			}
			if got := s.get("/cancel"); got != "True True True" {
				t.Errorf("cancelled: %q", got)
			}
			s.eventually("its place is free", func() bool { return s.executor("one").Waiting == 1 })
			waits := make(chan string, 1)
			go func() {
				_, body, err := s.do("GET", "/next", "")
				waits <- fmt.Sprint(body, err)
			}()
			s.eventually("another one waits", func() bool { return s.executor("one").Waiting == 2 })
			if got := s.get("/next"); !strings.HasPrefix(got, "QueueFull: executor one runs 1 tasks and 1 wait") {
				t.Errorf("with a full queue: %q", got)
			}
			for _, name := range []string{"late.runs", "next.runs"} {
				if _, err := os.Stat(filepath.Join(folder, name)); err == nil {
					t.Errorf("%s: a task that was cancelled or too late has run", name)
				}
			}
			if err := os.WriteFile(filepath.Join(folder, "go"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if a, b := <-held, <-waits; a != "held<nil>" || b != "next<nil>" {
				t.Errorf("%s, %s", a, b)
			}
			if st := s.executor("one"); st.Done != 2 || st.Refused != 1 || st.Expired != 1 || st.Cancelled != 1 {
				t.Errorf("%+v", st)
			}
		})
	}
}

func TestWhatAWorkerHadCalledIsForgottenWhenItDies(t *testing.T) {
	s, folder := calls(t, "auto", "wsgi")
	answers := make(chan int, 2)
	for _, path := range []string{"/hold", "/next"} {
		go func() {
			status, _, _ := s.do("GET", path, "")
			answers <- status
		}()
	}
	s.eventually("one task runs and one waits", func() bool { return s.executor("one").Waiting == 2 })
	if err := syscall.Kill(s.Status().Groups[0].Workers[0].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if status := <-answers; status != 502 {
			t.Errorf("status %d", status)
		}
	}
	if err := os.WriteFile(filepath.Join(folder, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.eventually("no task is left", func() bool { return s.executor("one").Waiting == 0 })
	if st := s.executor("one"); st.Cancelled != 2 {
		t.Errorf("%+v", st)
	}
	s.eventually("the application is there again", func() bool {
		status, body, err := s.do("GET", "/square", "")
		return err == nil && status == 200 && body == "49"
	})
}

func TestAProcessIsReplacedAfterItsTasks(t *testing.T) {
	s, _ := calls(t, "auto", "wsgi")
	seen := map[string]bool{}
	s.eventually("three processes have run tasks", func() bool {
		pid := s.get("/short")
		if _, err := strconv.Atoi(pid); err != nil {
			t.Fatalf("a task failed: %q", pid)
		}
		seen[pid] = true
		return len(seen) == 3
	})
}

func TestATaskThatRunsPastItsDeadlineIsInterruptedAndItsProcessReplaced(t *testing.T) {
	s, _ := calls(t, "auto", "wsgi")
	for path, say := range map[string]string{"/spin": "told by RequestTimeout", "/sleep": "time.sleep(1000)"} {
		before := s.get("/onepid")
		if got := s.get(path); !strings.HasPrefix(got, "TaskTimeout: ") {
			t.Errorf("%s: %q", path, got)
		}
		s.eventually("another process runs the tasks", func() bool {
			after := s.get("/onepid")
			_, err := strconv.Atoi(after)
			return err == nil && after != before
		})
		s.eventually("it is told: "+say, func() bool { return strings.Contains(s.log.String(), say) })
	}
	if st := s.executor("one"); st.Expired != 2 || st.Waiting != 0 || st.Lost != 0 {
		t.Errorf("%+v", st)
	}
}

func TestACancelledTaskThatRunsGoesOnAndHoldsItsProcess(t *testing.T) {
	s, folder := calls(t, "auto", "wsgi")
	if got := s.get("/cancelrunning"); got != "True True True" {
		t.Errorf("cancelled: %q", got)
	}
	s.eventually("it counts as cancelled", func() bool { return s.executor("one").Cancelled == 1 })
	next := make(chan string, 1)
	go func() {
		_, body, err := s.do("GET", "/next", "")
		next <- fmt.Sprint(body, err)
	}()
	s.eventually("the next one waits", func() bool { return s.executor("one").Waiting == 1 })
	if _, err := os.Stat(filepath.Join(folder, "next.runs")); err == nil {
		t.Error("two tasks run on one process")
	}
	if err := os.WriteFile(filepath.Join(folder, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := <-next; got != "next<nil>" {
		t.Errorf("the next one: %s", got)
	}
	if strings.Contains(s.log.String(), "worker is recycled") || strings.Contains(s.log.String(), "worker died") {
		t.Error("its process was replaced")
	}
}

func TestATaskMayComputeForLongerThanARequestMayHang(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long: make test runs it")
	}
	s, _ := calls(t, "auto", "wsgi", func(a *guado.App) {
		a.PingTimeout, a.HangTimeout, a.SlowRequest = guado.Duration(3*time.Second), guado.Duration(time.Second), guado.Duration(time.Second)
		a.RequestTimeout = nil
	})
	if got := s.get("/grip"); got != "done" {
		t.Errorf("%q", got)
	}
	if log := s.log.String(); strings.Contains(log, "worker hangs") || strings.Contains(log, "slow request\" request_id=call") {
		t.Error("it was taken for a worker that hangs")
	}
}
