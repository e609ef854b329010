// Package steps kills servers in the midst of steps between phases.
package steps

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/guado-server/guado/test/harness"
)

const (
	patience = time.Minute
	pages    = 6
)

// world is a site with a register of before, and what its clients were told.
type world struct {
	*testing.T
	dir, register string
	durability    string
	server        *harness.Server
	told          int // of every page
}

func newWorld(t *testing.T, phase int, durability string) *world {
	t.Helper()
	w := &world{T: t, dir: t.TempDir(), durability: durability}
	w.register = filepath.Join(w.dir, "register.db")
	w.start(3)
	w.get(fmt.Sprintf("/fill?users=2&connections=4&pages=%d", pages))
	if phase != 3 {
		w.stop()
		w.start(phase)
	}
	return w
}

func (w *world) write(name, text string) {
	w.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
}

// phase is what the file says.
func (w *world) phase(phase int) {
	w.Helper()
	w.write("guado.toml", fmt.Sprintf("[server]\nlisten = [\"127.0.0.1:0\"]\nphase = %d\ncache_dir = \"cache\"\n[state]\ndurability = %q\n"+
		"[[app]]\nname = \"shop\"\ntarget = \"register_app:app\"\nregister = \"register_app:Legacy\"\nthreads = 4\ndir = %q\npython = %q\nenv = {TEST_REGISTER = %q}\n",
		phase, w.durability, harness.Apps(), harness.Python(w, "newest"), w.register))
}

func (w *world) start(phase int) {
	w.Helper()
	w.phase(phase)
	w.server = harness.Start(w, harness.Options{File: filepath.Join(w.dir, "guado.toml"), Dir: w.dir, Env: []string{"GUADO_CACHE_DIR=" + w.dir}})
}

func (w *world) stop() {
	w.Helper()
	w.server.Signal(syscall.SIGTERM)
	if code := w.server.Wait(patience); code != 0 {
		w.Errorf("the stop: %d\n%s", code, w.server.Log())
	}
}

func (w *world) get(path string) string {
	w.Helper()
	client := http.Client{Timeout: patience}
	r, err := client.Get(w.server.URL + path)
	if err != nil {
		w.Fatal(err)
	}
	defer r.Body.Close() //nolint:errcheck // it was read
	text, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != 200 {
		w.Fatalf("%s: %s %s %v\n%s", path, r.Status, text, err, w.server.Log())
	}
	return strings.TrimSpace(string(text))
}

// visits has every page count one more visit, from what its client was told last.
func (w *world) visits() {
	w.Helper()
	w.told++
	for page := range pages {
		if got := w.get(fmt.Sprintf("/count?id=p%021d", page)); got != fmt.Sprint(w.told) {
			w.Errorf("visit %d of page %d is counted as %s\n%s", w.told, page, got, w.server.Log())
		}
	}
}

func (w *world) mark() bool {
	_, err := os.Stat(filepath.Join(w.dir, ".guado", "register"))
	return err == nil
}

// killedAt takes a step and kills the server at a point of it.
func (w *world) killedAt(to int, point string) {
	w.Helper()
	if point != "mark" {
		w.write("register.db.kill", point)
	}
	w.phase(to)
	w.server.Signal(syscall.SIGHUP)
	if point == "mark" {
		harness.Eventually(w, "the mark changes", patience, func() bool { return w.mark() == (to >= 4) })
		w.server.Signal(syscall.SIGKILL)
	}
	w.server.Wait(patience)
	if _, err := os.Stat(w.register + ".kill"); err == nil {
		w.Errorf("the step does not come to %q\n%s", point, w.server.Log())
	}
}

// seldom are points that differ little from another one.
var seldom = map[string]bool{"import": true, "replace": true, "items": true}

func TestAServerThatIsKilledInAStepLosesNothingThatAClientWasTold(t *testing.T) {
	for _, c := range []struct {
		durability string
		from, to   int
		points     []string
		then       []int // the phases of the next start
	}{
		{"host", 3, 4, []string{"import", "items", "items end", "mark"}, []int{4, 3}},
		{"host", 4, 3, []string{"replace", "replace half", "replaced", "items", "items end", "mark"}, []int{3, 4}},
		// Behind a step to phase 4 memory alone has them, of which a crash leaves nothing.
		{"worker", 3, 4, []string{"items"}, []int{4}},
		{"worker", 4, 3, []string{"replace half", "replaced", "mark"}, []int{3}},
	} {
		for _, point := range c.points {
			then := c.then
			if soak := os.Getenv("GUADO_SOAK") != ""; !soak && seldom[point] {
				continue
			} else if !soak && point != "mark" && point != "replaced" {
				then = then[:1] // the other one is a start like any
			}
			for _, then := range then {
				t.Run(fmt.Sprintf("%s/%d to %d/%s/then %d", c.durability, c.from, c.to, point, then), func(t *testing.T) {
					t.Parallel()
					w := newWorld(t, c.from, c.durability)
					w.visits()
					w.killedAt(c.to, point)
					w.start(then)
					w.visits()
					if w.mark() != (then >= 4) {
						t.Errorf("in phase %d the mark is there: %v", then, w.mark())
					}
					w.stop()
					w.start(7 - then)
					w.visits()
				})
			}
		}
	}
}

func TestSoakAServerThatIsKilledAtAnyMomentOfAStepLosesNothing(t *testing.T) {
	if os.Getenv("GUADO_SOAK") == "" {
		t.Skip("make soak runs it")
	}
	w := newWorld(t, 3, "host")
	phase := 3
	for range 40 {
		w.visits()
		to := []int{0, 3, 4, 5, 6}[rand.IntN(5)]
		w.phase(to)
		w.server.Signal(syscall.SIGHUP)
		moment := time.Duration(rand.IntN(1500)) * time.Millisecond
		select {
		case <-w.server.Exited():
			t.Fatalf("the server has ended\n%s", w.server.Log())
		case <-time.After(moment):
		}
		w.server.Signal(syscall.SIGKILL)
		w.server.Wait(patience)
		then := []int{phase, to}[rand.IntN(2)]
		w.start(then)
		t.Logf("from %d to %d, killed after %v, started in %d", phase, to, moment, then)
		phase = then
		if w.Failed() {
			t.FailNow()
		}
	}
	w.visits()
}
