package guado_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

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
	write(t, m.dir, "guado.toml", fmt.Sprintf("[server]\nlisten = [\"127.0.0.1:0\"]\nphase = %d\ncache_dir = \"cache\"\n"+
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
}

func (m *moving) load(t *testing.T, clients, pages int) *load {
	t.Helper()
	l := &load{stop: make(chan struct{})}
	for c := range clients {
		l.done.Go(func() {
			counts := map[int]int{}
			for i := c; ; i = (i + clients) % pages {
				select {
				case <-l.stop:
					return
				default:
				}
				got := m.visit(t, i)
				if counts[i]++; got != strconv.Itoa(counts[i]) {
					t.Errorf("visit %d of page %d is counted as %s", counts[i], i, got)
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

func TestAStepForthAndBackUnderLoadFailsNoRequestAndLosesNoWrite(t *testing.T) {
	m := movingSite(t, 0, oldRegister)
	if got := m.get("/fill?users=20&connections=80&pages=900"); got != `"filled"` {
		t.Fatal(got)
	}
	l := m.load(t, 4, 900)
	for _, phase := range []int{3, 4, 5, 6, 5, 4, 3, 0} {
		if err := m.step(t, phase, oldRegister); err != nil {
			t.Fatalf("to phase %d: %v\n%s", phase, err, m.log.String())
		}
		if got := m.get("/"); !strings.Contains(got, fmt.Sprintf(`"phase": %d`, phase)) {
			t.Errorf("in phase %d the application sees %s", phase, got)
		}
		before := l.visits.Load()
		m.eventually("visits go on", func() bool { return t.Failed() || l.visits.Load() > before+50 })
	}
	close(l.stop)
	l.done.Wait()
	t.Logf("%d visits", l.visits.Load())
	for _, want := range []string{"items of the register of before are here", "items were given to the register of before"} {
		if log := m.log.String(); strings.Count(log, want) != 1 || !strings.Contains(log, "items=1000") {
			t.Errorf("the log does not say %q once, with 1000 items:\n%s", want, log)
		}
	}
	if _, err := os.Stat(filepath.Join(m.dir, ".guado", "register")); !os.IsNotExist(err) {
		t.Errorf("the mark of items that are here: %v", err)
	}
}
