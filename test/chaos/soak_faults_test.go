package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
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
	soakClients = 12
	soakShort   = 20 * time.Second
	// make soak: ten samples, each after so many requests to the app that nothing is done to.
	soakSamples = 10
	soakSample  = 1_000_000
	// soakMemory is what a host may have grown by in the short run: what its pools and
	// its allocator keep after a mixed load, which the samples of the long one tell from
	// what grows with time.
	soakMemory = 16 << 20
	soakFiles  = 8
)

// TestSoakFaults loads a host in many ways, breaks something every few seconds, and
// wants every request answered but those that a killed worker had started, and none
// started twice. The seed is printed; GUADO_SOAK_SEED=N plays it again. `make soak` runs
// it for minutes, with the load of wrk beside it, and wants the memory of the host not
// to grow with requests.
func TestSoakFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("GUADO_SOAK_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("GUADO_SOAK_SEED=%d", seed)
	w := newFaultWorld(t, seed)
	w.run(0, func() { <-time.After(3 * time.Second) }) // what is kept from the first load on is no leak
	memory, files := w.measure()
	if os.Getenv("GUADO_SOAK") == "" {
		w.run(1, func() { <-time.After(soakShort) })
	} else {
		w.sample()
	}
	w.reload(settings{processes: 1})
	w.settle()
	after, filesAfter := w.measure()
	t.Logf("%d answered; %d lost, %d of them in the moment before they could say that they had started, with %d killed processes; %d reloads; host %d KiB before, %d KiB after; %d descriptors before, %d after",
		w.answered.Load(), w.lost, w.unnoted, len(w.killed), w.reloads, memory>>10, after>>10, files, filesAfter)
	if after > memory+soakMemory {
		t.Errorf("the host grew from %d to %d KiB", memory>>10, after>>10)
	}
	if filesAfter > files+soakFiles {
		t.Errorf("the host had %d descriptors and has %d", files, filesAfter)
	}
	if w.unnoted > len(w.killed) {
		t.Errorf("%d requests were lost that had not started", w.unnoted)
	}
	if w.answered.Load() < 100 {
		t.Errorf("only %d requests were answered: that is no load", w.answered.Load())
	}
	for number, times := range w.begun() {
		if len(times) > 1 {
			t.Errorf("request %s was started %d times, by %v", number, len(times), times)
		}
	}
}

// faultWorld is a host under load with faults.
type faultWorld struct {
	t        *testing.T
	s        *harness.Server
	seed     uint64
	dir      string
	settings settings
	serial   atomic.Int64
	answered atomic.Int64
	reloads  int // taken

	mu      sync.Mutex // guards the rest
	killed  map[int]time.Time
	lost    int
	unnoted int // of those that are lost
}

func newFaultWorld(t *testing.T, seed uint64) *faultWorld {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "soakhost")
	if out, err := exec.Command("go", "build", "-o", binary, "./soakhost").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w := &faultWorld{t: t, seed: seed, dir: dir, killed: map[int]time.Time{}, settings: settings{processes: 1}}
	w.write(w.settings.text(w))
	if err := os.WriteFile(filepath.Join(dir, "file"), bytes.Repeat([]byte("f"), 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	w.s = harness.Start(t, harness.Options{File: filepath.Join(dir, "guado.toml"), Binary: binary})
	w.settle()
	return w
}

// settle waits until all processes serve again.
func (w *faultWorld) settle() {
	w.t.Helper()
	want := map[string]int{"shop": 2, "api": 2, "cpu": w.settings.processes, "steady": 1, "program": 1, "guard": 1}
	soon(w.t, "all processes, and no others", func() bool {
		n := map[string]int{}
		for role, pids := range w.processes() {
			n[role] = len(pids)
		}
		return maps.Equal(n, want)
	})
	c := harness.Client(w.t, "http1")
	for _, path := range []string{"/echo", "/task", "/api/task", "/steady/"} {
		text(w.t, c, fmt.Sprintf("%s%s?n=1&ms=0&id=%s", w.s.URL, path, w.number()))
	}
}

// measure gives the host's memory once nothing is under way, and its descriptors.
func (w *faultWorld) measure() (memory, files int) {
	w.said("collected", func() { w.s.Signal(syscall.SIGUSR1) })
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", w.s.PID))
	if err != nil {
		w.t.Fatal(err)
	}
	return rssAnon(w.t, w.s.PID), len(list)
}

// said does something and waits until the host has said one of the words once more. It
// gives the line.
func (w *faultWorld) said(word string, do func()) string {
	lines := func() (all []string) {
		for line := range strings.SplitSeq(w.s.Log(), "\n") {
			if strings.HasPrefix(line, word) {
				all = append(all, line)
			}
		}
		return all
	}
	before := len(lines())
	do()
	soon(w.t, "that the host says "+word, func() bool { return len(lines()) > before })
	return lines()[before]
}

// sample loads and breaks the host and looks at its memory, again and again.
func (w *faultWorld) sample() {
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		w.t.Fatal("wrk is not installed: tools/setup.sh bench installs it")
	}
	var xs, ys []float64
	total := 0
	for n := range uint64(soakSamples + 1) { // the first one warms up
		before, done := w.answered.Load(), 0
		w.run(n+1, func() { done = load(w.t, wrk, w.s.URL+"/steady", soakSample) })
		w.settle()
		memory, _ := w.measure()
		if n > 0 {
			total += done + int(w.answered.Load()-before)
			xs, ys = append(xs, float64(total)), append(ys, float64(memory))
		}
		w.t.Logf("sample %2d: %8d requests, host %6d KiB", n, total, memory>>10)
	}
	slope := leastSquares(xs, ys)
	w.t.Logf("with faults: %.3f bytes per request over %d requests", slope, total)
	if slope > 1 {
		w.t.Errorf("memory grows by %.3f bytes per request", slope)
	}
}

