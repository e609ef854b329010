package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/guado-server/guado/test/harness"
)

const (
	soakThreads = 4
	soakClients = 12
	soakShort   = 20 * time.Second
	soakLong    = 4 * time.Minute
	// soakMemory is what a host may have grown by: what its pools and its allocator keep
	// after a mixed load, which does not grow with time (the other soak test holds that).
	soakMemory = 16 << 20
	soakFiles  = 8
)

// TestSoakFaults loads a host in many ways, breaks something every few seconds, and
// wants every request answered but those that a killed worker had started. The seed is
// printed; GUADO_SOAK_SEED=N plays it again. `make soak` runs it for minutes.
func TestSoakFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 20 seconds")
	}
	length, seed := soakShort, uint64(time.Now().UnixNano())
	if os.Getenv("GUADO_SOAK") != "" {
		length = soakLong
	}
	if text := os.Getenv("GUADO_SOAK_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("GUADO_SOAK_SEED=%d", seed)
	w := newFaultWorld(t, seed)
	w.run(0, 3*time.Second) // what is kept from the first load on is no leak
	memory, files := w.measure()
	w.run(1, length)
	w.settle()
	after, filesAfter := w.measure()
	t.Logf("%d answered, %d lost with %d killed workers; host %d KiB before, %d KiB after; %d descriptors before, %d after",
		w.answered.Load(), w.lost.Load(), w.kills.Load(), memory>>10, after>>10, files, filesAfter)
	if after > memory+soakMemory {
		t.Errorf("the host grew from %d to %d KiB", memory>>10, after>>10)
	}
	if filesAfter > files+soakFiles {
		t.Errorf("the host had %d descriptors and has %d", files, filesAfter)
	}
	if most := w.kills.Load() * (soakThreads + soakClients); w.lost.Load() > most {
		t.Errorf("%d requests were lost with %d workers of %d threads and as many tasks as clients", w.lost.Load(), w.kills.Load(), soakThreads)
	}
	if w.answered.Load() < 100 {
		t.Errorf("only %d requests were answered: that is no load", w.answered.Load())
	}
}

// faultWorld is a host under load with faults.
type faultWorld struct {
	t        *testing.T
	s        *harness.Server
	seed     uint64
	answered atomic.Int64
	lost     atomic.Int64
	kills    atomic.Int64
	mu       sync.Mutex // guards killed
	killed   []time.Time
}

func newFaultWorld(t *testing.T, seed uint64) *faultWorld {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "soakhost")
	if out, err := exec.Command("go", "build", "-o", binary, "./soakhost").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	app := func(name, target string, more string) string {
		return fmt.Sprintf("[[app]]\nname = %q\ntarget = %q\ndir = %q\npython = %q\nqueue_wait = \"60s\"\n%s\n",
			name, target, harness.Apps(), harness.Python(t, "newest"), more)
	}
	config := "[server]\nlisten = [\"127.0.0.1:0\"]\nh2c = true\ngraceful_timeout = \"60s\"\n" +
		app("shop", "slow:application", fmt.Sprintf("workers = 2\nthreads = %d", soakThreads)) +
		app("api", "soak:asgi", "kind = \"asgi\"\nworkers = 2") +
		"[[mount]]\npath = \"/\"\napp = \"shop\"\n[[mount]]\npath = \"/api\"\napp = \"api\"\n"
	w := &faultWorld{t: t, seed: seed, s: harness.Start(t, harness.Options{Config: config, Binary: binary})}
	w.settle()
	return w
}

// workers are the processes that serve Python now.
func (w *faultWorld) workers() (pids []int) {
	for _, pid := range w.s.Workers() {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && bytes.Contains(line, []byte("guado.worker")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// settle waits until all four workers serve again.
func (w *faultWorld) settle() {
	deadline := time.Now().Add(time.Minute)
	for len(w.workers()) < 4 {
		if time.Now().After(deadline) {
			w.t.Fatalf("%d workers after a minute:\n%s", len(w.workers()), w.s.Log())
		}
		time.Sleep(50 * time.Millisecond) // no event says so from outside
	}
	c := harness.Client(w.t, "http1")
	for _, path := range []string{"/pid", "/api/"} {
		text(w.t, c, w.s.URL+path)
	}
}

// measure gives the host's memory once nothing is under way, and its descriptors.
func (w *faultWorld) measure() (memory, files int) {
	before := strings.Count(w.s.Log(), "collected")
	w.s.Signal(syscall.SIGUSR1)
	for strings.Count(w.s.Log(), "collected") == before {
		w.s.WaitLog("collected", time.Minute)
	}
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", w.s.PID))
	if err != nil {
		w.t.Fatal(err)
	}
	return rssAnon(w.t, w.s.PID), len(list)
}

// run loads the host; round 0 has no faults.
func (w *faultWorld) run(round uint64, length time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), length)
	defer cancel()
	var wg sync.WaitGroup
	for n := range soakClients {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(w.seed, round<<32|uint64(n)))
			c := harness.Client(w.t, []string{"http1", "http2"}[n%2])
			for ctx.Err() == nil {
				w.request(c, r)
			}
			c.CloseIdleConnections()
		})
	}
	if round > 0 {
		wg.Go(func() { w.breakThings(ctx, rand.New(rand.NewPCG(w.seed, 1<<40))) })
	}
	wg.Wait()
}

