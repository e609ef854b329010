package genropy

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/guado-server/guado/test/harness"
)

func TestAGenroPySiteRunsUnchanged(t *testing.T) {
	stacks := []*stack{guado(t), legacy(t)}
	for _, s := range stacks {
		s.await(t)
	}
	t.Run("a browser's requests get the answers that they get under gunicorn", func(t *testing.T) {
		ours, theirs := session(t, stacks[0]), session(t, stacks[1])
		for i, a := range ours {
			same(t, a, theirs[i])
		}
	})
	t.Run("a call over WSX gets the answer that it gets over HTTP", func(t *testing.T) { overWSX(t, stacks[0]) })
	t.Run("a new application answers beside the site", func(t *testing.T) {
		a := newBrowser(t, stacks[0]).ask(http.MethodGet, "/api/tables", "")
		if a.status != http.StatusOK || !strings.Contains(a.body, `"adm_user"`) {
			t.Errorf("%+v", a)
		}
	})
	t.Run("a real browser shows the page", func(t *testing.T) { inChromium(t, stacks[0], stacks[1]) })
	t.Run("figures", func(t *testing.T) { figures(t, stacks) })
	for _, s := range stacks {
		t.Run("what is killed comes back under "+s.name, func(t *testing.T) { comesBack(t, s) })
	}
}

// step is a request of a session and its answer, without what differs between two
// runs of the same site.
type step struct {
	name string
	answer
}

// session does what a browser does with the first page, from its opening to its end.
func session(t *testing.T, s *stack) []step {
	t.Helper()
	b := newBrowser(t, s)
	var steps []step
	note := func(name string, a answer) answer {
		steps = append(steps, step{name, a})
		return a
	}
	a := note("the page", b.open())
	root := a.body
	if !strings.Contains(a.fields, "Set-Cookie") {
		t.Errorf("%s: the page sets no cookie: %s", s.name, a.fields)
	}
	if a = note("main", b.call("/", "method=main")); a.status != http.StatusOK || !strings.Contains(a.body, "<GenRoBag><resultType>node</resultType>") {
		t.Errorf("%s: main: %d %.300s", s.name, a.status, a.body)
	}
	for range 3 {
		if a = note("a ping", b.ping()); a.status != http.StatusOK || !strings.Contains(a.body, `<result _T="NN">`) {
			t.Errorf("%s: ping: %d %.300s", s.name, a.status, a.body)
		}
	}
	scripts := script.FindAllStringSubmatch(root, -1)
	if len(scripts) == 0 {
		t.Fatalf("%s: the page has no script: %s", s.name, root)
	}
	for _, m := range scripts {
		if a = note("a script", b.ask(http.MethodGet, m[1], "")); a.status != http.StatusOK || len(a.body) == 0 {
			t.Errorf("%s: %s: %d, %d bytes", s.name, m[1], a.status, len(a.body))
		}
	}
	note("a page that is not there", b.ask(http.MethodGet, "/sys/no_such_page_here", ""))
	if a = note("the beacon", b.leave()); a.status != http.StatusOK {
		t.Errorf("%s: beacon: %d %.300s", s.name, a.status, a.body)
	}
	if a = note("a ping of the closed page", b.ping()); a.status != http.StatusPreconditionFailed {
		t.Errorf("%s: the page is still there after its beacon: %d %.300s", s.name, a.status, a.body)
	}
	for i := range steps {
		steps[i].body = strings.NewReplacer(b.page, "PAGE", s.url, "URL", s.dir, "DIR").Replace(steps[i].body)
		steps[i].body = varies.ReplaceAllString(steps[i].body, "VARIES")
	}
	return steps
}

var (
	script = regexp.MustCompile(`<script[^>]* src="(/[^"]*)"`)
	// varies is what differs from one request to the next under any server: ids,
	// times, and names made of addresses in memory.
	varies = regexp.MustCompile(`\b\w{22}\b|_\d{12,}|\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[.\d]*|0x[0-9a-f]+|mtime=[\d.]+`)
)

