package guado_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado"
	"github.com/guado-server/guado/test/harness"
)

// stopping is a server of an application that works until it is let go.
type stopping struct {
	*site
	hold, events string
}

func newStopping(t *testing.T, transport, kind string, change func(*guado.Config), env ...string) *stopping {
	t.Helper()
	return newStoppingOf(t, transport, "stopping", kind, func(*guado.App) {}, change, env...)
}

func newStoppingOf(t *testing.T, transport, module, kind string, adapt func(*guado.App), change func(*guado.Config), env ...string) *stopping {
	t.Helper()
	dir := t.TempDir()
	s := &stopping{hold: filepath.Join(dir, "hold"), events: filepath.Join(dir, "events")}
	if err := os.WriteFile(s.hold, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var c *guado.Config
	s.site, c = newSite(t, transport)
	change(c)
	make := map[string]func(string) guado.App{"wsgi": guado.WSGI, "asgi": guado.ASGI}[kind]
	a := app(t, make(module+":"+kind))
	adapt(&a)
	a.Env = map[string]string{"EVENTS_FILE": s.events, "HOLD_FILE": s.hold}
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		a.Env[name] = value
	}
	s.Mount("/", a)
	s.run()
	return s
}

func (s *stopping) said(event string) bool {
	b, err := os.ReadFile(s.events)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Fatal(err)
	}
	return strings.Contains(string(b), event+"\n")
}

func onEachKind(t *testing.T, f func(t *testing.T, transport, kind string)) {
	onEach(t, func(t *testing.T, transport string) {
		for _, kind := range []string{"wsgi", "asgi"} {
			t.Run(kind, func(t *testing.T) { f(t, transport, kind) })
		}
	})
}

func TestABrokenApplicationAmongOthersOfItsGroupDoesNotEndTheServer(t *testing.T) {
	s, c := newSite(t, "auto")
	c.Groups = append(c.Groups, guado.Group{Name: "both", Process: guado.WSGI("witness:wsgi").Process})
	c.Groups[0].Python = harness.Python(t, "newest")
	for path, target := range map[string]string{"/": "witness:wsgi", "/broken": "nothing_there:app"} {
		a := guado.WSGI(target)
		a.Group = "both"
		s.Mount(path, a)
	}
	s.run()
	if n := len(s.Status().Groups); n != 1 {
		t.Fatalf("%d groups: the test does not test it", n)
	}
	for _, path := range []string{"/fine", "/broken/"} {
		if status, body, err := s.do("GET", path, ""); status != 503 || !strings.Contains(body, "app_unavailable") {
			t.Errorf("%s: %d %q %v", path, status, body, err)
		}
	}
	eventually(t, "it is tried again", func() bool { return s.Status().Groups[0].Workers[0].Starts > 1 })
}

func TestAStopWaitsForWorkBehindAnAnswerAsForARequest(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long: make test runs it")
	}
	onEachKind(t, func(t *testing.T, transport, kind string) {
		const exit = 1500 * time.Millisecond // lifespan shutdown takes half a second
		s := newStopping(t, transport, kind, func(c *guado.Config) { c.Server.ExitTimeout = guado.Duration(exit) })
		if got := s.get("/behind"); got != "answer" {
			t.Fatal(got)
		}
		eventually(t, "it works behind its answer", func() bool { return s.said("working") })
		s.stop()
		select {
		case err := <-s.err:
			t.Errorf("the stop did not wait: %v", err)
			s.err <- err
		case <-time.After(exit + 1500*time.Millisecond): // it would have been killed by now
		}
		if err := os.Remove(s.hold); err != nil {
			t.Fatal(err)
		}
		if err := s.end(); err != nil {
			t.Error(err)
		}
		if !s.said("done") || !s.said("atexit") || kind == "asgi" && !s.said("lifespan") {
			t.Errorf("the application did not get to its end")
		}
	})
}

func TestWhatDoesNotEndKeepsNeitherLifespanShutdownNorAtexitFromRunning(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long: make test runs it")
	}
	onEachKind(t, func(t *testing.T, transport, kind string) {
		s := newStopping(t, transport, kind, func(c *guado.Config) { c.Server.GracefulTimeout = guado.Duration(200 * time.Millisecond) })
		answered := make(chan int, 1)
		go func() {
			status, _, _ := s.do("GET", "/stuck", "")
			answered <- status
		}()
		eventually(t, "the request is at the application", func() bool { return s.said("working") })
		if err := s.end(); err != nil {
			t.Error(err)
		}
		if status := <-answered; status == 200 {
			t.Errorf("the request got %d", status)
		}
		if !s.said("atexit") || kind == "asgi" && (!s.said("lifespan") || !s.said("cancelled")) {
			t.Errorf("the application could not clean up")
		}
	})
}

func TestAStuckThreadAndALongLifespanShutdownLeaveTimeForAtexit(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long: make test runs it")
	}
	// With a fixed time for each, one behind the other, this would take six seconds of five.
	const shutdown, exit = 2500 * time.Millisecond, 5 * time.Second
	s := newStopping(t, "auto", "asgi", func(c *guado.Config) {
		c.Server.ExitTimeout = guado.Duration(exit)
	}, "LIFESPAN_SECONDS="+strconv.FormatFloat(shutdown.Seconds(), 'f', 1, 64))
	if got := s.get("/executor"); got != "answer" {
		t.Fatal(got)
	}
	if err := s.end(); err != nil {
		t.Error(err)
	}
	if !s.said("lifespan") || !s.said("atexit") {
		t.Errorf("lifespan shutdown ended: %t, atexit ran: %t", s.said("lifespan"), s.said("atexit"))
	}
}
