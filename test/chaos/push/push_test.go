// Package push is the stress test of push: thousands of clients that come and go in every
// bad manner, and hold what they get against what they were promised.
// Before it: nothing. After it: an edge, and sessions behind it.
// Not here: how a single session behaves (internal/push, internal/push/transport).
package push

import (
	"flag"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var seedFlag = flag.Uint64("seed", 0, "repeats the choices of an earlier run; 0: others each time")

// tally is what all clients share.
type tally struct {
	flood    func(page string) (last uint64, err error)
	restarts atomic.Int64

	opened, resumed, anew                 atomic.Int64
	stalls, vanished, malformed, punished atomic.Int64

	mu    sync.Mutex // guards the rest
	codes map[int]int
	kept  []*wire // half-open ones
}

func (y *tally) closed(e *closedError) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.codes[e.code]++
}

func (y *tally) attached(resumed bool) {
	y.opened.Add(1)
	if resumed {
		y.resumed.Add(1)
	} else {
		y.anew.Add(1)
	}
}

// mostKept bounds the descriptors of half-open connections.
const mostKept = 1000

func (y *tally) keep(w *wire) bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	if len(y.kept) >= mostKept {
		return false
	}
	y.kept = append(y.kept, w)
	return true
}

func TestClientsInEveryBadMannerLoseNothingAndLeaveNothing(t *testing.T) {
	clients, visits := 150, 5
	if testing.Short() {
		clients = 50
	}
	seed := chosen(t)
	routines, memory := runtime.NumGoroutine(), heap()
	stress(t, seed, clients, visits, 30)
	nothingLeft(t, routines, memory)
}

func TestSoakClientsOfPushInEveryBadManner(t *testing.T) {
	if os.Getenv("GUADO_SOAK") == "" {
		t.Skip("make soak runs it")
	}
	seed := chosen(t)
	routines := runtime.NumGoroutine()
	stress(t, seed, 5000, 8, 60)
	// What the runtime keeps of so many goroutines it keeps for the next ones.
	memory := heap()
	stress(t, seed+1, 5000, 8, 60)
	nothingLeft(t, routines, memory)
}

func chosen(t *testing.T) uint64 {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("again with -seed %d", seed)
	return seed
}

// stress lets so many clients come so many times, while each page is sent messages.
func stress(t *testing.T, seed uint64, n, visits, messages int) {
	t.Helper()
	h := startHost(t, n)
	y := &tally{codes: map[int]int{}, flood: h.flood}
	w := &world{t: t, host: h, tally: y, seed: seed}
	w.open(n)
	w.mischief(visits, messages)
	w.storm()
	w.settle()
	w.leave()
	h.stop()
	if h.failed != nil {
		t.Error(h.failed)
	}
	t.Logf("%d clients, %d connections: %d resumed, %d anew; %d slow, %d half-open, %d of %d malformed punished; closed with %v", n,
		y.opened.Load(), y.resumed.Load(), y.anew.Load(), y.stalls.Load(), y.vanished.Load(), y.punished.Load(), y.malformed.Load(), y.codes)
	for what, count := range map[string]int64{
		"resumed": y.resumed.Load(), "begun anew": y.anew.Load(), "slow": y.stalls.Load(), "half-open": y.vanished.Load(), "punished": y.punished.Load(),
	} {
		if count == 0 {
			t.Errorf("nobody was %s: the test tests nothing", what)
		}
	}
}

// nothingLeft wants goroutines and memory back where they were.
func nothingLeft(t *testing.T, routines int, memory int64) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for runtime.NumGoroutine() > routines && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if now := runtime.NumGoroutine(); now > routines {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines before, %d after:\n%s", routines, now, stacks[:runtime.Stack(stacks, true)])
	}
	grown := heap() - memory
	t.Logf("the heap grew by %d KiB", grown>>10)
	if grown > 2<<20 {
		t.Errorf("the heap grew by %d KiB", grown>>10)
	}
}

