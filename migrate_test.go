package guado_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/guado-server/guado/test/harness"
)

// moving is a site on its way from phase to phase, with a register of before.
type moving struct {
	*site
	dir  string
	file string // of the register
}

func movingSite(t *testing.T, phase int, more string) *moving {
	t.Helper()
	m := &moving{dir: t.TempDir()}
	m.file = filepath.Join(m.dir, "register.db")
	m.configure(t, phase, more)
	m.site = siteOf(t, m.dir)
	return m
}

func (m *moving) configure(t *testing.T, phase int, more string) {
	t.Helper()
	m.configureServer(t, phase, "", more)
}

func (m *moving) configureServer(t *testing.T, phase int, server, more string) {
	t.Helper()
	write(t, m.dir, "guado.toml", fmt.Sprintf("[server]\nlisten = [\"127.0.0.1:0\"]\nphase = %d\ncache_dir = \"cache\"\n"+server+
		"[[app]]\nname = \"shop\"\ntarget = \"register_app:app\"\nthreads = 4\ndir = %q\npython = %q\nenv = {TEST_REGISTER = %q}\n%s",
		phase, harness.Apps(), harness.Python(t, "newest"), m.file, more))
}

const oldRegister = "register = \"register_app:Legacy\"\n"

func (m *moving) step(t *testing.T, phase int, more string) error {
	t.Helper()
	m.configure(t, phase, more)
	_, err := m.Reload(t.Context())
	return err
}

// load visits pages until it is told to stop; each visit must be counted once.
type load struct {
	visits atomic.Int64
	stop   chan struct{}
	done   sync.WaitGroup
	turn   sync.RWMutex // held by who visits; and by who wants that nobody does
	told   []int        // how often each page was visited, as its client was told; guarded by turn: each by one client
	items  map[string]dumped
}

// dumped is an item of either side: user, connection, fields and data.
type dumped [4]any

// dump gives all items of one side.
func (m *moving) dump(side string) (all map[string]dumped) {
	m.t.Helper()
	client := http.Client{Timeout: 5 * time.Minute} // ten thousand stores, which the worker may have to be sent first
	r, err := client.Get(m.url + "/dump?side=" + side)
	if err != nil {
		m.t.Fatal(err)
	}
	defer r.Body.Close() //nolint:errcheck // it was read
	if err := json.NewDecoder(r.Body).Decode(&all); err != nil || r.StatusCode != 200 {
		m.t.Fatalf("%s: %s %v", side, r.Status, err)
	}
	return all
}

// compare holds what both sides have against what clients were told, all values of all items.
func (m *moving) compare(l *load, phase, before int) {
	m.t.Helper()
	l.turn.Lock()
	defer l.turn.Unlock()
	for page, n := range l.told {
		l.items[fmt.Sprintf("page p%021d", page)][3].(map[string]any)["count"] = float64(n)
	}
	sides := []string{"legacy"}
	if phase >= 4 {
		sides = []string{"here", "host"}
	} else if st := m.Status().Stores; st != nil {
		m.t.Errorf("in phase %d there are stores: %+v", phase, st)
	}
	for _, side := range sides {
		m.same(phase, side, m.dump(side), l.items)
	}
	if before == 3 && phase == 4 {
		// What the other side had when the step was taken: since then visits have gone on here.
		other := m.dump("legacy")
		for name, i := range other {
			data, now := i[3].(map[string]any), l.items[name]
			if n, is := data["count"].(float64); is && now[3] != nil && n <= now[3].(map[string]any)["count"].(float64) {
				data["count"] = now[3].(map[string]any)["count"]
			}
		}
		m.same(phase, "legacy", other, l.items)
	}
}

func (m *moving) same(phase int, side string, found, want map[string]dumped) {
	m.t.Helper()
	different := 0
	for name, i := range want {
		if !reflect.DeepEqual(found[name], i) {
			if different++; different < 5 {
				m.t.Errorf("phase %d, %s, %s: %v, and not %v", phase, side, name, found[name], i)
			}
		}
	}
	if different > 0 || len(found) != len(want) {
		m.t.Errorf("phase %d, %s: %d of %d items are different; it has %d", phase, side, different, len(want), len(found))
	}
}

func (m *moving) load(t *testing.T, clients, pages int) *load {
	t.Helper()
	l := &load{stop: make(chan struct{}), told: make([]int, pages), items: m.dump("legacy")}
	for c := range clients {
		l.done.Go(func() {
			for i := c; ; i = (i + clients) % pages {
				select {
				case <-l.stop:
					return
				default:
				}
				l.turn.RLock()
				got := m.visit(t, i)
				l.told[i]++
				n := l.told[i]
				l.turn.RUnlock()
				if got != strconv.Itoa(n) {
					t.Errorf("visit %d of page %d is counted as %s", n, i, got)
					return
				}
				l.visits.Add(1)
			}
		})
	}
	return l
}

func (m *moving) visit(t *testing.T, page int) string {
	t.Helper()
	r, err := http.Get(m.url + fmt.Sprintf("/count?id=p%021d", page))
	if err != nil {
		t.Error(err)
		return ""
	}
	defer r.Body.Close() //nolint:errcheck // it was read
	text, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != 200 {
		t.Errorf("a request failed: %s %s %v", r.Status, text, err)
	}
	return strings.TrimSpace(string(text))
}

func TestStepsForthAndBackUnderLoadFailNoRequestAndLoseNoWrite(t *testing.T) {
	stepForthAndBack(t, 900, 1)
}

func TestSoakStepsForthAndBackUnderLoadFailNoRequestAndLoseNoWrite(t *testing.T) {
	if os.Getenv("GUADO_SOAK") == "" {
		t.Skip("make soak runs it")
	}
	stepForthAndBack(t, 9_000, 5) // at most 200 pages of a user
}