func same(t *testing.T, ours, theirs step) {
	t.Helper()
	if ours == theirs {
		return
	}
	a, b := ours.body, theirs.body
	at := 0
	for at < min(len(a), len(b)) && a[at] == b[at] {
		at++
	}
	from := max(0, at-80)
	t.Errorf("%s: %d %s [%s], under gunicorn %d %s [%s]; bodies of %d and %d bytes part at %d:\n…%.200s\n…%.200s", ours.name,
		ours.status, ours.kind, ours.fields, theirs.status, theirs.kind, theirs.fields, len(a), len(b), at, a[from:], b[from:])
}

// comesBack kills the state daemon, the worker and the WebSocket process in turn. The
// site itself does not get over the end of its daemon (it keeps the address of the old
// one, under any server) until its worker is started again.
func comesBack(t *testing.T, s *stack) {
	for _, victim := range []struct {
		name string
		is   func(process) bool
		back func() bool
	}{
		{"the daemon", runs("gnr web daemon"), func() bool { return true }},
		{"the worker", s.isWorker, func() bool {
			res, body, err := newBrowser(t, s).try(http.MethodGet, "/", "")
			return err == nil && res.StatusCode == http.StatusOK && pageID.MatchString(body)
		}},
		{"the WebSocket process", runs("gnr web async"), func() bool { return s.pong() == nil }},
	} {
		old := s.find(t, victim.is)
		if old == 0 {
			t.Fatalf("%s: %s does not run", s.name, victim.name)
		}
		if err := s.kill(old); err != nil {
			t.Fatal(err)
		}
		harness.Eventually(t, victim.name+" is there again", patience, func() bool {
			pid := s.find(t, victim.is)
			return pid != 0 && pid != old && syscall.Kill(old, 0) != nil
		})
		harness.Eventually(t, victim.name+" works again", patience, victim.back)
	}
	session(t, s)
}

// figures prints requests per second and CPU per request side by side. They are no
// test: a loaded machine tells nothing. GUADO_BENCH=1 takes more time for them.
func figures(t *testing.T, stacks []*stack) {
	rounds, length := 1, time.Second
	if os.Getenv("GUADO_BENCH") != "" {
		rounds, length = 5, 4*time.Second
	}
	for _, load := range []struct {
		name    string
		clients int
		do      func(*browser)
	}{
		// One client: new pages at the same time disturb each other in GenroPy, which
		// tells the WebSocket process about them over one connection for all threads.
		{"page", 1, func(b *browser) { b.open() }},
		{"main", 4, func(b *browser) { b.call("/", "method=main") }},
		{"ping", 4, func(b *browser) { b.ping() }},
	} {
		for _, s := range stacks {
			var requests int
			var took, cpu time.Duration
			for range rounds {
				n, d, c := drive(t, s, length, load.clients, load.do)
				requests, took, cpu = requests+n, took+d, cpu+c
			}
			fmt.Printf("%-6s %-9s %7.1f requests/s  %8.2f ms CPU per request\n", load.name, s.name,
				float64(requests)/took.Seconds(), float64(cpu.Microseconds())/1e3/float64(requests))
		}
	}
}

// drive loads a stack.
func drive(t *testing.T, s *stack, length time.Duration, clients int, do func(*browser)) (requests int, took, cpu time.Duration) {
	t.Helper()
	browsers := make([]*browser, clients)
	for i := range browsers {
		browsers[i] = newBrowser(t, s)
		browsers[i].open()
	}
	before, began := s.cpu(t), time.Now()
	var all sync.WaitGroup
	counts := make([]int, clients)
	for i, b := range browsers {
		all.Go(func() {
			for time.Since(began) < length {
				do(b)
				counts[i]++
			}
		})
	}
	all.Wait()
	took, cpu = time.Since(began), s.cpu(t)-before
	for _, n := range counts {
		requests += n
	}
	return requests, took, cpu
}
