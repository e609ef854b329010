// Package kill kills workers while clients write, read and are pushed to, and holds in the
// end what they were told against what is there.
package kill

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

	mu       sync.Mutex // guards the rest
	failures []error    // of clients: something else than a guarantee does not hold
	problems []error    // what there is is not what clients were told
	awaits   *awaits

	kills int
	backs []back
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
			w.run(duration(longRun))
			w.report()
			w.inTime()
			if w.kills == 0 || w.told.Load() == 0 || w.unknown.Load() == 0 {
				t.Errorf("%d kills, %d answers, %d without one: nothing was tried", w.kills, w.told.Load(), w.unknown.Load())
			}
		})
	}
}

// TestSoakTheKillTestFindsABrokenGuarantee switches one off, in a build of the server that
// can do without it or in the worker. In `make soak` each of twenty seeds must find it, in as
// many rounds as it takes within a minute; here one of ten in a single round, for in so short a
// time luck has a part.
func TestSoakTheKillTestFindsABrokenGuarantee(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	binary := filepath.Join(t.TempDir(), "soakhost")
	if out, err := exec.Command("go", "build", "-tags", "guado_faults", "-o", binary, "../soakhost").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	seeds, must, rounds := 10, 1, 1
	if soaks() {
		seeds, must, rounds = 20, 20, int(time.Minute/shortRun)
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
			var took []int
			const enough = 3 // that find nothing: the rest would say no more
			for i := 0; i < seeds && (found < must || must == seeds) && len(took)-found < max(enough, seeds-must); i++ {
				broken.kind, broken.binary = "wsgi", binary
				w := newWorld(t, broken, first+uint64(i))
				n := 0
				for ; n < rounds && len(w.problems) == 0; n++ {
					w.run(shortRun)
				}
				if len(w.problems) > 0 {
					found++
					t.Logf("seed %d, round %d: %.300v", w.seed, n, w.problems[0])
				} else {
					t.Logf("seed %d found nothing", w.seed)
				}
				for _, err := range w.failures {
					t.Logf("beside that: %v", err)
				}
				took = append(took, n)
				w.server.Signal(syscall.SIGTERM)
				w.server.Wait(patience)
			}
			t.Logf("%d of %d seeds found it, in so many rounds: %v", found, len(took), took)
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

// soaks reports whether this is `make soak`.
func soaks() bool { return os.Getenv("GUADO_SOAK") != "" }

func duration(long time.Duration) time.Duration {
	if soaks() {
		return long
	}
	return shortRun
}

func newWorld(t *testing.T, o setting, seed uint64) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t, setting: o, seed: seed, rand: rand.New(rand.NewPCG(seed, 1)), history: newHistory()}
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

// users are who uses the browsers: one of them has two, and the last is a guest's.
var users = []string{"anna", "anna", "bruno", ""}

// run lets clients live while workers die, and looks at what is left. It may do so again.
func (w *world) run(how time.Duration) {
	w.t.Helper()
	if len(w.tabs) == 0 {
		w.come()
	}
	w.enough = make(chan struct{})
	var living sync.WaitGroup
	for _, one := range w.tabs {
		living.Go(func() {
			if err := one.live(); err != nil {
				w.failed(err)
			}
		})
	}
	over := time.After(how)
	for alive := true; alive; {
		served := w.pause()
		select {
		case <-time.After(served):
			w.kill(served)
		case <-over:
			alive = false
		}
	}
	close(w.enough)
	living.Wait()
	w.look()
}

// come opens the browsers, each with tabs, and logs users in.
func (w *world) come() {
	w.t.Helper()
	const tabs = 3
	for _, user := range users {
		b := newBrowser(w)
		for range tabs {
			w.open(b, user)
		}
	}
}

// pause is how long the next worker may serve: a second or so. Who dies so soon is started again
// after a while. In the long run most serve long enough to be started again at once.
func (w *world) pause() time.Duration {
	short := time.Duration(600+w.rand.IntN(1400)) * time.Millisecond
	if soaks() && w.setting.binary == "" && w.rand.IntN(3) > 0 {
		return atOnce + short
	}
	return short
}

func (w *world) problem(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.problems = append(w.problems, err)
}

func (w *world) failed(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = append(w.failures, err)
}

// open gives a browser one more tab; every second one speaks over its socket.
func (w *world) open(b *browser, user string) {
	w.t.Helper()
	page, err := b.open()
	if err == nil && user != b.user {
		err = b.login(page, user)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	one := &tab{number: len(w.tabs), page: page, browser: b, world: w, copy: newCopied(w.overOf())}
	if one.socket, err = b.connect(page, one.copy, nil); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { one.socket.close() })
	if err := one.share(); err != nil {
		w.t.Fatal(err)
	}
	one.ask = func(d do, into any) error { return b.post("/", page, d, into) }
	if len(w.tabs)%2 == 1 {
		one.ask = one.converse
	}
	w.tabs = append(w.tabs, one)
}

// look holds what is there against what clients were told.
func (w *world) look() {
	w.t.Helper()
	for _, one := range w.tabs {
		if err := one.check(); err != nil {
			w.problem(err)
		}
	}
	if err := w.history.check(patience); err != nil {
		w.problem(err)
	}
}

// report says what was done, and what is wrong.
func (w *world) report() {
	w.t.Helper()
	for _, err := range slices.Concat(w.failures, w.problems) {
		w.t.Error(err)
	}
	appended, once, taken, wrote := 0, 0, 0, 0
	for _, one := range w.tabs {
		appended += len(one.log.appended)
		once += len(one.wrote)
		taken += one.copy.taken
		wrote += one.copy.wrote
	}
	keys, operations := w.history.size()
	w.t.Logf("%d workers and %d hosts killed; %d operations on %d registers, %d on logs, %d written once, %d written by clients, who were told of %d changes; %d answers, %d without one",
		w.kills, w.number, operations, keys, appended, once, wrote, taken, w.told.Load(), w.unknown.Load())
}