// stepForthAndBack takes all steps and those back, while pages are visited.
func stepForthAndBack(t *testing.T, pages, times int) {
	t.Helper()
	const more = oldRegister + "[state]\ndurability = \"host\"\n"
	m := movingSite(t, 0, more)
	if got := m.get(fmt.Sprintf("/fill?users=%d&connections=%d&pages=%d", pages/45, 4*pages/45, pages)); got != `"filled"` {
		t.Fatal(got)
	}
	l := m.load(t, 4, pages)
	before := 0
	for range times {
		for _, phase := range []int{3, 4, 5, 6, 5, 4, 3, 0} {
			if err := m.step(t, phase, more); err != nil {
				t.Fatalf("to phase %d: %v\n%s", phase, err, m.log.String())
			}
			if got := m.get("/"); !strings.Contains(got, fmt.Sprintf(`"phase": %d`, phase)) {
				t.Errorf("in phase %d the application sees %s", phase, got)
			}
			if st := m.Status().Stores; phase == 6 {
				m.eventually("stores are compared", func() bool { st = m.Status().Stores; return st.Compared > 64 })
				if st.Differences > 0 {
					t.Errorf("%+v", st)
				}
			}
			m.compare(l, phase, before)
			before = phase
			visited := l.visits.Load()
			m.eventually("visits go on", func() bool { return t.Failed() || l.visits.Load() > visited+50 })
		}
	}
	close(l.stop)
	l.done.Wait()
	t.Logf("%d visits", l.visits.Load())
	for _, want := range []string{"items of the register of before are here", "items were given to the register of before"} {
		moved := 0
		for line := range strings.Lines(m.log.String()) {
			if strings.Contains(line, want) && strings.Contains(line, fmt.Sprintf("items=%d refused=0 differences=0", pages+5*(pages/45))) {
				moved++
			}
		}
		if moved != times {
			t.Errorf("the log says %d times %q, of all items:\n%s", moved, want, m.log.String())
		}
	}
	if _, err := os.Stat(filepath.Join(m.dir, ".guado", "register")); !os.IsNotExist(err) {
		t.Errorf("the mark of items that are here: %v", err)
	}
}

func TestAStepThatCannotBeTakenLeavesAllAsItWas(t *testing.T) {
	m := movingSite(t, 3, oldRegister)
	if got := m.get("/fill?users=2&connections=4&pages=20"); got != `"filled"` {
		t.Fatal(got)
	}
	touch := func(name string) { write(t, m.dir, "register.db."+name, "") }
	remove := func(name string) {
		if err := os.Remove(m.file + "." + name); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(phase int, want string) {
		t.Helper()
		before := m.get("/")
		err := m.step(t, phase, oldRegister)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("to phase %d: %v, wanted %q", phase, err, want)
		}
		if now := m.get("/"); now != before && phase > 3 || m.Gate().Paused {
			t.Errorf("before %s, now %s; %+v", before, now, m.Gate())
		}
	}
	visits := 0
	visit := func() {
		t.Helper()
		if visits++; m.visit(t, 7) != strconv.Itoa(visits) {
			t.Errorf("visit %d is counted otherwise", visits)
		}
	}
	visit()
	touch("broken")
	refused(4, "the old register is broken")
	visit()
	remove("broken")
	if err := m.step(t, 4, oldRegister); err != nil {
		t.Fatal(err)
	}
	visit()
	touch("forgetful")
	refused(3, "data.count: 0 only here")
	if st := m.Status().Stores; st == nil || st.Stores < 26 {
		t.Errorf("the stores: %+v", st)
	}
	visit()
	remove("forgetful")
	if err := m.step(t, 3, oldRegister); err != nil {
		t.Fatal(err)
	}
	visit()
}

func TestAStepIsNotTakenWhileARequestRunsForTooLong(t *testing.T) {
	m := movingSite(t, 3, oldRegister)
	m.get("/fill?users=1&connections=1&pages=1")
	long := make(chan string)
	go func() { long <- m.get("/wait") }()
	m.awaitFile(m.file+".waits", "")
	m.configureServer(t, 4, "graceful_timeout = \"200ms\"\n", oldRegister)
	if _, err := m.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "still under way") {
		t.Errorf("the step was taken: %v", err)
	}
	write(t, m.dir, "register.db.go", "")
	if got := <-long; got != `"waited"` {
		t.Errorf("the request that ran: %s", got)
	}
	if err := m.step(t, 4, oldRegister); err != nil {
		t.Fatal(err)
	}
	if got := m.visit(t, 0); got != "1" {
		t.Error(got)
	}
}

func TestAServerThatStartsInPhase4TakesTheRegisterOverOnce(t *testing.T) {
	m := movingSite(t, 0, oldRegister)
	m.get("/fill?users=1&connections=2&pages=3")
	m.visit(t, 1)
	again := func() {
		t.Helper()
		if err := m.end(); err != nil {
			t.Fatal(err)
		}
		m.configure(t, 4, oldRegister)
		m.site = siteOf(t, m.dir)
	}
	again()
	if got := m.visit(t, 1); got != "2" {
		t.Errorf("a page of before is visited for the second time: %s", got)
	}
	again()
	if got := m.visit(t, 1); got != "3" {
		t.Errorf("and for the third time: %s", got)
	}
	if log := m.log.String(); strings.Contains(log, "items of the register of before are here") {
		t.Errorf("the register of before was taken over twice:\n%s", log)
	}
	if err := m.step(t, 0, oldRegister); err != nil { // two steps at once
		t.Fatal(err)
	}
	if got := m.visit(t, 1); got != "4" {
		t.Errorf("and for the fourth time: %s", got)
	}
}