// run loads the host while body runs; round 0 has no faults.
func (w *faultWorld) run(round uint64, body func()) {
	ctx, cancel := context.WithCancel(context.Background())
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
		wg.Go(func() { w.breakThings(ctx, rand.New(rand.NewPCG(w.seed, 1<<40|round))) })
	}
	defer wg.Wait() // also when body ends the test
	defer cancel()
	body()
}

// number makes the name of a request.
func (w *faultWorld) number() string { return strconv.FormatInt(w.serial.Add(1), 10) }

// request sends one request of the mix and judges its end.
func (w *faultWorld) request(c *http.Client, r *rand.Rand) {
	method, path, size, want, milliseconds := "GET", "/echo", 0, len("hello"), 0
	switch r.IntN(15) {
	case 0, 1:
	case 2, 3:
		method, size = "POST", 1+r.IntN(5000)
	case 4:
		method, size = "POST", 1+r.IntN(3<<20)
	case 5:
		path, want = "/big", 1+r.IntN(2<<20)
	case 6, 7:
		method, path, size = "POST", "/api/echo", 1+r.IntN(5000)
	case 8:
		path = "/api/echo"
	case 9:
		path, want = "/task", 1+r.IntN(100_000)
	case 10:
		path, want = "/api/task", 1+r.IntN(100_000)
	case 11:
		path, want = "/files/file", 100_000
	case 12:
		path, want, milliseconds = "/nap", len("rested"), 20+r.IntN(400)
	case 13:
		path, want, milliseconds = "/api/nap", len("rested"), 20+r.IntN(400)
	case 14:
		path, want, milliseconds = "/task", 7, 20+r.IntN(400)
	}
	var body []byte
	if size > 0 {
		body, want = bytes.Repeat([]byte("e"), size), size
	}
	w.ask(c, method, fmt.Sprintf("%s?n=%d&ms=%d", path, want, milliseconds), body, want)
}

// ask sends a request and wants so many bytes. It has a number for the applications.
func (w *faultWorld) ask(c *http.Client, method, path string, body []byte, want int) {
	number, began := w.number(), time.Now()
	path += "&id=" + number
	what := method + " " + path
	req, err := http.NewRequest(method, w.s.URL+path, bytes.NewReader(body))
	if err != nil {
		w.t.Error(err)
		return
	}
	res, err := c.Do(req)
	if err != nil {
		w.judge(number, what, began, fmt.Errorf("no answer: %w", err))
		return
	}
	got, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	switch {
	case res.StatusCode == http.StatusBadGateway && bytes.Contains(got, []byte("worker_died")):
		w.judge(number, what, began, errors.New("502 worker_died"))
	case err != nil:
		w.judge(number, what, began, fmt.Errorf("cut after %d bytes: %w", len(got), err))
	case string(got) == "its process died":
		w.judge(number+".task", what, began, errors.New("its task died"))
	case res.StatusCode != http.StatusOK:
		w.t.Errorf("%s: %d %.200q", what, res.StatusCode, got)
	case len(got) != want:
		w.t.Errorf("%s: %d bytes of %d", what, len(got), want)
	default:
		w.answered.Add(1)
	}
}

// judge lets a request fail only when a worker that was killed had started it. One that
// was killed just when it was about to say so is counted apart.
func (w *faultWorld) judge(number, what string, began time.Time, failure error) {
	processes := w.begun()[number]
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, pid := range processes {
		if !w.killed[pid].IsZero() {
			w.lost++
			return
		}
	}
	for _, at := range w.killed {
		if len(processes) == 0 && at.After(began) {
			w.lost++
			w.unnoted++
			return
		}
	}
	w.t.Errorf("%s failed, started by %v, none of which was killed: %v", what, processes, failure)
}

// begun are the processes that have started each request and task.
func (w *faultWorld) begun() map[string][]int {
	all := map[string][]int{}
	notes, err := os.ReadFile(filepath.Join(w.dir, "ledger"))
	if err != nil {
		w.t.Error(err)
	}
	for line := range strings.Lines(string(notes)) {
		number, process, _ := strings.Cut(strings.TrimSpace(line), " ")
		pid, err := strconv.Atoi(process)
		if err != nil {
			w.t.Errorf("ledger: %q", line)
		}
		all[number] = append(all[number], pid)
	}
	return all
}
