package guado_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/guado-server/guado"
	"github.com/guado-server/guado/test/harness"
)

const patience = 30 * time.Second

// site is a server of this library that runs in the test.
type site struct {
	*guado.Server
	t    *testing.T
	url  string
	log  *harness.Log
	stop context.CancelFunc
	err  chan error // of Run
	done bool
}

func newSite(t *testing.T, transport string) (*site, *guado.Config) {
	t.Helper()
	c := guado.Default()
	c.Server.Listen = []string{"127.0.0.1:0"}
	c.Server.Transport = transport
	c.Server.CacheDir = t.TempDir()
	c.Server.StateDir = t.TempDir()
	c.Dir = harness.Apps()
	s := &site{Server: guado.New(c), t: t, log: &harness.Log{}, err: make(chan error, 1)}
	s.Log = slog.New(slog.NewTextHandler(s.log, nil))
	s.Stdout, s.Stderr = s.log, s.log
	return s, c
}

// app is an application of test/apps on a Python of the test environments.
func app(t *testing.T, a guado.App) guado.App {
	a.Python = harness.Python(t, "newest")
	return a
}

func (s *site) run() {
	s.t.Helper()
	ready := make(chan guado.Status, 1)
	s.Ready = func(st guado.Status) { ready <- st }
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() { s.err <- s.Run(ctx) }()
	s.t.Cleanup(func() {
		if !s.done {
			s.Cut()
			_ = s.end()
		}
		if s.t.Failed() {
			s.t.Log(s.log.String())
		}
	})
	select {
	case st := <-ready:
		s.url = st.Listen[0]
	case err := <-s.err:
		s.done = true
		s.t.Fatalf("Run: %v\n%s", err, s.log.String())
	case <-time.After(patience):
		s.t.Fatalf("not ready\n%s", s.log.String())
	}
}

func (s *site) end() error {
	s.stop()
	s.done = true
	select {
	case err := <-s.err:
		return err
	case <-time.After(patience):
		s.t.Error("Run does not return")
		return nil
	}
}

func (s *site) do(method, path, body string) (int, string, error) {
	r, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	c := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := c.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

func (s *site) get(path string) string {
	s.t.Helper()
	status, body, err := s.do("GET", path, "")
	if err != nil || status != 200 {
		s.t.Fatalf("%s: %d %q %v", path, status, body, err)
	}
	return body
}

func transports() []string {
	if runtime.GOOS == "linux" {
		return []string{"shm", "socket"}
	}
	return []string{"socket"}
}

func onEach(t *testing.T, f func(t *testing.T, transport string)) {
	for _, transport := range transports() {
		t.Run(transport, func(t *testing.T) { f(t, transport) })
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	harness.Eventually(t, what, patience, ok)
}

func TestApplicationsAndGoHandlersAnswerSideBySide(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		s, _ := newSite(t, transport)
		s.Mount("/", app(t, guado.WSGI("witness:wsgi")))
		api := guado.ASGI("witness:asgi")
		api.Name = "api"
		s.Mount("/api", app(t, api))
		s.Mount("/go", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "go saw "+r.URL.Path) }))
		s.Mount("/files", guado.Static("."))
		s.Mount("/old", guado.Redirect("/new"))
		s.run()
		if got := s.get("/shop"); !strings.Contains(got, `"path": "/shop"`) {
			t.Errorf("WSGI: %s", got)
		}
		if got := s.get("/api/x"); !strings.Contains(got, `"path": "/api/x"`) {
			t.Errorf("ASGI: %s", got)
		}
		if got := s.get("/go/x"); got != "go saw /x" {
			t.Errorf("Go: %s", got)
		}
		if got := s.get("/files/counted.py"); !strings.Contains(got, "Counts each call") {
			t.Errorf("static: %s", got)
		}
		st := s.Status()
		if len(st.Groups) != 2 || st.Groups[0].Workers[0].Slot != "p01" || st.Groups[1].Workers[0].Slot != "p02" {
			t.Errorf("slots are numbered once per host: %+v", st)
		}
		if err := s.end(); err != nil {
			t.Error(err)
		}
	})
}

