// Package kill kills workers while clients write, read and are pushed to, and holds in the
// end what they were told against what is there.
package kill

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/guado-server/guado/test/harness"
)

const (
	shortRun = 6 * time.Second
	longRun  = 4 * time.Minute
)

// world is one server, and who uses it.
type world struct {
	t       *testing.T
	setting setting
	start   func() *harness.Server
	hosts   sync.RWMutex // guards server and number; held while the host is started again
	server  *harness.Server
	number  int // of the host that serves now
	seed    uint64
	rand    *rand.Rand
	tabs    []*tab
	history *history
	enough  chan struct{}

	told, unknown atomic.Int64

	mu       sync.Mutex // guards problems
	problems []error

	kills int
	back  []time.Duration // from a kill to the next answer
}

// TestSoakKilledWorkersLoseNothingThatAClientWasTold kills the worker every second or two. The
// seed is printed; GUADO_SOAK_SEED=N plays it again, and GUADO_SOAK makes it minutes.
func TestSoakKilledWorkersLoseNothingThatAClientWasTold(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	kinds := []string{"wsgi", "asgi"}
	for i, transport := range harness.Transports() {
		t.Run(kinds[i%2]+"/"+transport, func(t *testing.T) {
			w := newWorld(t, setting{kind: kinds[i%2], transport: transport}, seed(t))
			w.run(duration())
			for _, err := range w.problems {
				t.Error(err)
			}
			if w.kills == 0 || w.told.Load() == 0 || w.unknown.Load() == 0 {
				t.Errorf("%d kills, %d answers, %d without one: nothing was tried", w.kills, w.told.Load(), w.unknown.Load())
			}
		})
	}
}

// TestSoakTheKillTestFindsABrokenGuarantee switches one off, in a build of the server that
// can do without it or in the worker. In `make soak` each of twenty seeds must find it; here
// one of ten, for in so short a time luck has a part.
func TestSoakTheKillTestFindsABrokenGuarantee(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	binary := filepath.Join(t.TempDir(), "soakhost")
	if out, err := exec.Command("go", "build", "-tags", "guado_faults", "-o", binary, "../soakhost").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	seeds, must, how := 10, 1, shortRun
	if os.Getenv("GUADO_SOAK") != "" {
		seeds, must, how = 20, 20, 4*shortRun
	}
	first := seed(t)
	for name, broken := range map[string]setting{
		"a commit is taken whatever its number":          {host: "sequence", worker: "sequence"},
		"a commit leaves out what was only read":         {worker: "reads"},
		"the host takes a commit over behind its answer": {host: "late"},
		"a request that comes again is done again":       {host: "again"},
	} {
		t.Run(name, func(t *testing.T) {
			found := 0
			for i := 0; i < seeds && (found < must || must == seeds); i++ {
				broken.kind, broken.binary = "wsgi", binary
				w := newWorld(t, broken, first+uint64(i))
				w.run(how)
				if len(w.problems) > 0 {
					found++
				} else {
					t.Logf("seed %d found nothing", w.seed)
				}
				w.server.Signal(syscall.SIGTERM)
			}
			if found < must {
				t.Errorf("%d of %d seeds found it", found, seeds)
			}
		})
	}
}

func seed(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("GUADO_SOAK_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("GUADO_SOAK_SEED=%d", seed)
	return seed
}

// setting is what a world is made of.
type setting struct {
	kind, transport string
	binary          string // another than bin/guado
	state           string // more of [state]
	hosts           bool   // the host is killed, too
	host, worker    string // guarantees that are switched off
}

func duration() time.Duration {
	if os.Getenv("GUADO_SOAK") != "" {
		return longRun
	}
	return shortRun
}

func newWorld(t *testing.T, o setting, seed uint64) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t, setting: o, seed: seed, rand: rand.New(rand.NewPCG(seed, 1)), history: newHistory(), enough: make(chan struct{})}
	config := fmt.Sprintf(`
[server]
listen = ["127.0.0.1:0"]
phase = 4
state_dir = %q
[state]
%[6]s
[[app]]
name = "kill"
kind = %[2]q
target = "kill_app:app"
dir = %q
python = %q
threads = 8
env = { TEST_KIND = %[2]q, TEST_BUG = %[5]q }
[[mount]]
app = "kill"
idempotency = %[7]v
`, filepath.Join(dir, "state"), o.kind, harness.Apps(), harness.Python(t, "newest"), o.worker, o.state, o.host != "again")
	w.start = func() *harness.Server {
		return harness.Start(t, harness.Options{Transport: o.transport, Binary: o.binary, Env: []string{"GUADO_FAULT=" + o.host}, Config: config})
	}
	w.server = w.start()
	return w
}

// run lets clients live while workers die, and looks at what is left.
func (w *world) run(how time.Duration) {
	w.t.Helper()
	const browsers, tabs = 6, 2
	for range browsers {
		b := newBrowser(w)
		for range tabs {
			w.open(b)
		}
	}
	var living sync.WaitGroup
	for _, one := range w.tabs {
		living.Go(func() {
			if err := one.live(); err != nil {
				w.problem(err)
			}
		})
	}
	over := time.After(how)
	for alive := true; alive; {
		pause := time.Duration(600+w.rand.IntN(1400)) * time.Millisecond
		select {
		case <-time.After(pause):
			w.kill()
		case <-over:
			alive = false
		}
	}
	close(w.enough)
	living.Wait()
	w.look()
}

func (w *world) problem(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.problems = append(w.problems, err)
}

// open gives a browser one more tab; every second one speaks over its socket.
func (w *world) open(b *browser) {
	w.t.Helper()
	page, err := b.open()
	if err != nil {
		w.t.Fatal(err)
	}
	one := &tab{number: len(w.tabs), page: page, browser: b, world: w}
	if one.socket, err = b.connect(page, nil); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { one.socket.close() })
	one.ask = func(d do, into any) error { return b.post("/", page, d, into) }
	if len(w.tabs)%2 == 1 {
		one.ask = one.converse
	}
	w.tabs = append(w.tabs, one)
}

// kill ends the worker and measures until somebody is told something again.
func (w *world) kill() {
	before := w.told.Load()
	at := time.Now()
	if w.setting.hosts && w.rand.IntN(2) == 0 {
		w.killHost()
	} else {
		pids := w.server.Workers()
		if len(pids) == 0 {
			return // it is still starting
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err == nil {
				w.kills++
			}
		}
	}
	for w.told.Load() <= before+int64(len(w.tabs)) && time.Since(at) < patience {
		time.Sleep(time.Millisecond)
	}
	w.back = append(w.back, time.Since(at))
}

// look holds what is there against what clients were told.
func (w *world) look() {
	w.t.Helper()
	for _, one := range w.tabs {
		if err := one.check(); err != nil {
			w.problem(err)
		}
	}
	operations, err := w.history.check(patience)
	if err != nil {
		w.problem(err)
	}
	appended := 0
	for _, one := range w.tabs {
		appended += len(one.log.appended)
	}
	w.t.Logf("%d kills; %d operations on registers (%d without an answer), %d on logs; until answers came again: %v",
		w.kills, operations, w.unknown.Load(), appended, w.back)
}