// heap is what is left after garbage was collected.
func heap() int64 {
	for range 3 { // what lies in a pool outlives one collection
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// world is one run.
type world struct {
	t       *testing.T
	host    *host
	tally   *tally
	seed    uint64
	clients []*client
}

func (w *world) open(n int) {
	posts := newPosts() // closed by leave: a cleanup would keep all that its transport remembers
	for i := range n {
		r := rand.New(rand.NewPCG(w.seed, uint64(i))) //nolint:gosec // it must be repeatable
		c := &client{addr: w.host.addr, posts: posts, rand: r, tally: w.tally, instance: "instance", asked: map[uint64]uint64{}, replied: map[uint64]bool{}, endings: endings}
		var err error
		if c.page, c.cookie, err = w.host.open(i); err != nil {
			w.t.Fatal(err)
		}
		w.clients = append(w.clients, c)
	}
}

// each does something for all clients at once.
func (w *world) each(what string, do func(*client) error) {
	w.t.Helper()
	begin := time.Now()
	var group sync.WaitGroup
	var failed atomic.Int64
	for _, c := range w.clients {
		group.Go(func() {
			if err := do(c); err != nil && failed.Add(1) <= 10 {
				w.t.Errorf("%s: page %s: %v", what, c.page, err)
			}
		})
	}
	group.Wait()
	if failed.Load() > 0 {
		w.t.FailNow()
	}
	w.t.Logf("%s: %.1f s", what, time.Since(begin).Seconds())
}

// mischief: clients come and go, pages are sent messages, and in the middle the host is
// stopped and started.
func (w *world) mischief(visits, messages int) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		r := rand.New(rand.NewPCG(w.seed, 1<<40)) //nolint:gosec // it must be repeatable
		total := messages * len(w.clients)
		for i := range total {
			c := w.clients[r.IntN(len(w.clients))]
			if err := w.host.push(c.page, r.IntN(100)); err != nil {
				w.t.Error(err)
				return
			}
			if i == total/3 || i == 2*total/3 {
				w.tally.restarts.Add(1)
				if err := w.host.restart(); err != nil {
					w.t.Error(err)
				}
			}
			if i%len(w.clients) == 0 {
				time.Sleep(100 * time.Millisecond) // spreads them over the visits
			}
		}
	}()
	w.each("mischief", func(c *client) error {
		for range visits {
			if err := c.visit(0); err != nil {
				return err
			}
		}
		return nil
	})
	<-done
}

// storm: all are connected, all are gone, and all come back at the same moment; then the
// host goes away under all of them.
func (w *world) storm() {
	for range 2 {
		wires := make(map[*client]*wire, len(w.clients))
		var mu sync.Mutex
		w.each("storm", func(c *client) error {
			for {
				wire, err := c.connect()
				if err == nil {
					mu.Lock()
					wires[c] = wire
					mu.Unlock()
					return nil
				}
				if err := c.verdict(err); err != nil {
					return err
				}
			}
		})
		if now := w.host.now.Load().hub.Status().Connected; now != len(w.clients) {
			w.t.Errorf("%d of %d are connected", now, len(w.clients))
		}
		for _, wire := range wires {
			wire.close()
		}
	}
	for _, c := range w.clients {
		if err := w.host.push(c.page, 0); err != nil {
			w.t.Fatal(err)
		}
	}
	w.tally.restarts.Add(1)
	if err := w.host.restart(); err != nil {
		w.t.Fatal(err)
	}
}

// settle: everybody gets everything.
func (w *world) settle() {
	w.each("settle", func(c *client) error {
		want := w.host.pushed(c.page)
		for c.seen < want || len(c.asked) > 0 || len(c.pending) > 0 {
			if err := c.visit(want); err != nil {
				return err
			}
		}
		if c.seen > want {
			return wrong("message %d of %d", c.seen, want)
		}
		return nil
	})
	for _, c := range w.clients {
		if heard := w.host.page(c.page).heard; heard != c.told {
			w.t.Errorf("page %s: %d messages of the client, the application has %d", c.page, c.told, heard)
		}
	}
}

// leave: the tabs are closed, and the host lets go of what is half open.
func (w *world) leave() {
	w.each("leave", func(c *client) error {
		return post(c.posts, c.addr, c.cookie, []byte(`{"t":"bye","page":"`+c.page+`","client":"`+c.instance+`"}`))
	})
	for _, half := range w.tally.kept {
		if err := half.drain(); err != nil {
			w.t.Error(err)
		}
		half.close()
	}
	if n := len(w.host.now.Load().hub.Sessions()); n > 0 {
		w.t.Errorf("%d sessions are left", n)
	}
	w.clients[0].posts.CloseIdleConnections()
}