// request sends one request of the mix and judges its end.
func (w *faultWorld) request(c *http.Client, r *rand.Rand) {
	method, path, body, want := "GET", "/pid", []byte(nil), -1
	switch r.IntN(10) {
	case 0, 1, 2:
	case 3, 4:
		method, path, body = "POST", "/echo", bytes.Repeat([]byte("e"), 1+r.IntN(5000))
	case 5:
		method, path, body = "POST", "/echo", bytes.Repeat([]byte("E"), 1+r.IntN(3<<20))
	case 6:
		want = 1 + r.IntN(2<<20)
		path = fmt.Sprintf("/big?n=%d", want)
	case 7, 8:
		method, path, body = "POST", "/api/echo", bytes.Repeat([]byte("a"), 1+r.IntN(5000))
	case 9:
		path = "/api/"
	}
	if body != nil {
		want = len(body)
	}
	began := time.Now()
	req, err := http.NewRequest(method, w.s.URL+path, bytes.NewReader(body))
	if err != nil {
		w.t.Error(err)
		return
	}
	res, err := c.Do(req)
	if err != nil {
		w.judge(method, path, began, fmt.Errorf("no answer: %w", err))
		return
	}
	got, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	switch {
	case res.StatusCode == http.StatusBadGateway && bytes.Contains(got, []byte("worker_died")):
		w.judge(method, path, began, errors.New("502 worker_died"))
	case err != nil:
		w.judge(method, path, began, fmt.Errorf("cut after %d bytes: %w", len(got), err))
	case res.StatusCode != http.StatusOK:
		w.t.Errorf("%s %s: %d %.200q", method, path, res.StatusCode, got)
	case want >= 0 && len(got) != want:
		w.t.Errorf("%s %s: %d bytes of %d", method, path, len(got), want)
	default:
		w.answered.Add(1)
	}
}

// judge lets a request fail only when a worker was killed while it was under way.
func (w *faultWorld) judge(method, path string, began time.Time, failure error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, at := range w.killed {
		if at.After(began) {
			w.lost.Add(1)
			return
		}
	}
	w.t.Errorf("%s %s failed though no worker was killed meanwhile: %v", method, path, failure)
}

// breakThings does one of the faults every few seconds.
func (w *faultWorld) breakThings(ctx context.Context, r *rand.Rand) {
	faults := []struct {
		name string
		do   func(*rand.Rand)
	}{
		{"kill a worker", w.kill}, {"kill a worker", w.kill}, {"stop a worker for a while", w.pause},
		{"restart all workers", func(*rand.Rand) { w.s.Signal(syscall.SIGUSR2) }},
		{"hold the GIL", w.spin}, {"half a request", w.half}, {"a client that leaves", w.leave}, {"bytes that are no HTTP", w.garbage},
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(500+r.IntN(2000)) * time.Millisecond):
		}
		f := faults[r.IntN(len(faults))]
		w.t.Logf("%s: %s", time.Now().Format("15:04:05.000"), f.name)
		f.do(r)
	}
}

func (w *faultWorld) kill(r *rand.Rand) {
	pids := w.workers()
	if len(pids) == 0 {
		return
	}
	pid := pids[r.IntN(len(pids))]
	// Under the lock: whoever fails because of it must find it noted.
	w.mu.Lock()
	defer w.mu.Unlock()
	if syscall.Kill(pid, syscall.SIGKILL) == nil {
		w.killed = append(w.killed, time.Now())
		w.kills.Add(1)
	}
}

func (w *faultWorld) pause(r *rand.Rand) {
	pids := w.workers()
	if len(pids) == 0 {
		return
	}
	pid := pids[r.IntN(len(pids))]
	if syscall.Kill(pid, syscall.SIGSTOP) == nil {
		time.Sleep(time.Duration(100+r.IntN(700)) * time.Millisecond) // how long it stands still
		_ = syscall.Kill(pid, syscall.SIGCONT)                        // it may have been ended
	}
}

func (w *faultWorld) spin(*rand.Rand) {
	c := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	began := time.Now()
	res, err := c.Get(w.s.URL + "/spin?s=0.5")
	if err != nil {
		w.judge("GET", "/spin", began, err)
		return
	}
	_ = res.Body.Close()
}

// raw writes to a connection of its own and leaves.
func (w *faultWorld) raw(text []byte) {
	conn, err := net.DialTimeout("tcp", w.s.Addr, 30*time.Second)
	if err != nil {
		w.t.Errorf("no connection: %v", err)
		return
	}
	_, _ = conn.Write(text) // the host may close first
	_ = conn.Close()
}

func (w *faultWorld) half(*rand.Rand) {
	w.raw([]byte("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nhalf"))
}

func (w *faultWorld) leave(*rand.Rand) {
	w.raw([]byte("GET /big?n=50000000 HTTP/1.1\r\nHost: x\r\n\r\n"))
}

func (w *faultWorld) garbage(r *rand.Rand) {
	text := make([]byte, 2000)
	for i := range text {
		text[i] = byte(r.Uint32())
	}
	w.raw(text)
}