func TestOnlyStartedRequestsFailWhenTheirWorkerIsKilledWithAllThreadsHeld(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		const threads, clients = 8, 64
		h := holding(t, transport, func(a *guado.App) { a.Threads = threads })
		pid, err := strconv.Atoi(strings.Fields(h.get("/pid"))[0])
		if err != nil {
			t.Fatal(err)
		}
		type answer struct {
			status int
			own    bool
			err    error
		}
		answers := make(chan answer, clients)
		for i := range clients {
			go func() {
				body := strings.Repeat(fmt.Sprintf("request %d of many; ", i), 1+i*50)
				status, got, err := h.do("POST", fmt.Sprintf("/%d", i), body)
				answers <- answer{status, got == body, err}
			}()
		}
		eventually(t, "all threads are held", func() bool { return len(h.calls()) == threads })
		eventually(t, "all requests are sent", func() bool {
			return h.Status().Groups[0].Queue.Workers[0].WSGI == clients
		})
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(h.hold); err != nil {
			t.Fatal(err)
		}
		ok, failed := 0, 0
		for range clients {
			a := <-answers
			switch {
			case a.err == nil && a.status == 200 && a.own:
				ok++
			case a.err == nil && a.status == 502:
				failed++
			default:
				t.Errorf("%+v", a)
			}
		}
		if failed > threads || ok < clients-threads {
			t.Errorf("%d failed, %d answered with their own body", failed, ok)
		}
		if n := len(h.calls()); n != clients {
			t.Errorf("%d calls of the application for %d requests", n, clients)
		}
	})
}

// held is a server of the counting application whose requests are held.
type held struct {
	*site
	count, hold string
}

func holding(t *testing.T, transport string, change func(*guado.App)) *held {
	t.Helper()
	dir := t.TempDir()
	h := &held{count: filepath.Join(dir, "count"), hold: filepath.Join(dir, "hold")}
	if err := os.WriteFile(h.hold, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h.site, _ = newSite(t, transport)
	a := app(t, guado.WSGI("counted:application"))
	a.Env = map[string]string{"COUNT_FILE": h.count, "HOLD_FILE": h.hold}
	change(&a)
	h.Mount("/", a)
	h.run()
	return h
}

// calls are the processes that the application was called in, in order.
func (h *held) calls() []string {
	b, err := os.ReadFile(h.count)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		h.t.Fatal(err)
	}
	var pids []string
	for line := range strings.Lines(string(b)) {
		pids = append(pids, strings.Fields(line)[1])
	}
	return pids
}

func TestAFreeWorkerTakesWhatWaitsForABusyOne(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		h := holding(t, transport, func(a *guado.App) { a.Threads, a.Workers = 1, 2 })
		eventually(t, "both workers are ready", func() bool { return len(h.Status().Groups[0].Queue.Workers) == 2 })
		var load sync.WaitGroup
		defer load.Wait()
		for range 2 {
			load.Go(func() { _, _, _ = h.do("GET", "/held", "") })
		}
		eventually(t, "both are busy", func() bool { return len(h.calls()) == 2 })
		pids := h.calls()
		if pids[0] == pids[1] {
			t.Fatalf("both requests went to worker %s", pids[0])
		}
		answers := make(chan string, 8)
		for range cap(answers) {
			go func() {
				_, body, err := h.do("GET", "/free", "")
				answers <- fmt.Sprint(body, " ", err)
			}()
		}
		eventually(t, "all are sent or wait", func() bool {
			q := h.Status().Groups[0].Queue
			return q.Waiting+q.Workers[0].WSGI+q.Workers[1].WSGI == 10
		})
		// One worker goes on; the other never does while this test looks.
		if err := errors.Join(os.WriteFile(h.hold+"."+pids[0], nil, 0o600), os.Remove(h.hold)); err != nil {
			t.Fatal(err)
		}
		for range cap(answers) {
			select {
			case got := <-answers:
				if got != pids[1]+" True <nil>" {
					t.Errorf("answered %q, the free worker is %s", got, pids[1])
				}
			case <-time.After(patience):
				t.Fatal("a request waits behind the busy worker while the other is free")
			}
		}
		if err := os.Remove(h.hold + "." + pids[0]); err != nil {
			t.Fatal(err)
		}
	})
}

func TestARequestOverItsDeadlineGets504WhileItsThreadIsStillTaken(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		deadline := guado.Duration(300 * time.Millisecond)
		h := holding(t, transport, func(a *guado.App) { a.Threads, a.RequestTimeout = 1, &deadline })
		taken := func() (n int) { // its worker may have a successor already
			for _, w := range h.Status().Groups[0].Queue.Workers {
				n += w.WSGI
			}
			return n
		}
		if status, body, err := h.do("GET", "/stubborn", ""); err != nil || status != 504 || !strings.Contains(body, "deadline") {
			t.Errorf("%d %q %v", status, body, err)
		}
		if n := taken(); n != 1 {
			t.Errorf("%d threads are said to be taken", n)
		}
		if err := os.Remove(h.hold); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the thread is free", func() bool { return taken() == 0 })
		if got := h.get("/free"); !strings.HasSuffix(got, " False") {
			t.Errorf("wsgi.multiprocess with one worker: %q", got)
		}
	})
}

func TestAnOnlyApplicationThatCannotBeImportedEndsTheServer(t *testing.T) {
	s, _ := newSite(t, "auto")
	s.Mount("/", app(t, guado.WSGI("nothing_there:app")))
	err := s.Run(context.Background())
	var boot *guado.BootError
	if !errors.Is(err, guado.ErrNeverReady) || !errors.As(err, &boot) || boot.Stage != "import" {
		t.Fatalf("%v", err)
	}
	if !strings.Contains(s.log.String(), "nothing_there") {
		t.Errorf("log: %s", s.log.String())
	}
}

func TestAnApplicationThatCannotBeImportedLeavesTheOthersAlone(t *testing.T) {
	s, _ := newSite(t, "auto")
	s.Mount("/", app(t, guado.WSGI("witness:wsgi")))
	broken := guado.WSGI("nothing_there:app")
	s.Mount("/broken", app(t, broken))
	s.run()
	if status, body, err := s.do("GET", "/broken/", ""); status != 503 || !strings.Contains(body, "app_unavailable") || strings.Contains(body, "nothing_there") {
		t.Errorf("%d %q %v", status, body, err)
	}
	s.get("/fine")
}

func TestAStopLetsRequestsUnderWayFinish(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		s := holding(t, transport, func(*guado.App) {})
		idle, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = idle.Close() }()
		answered := make(chan string, 1)
		go func() {
			_, body, err := s.do("POST", "/held", "finished")
			answered <- fmt.Sprint(body, err)
		}()
		eventually(t, "the request is at the application", func() bool { return len(s.calls()) == 1 })
		s.stop()
		if err := idle.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(idle).ReadByte(); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("an idle connection: %v", err)
		}
		eventually(t, "no new connection is accepted", func() bool {
			c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
			if err == nil {
				_ = c.Close()
			}
			return err != nil
		})
		if err := os.Remove(s.hold); err != nil {
			t.Fatal(err)
		}
		if got := <-answered; got != "finished<nil>" {
			t.Errorf("the request under way got %q", got)
		}
		if err := s.end(); err != nil {
			t.Error(err)
		}
	})
}

func TestAStopCutsWhatOutlastsItsPatienceAndASecondOneCutsAtOnce(t *testing.T) {
	for name, second := range map[string]bool{"patience": false, "second": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			count, hold := filepath.Join(dir, "count"), filepath.Join(dir, "hold")
			if err := os.WriteFile(hold, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			s, c := newSite(t, "auto")
			if !second {
				c.Server.GracefulTimeout = guado.Duration(300 * time.Millisecond)
				c.Server.ExitTimeout = guado.Duration(300 * time.Millisecond)
			}
			a := app(t, guado.WSGI("counted:application"))
			a.Env = map[string]string{"COUNT_FILE": count, "HOLD_FILE": hold}
			s.Mount("/", a)
			s.run()
			answered := make(chan int, 1)
			go func() {
				status, _, _ := s.do("GET", "/held", "")
				answered <- status
			}()
			eventually(t, "the request is at the application", func() bool { _, err := os.Stat(count); return err == nil })
			began := time.Now()
			s.stop()
			if second {
				s.Cut()
			}
			if err := s.end(); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("the stop took %v", took)
			}
			if status := <-answered; status == 200 {
				t.Errorf("the request got %d", status)
			}
		})
	}
}

func TestAnExceptionGives500AndItsTracebackOnceInTheLogWithTheRequest(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		for _, kind := range []func(string) guado.App{guado.WSGI, guado.ASGI} {
			s, _ := newSite(t, transport)
			a := kind("counted:raises")
			if a.Kind == "asgi" {
				a = kind("counted:raises_async")
			}
			s.Mount("/", app(t, a))
			s.run()
			status, body, err := s.do("GET", "/x", "")
			if err != nil || status != 500 || !strings.Contains(body, "application_error") || strings.Contains(body, "trouble") {
				t.Errorf("%d %q %v", status, body, err)
			}
			_, rest, _ := strings.Cut(body, "request: ")
			id := strings.TrimSpace(rest)
			said := func() (n int) {
				for line := range strings.Lines(s.log.String()) {
					if strings.Contains(line, "ValueError: trouble") {
						n++
						if !strings.Contains(line, id) {
							t.Errorf("the record does not name the request %s: %s", id, line)
						}
					}
				}
				return n
			}
			s.log.Wait(t, patience, "ValueError: trouble")
			if err := s.end(); err != nil {
				t.Error(err)
			}
			if n := said(); n != 1 {
				t.Errorf("%s: the traceback is %d times in the log", a.Kind, n)
			}
		}
	})
}

func TestAMountThatIsNoApplicationIsAnErrorOfRun(t *testing.T) {
	s, _ := newSite(t, "auto")
	s.Mount("/", 42)
	if err := s.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "int") {
		t.Errorf("%v", err)
	}
}
