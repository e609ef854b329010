package guado_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/guado-server/guado"
)

// toPhase0 has the server of a folder take the step.
func (s *site) toPhase0(dir string) {
	s.t.Helper()
	file := filepath.Join(dir, "guado.toml")
	text, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	write(s.t, dir, "guado.toml", strings.Replace(string(text), "phase = 3", "phase = 0\ngraceful_timeout = \"2s\"", 1))
	if _, err := s.Reload(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || !strings.Contains(string(got), "phase = 0") {
		s.t.Fatalf("%s %v", got, err)
	}
}

func TestPagesAreClosedInTheirWorkerByAStepToPhase0(t *testing.T) {
	everyClass(t, func(t *testing.T, dir, more string) {
		s := pagesSite(t, dir, more)
		b := s.browser()
		trace := filepath.Join(dir, "trace")
		for range 3 {
			b.tab(fmt.Sprintf(`{"path":"/","class":"Board","args":{"trace":%q}}`, trace)).told()
		}
		s.toPhase0(dir)
		if got, err := os.ReadFile(trace); err != nil || string(got) != strings.Repeat("closed ended\n", 3) {
			t.Errorf("on_close left %q: %v\n%s", got, err, s.log.String())
		}
		if _, got := b.post("/there", ""); got != `{"path": "/there"}` {
			t.Errorf("the application answers %s", got)
		}
		if log := s.log.String(); strings.Contains(log, "Traceback") || strings.Contains(log, "on_close of pages is cut") {
			t.Error(log)
		}
	})
}

func TestAMessageThatAPauseHoldsReachesNoApplicationOfPhase0(t *testing.T) {
	dir := t.TempDir()
	s := pagesSite(t, dir, "target = \"pages_classes:app\"\n")
	b := s.browser()
	tab := b.tab(`{"path":"/","class":"Board"}`)
	tab.told()
	if err := s.Pause(t.Context(), guado.Hold{}); err != nil {
		t.Fatal(err)
	}
	tab.send(`"m"`, "")
	s.eventually("the message is held", func() bool { return s.Gate().Held == 1 })
	s.toPhase0(dir)
	s.Resume()
	if _, got := b.post("/there", ""); got != `{"path": "/there"}` {
		t.Errorf("the application answers %s", got)
	}
	s.eventually("nothing is held", func() bool { return s.Gate().Held == 0 })
	if log := s.log.String(); strings.Contains(log, "Traceback") {
		t.Error(log)
	}
}

func TestTurnsAreCountedByWhatTheyShow(t *testing.T) {
	s := pagesSite(t, t.TempDir(), "target = \"pages_classes:app\"\n")
	tab := s.browser().tab(`{"path":"/","class":"Board"}`)
	tab.told()
	for data, code := range map[string]string{`{"fail":"no_move"}`: "no_move", `{"raise":1}`: "failed"} {
		if got := tab.ask(data, ""); got != code {
			t.Errorf("%s: %v", data, got)
		}
	}
	if st := s.Status().Push; st.Failed != 2 || st.Faults != 1 || st.Met != 0 {
		t.Errorf("of an answer and a failure of the application: %+v", st)
	}
	s = pagesSite(t, t.TempDir(), "target = \"resident_app:app\"\nthreads = 8\n")
	tab = s.browser().tab(`{"path":"/","class":"Shared"}`)
	for n, want := range []uint64{0, 1, 1} {
		if n%2 == 0 {
			tab.ask("1", "")
		} else if status, text := tab.post("/_guado/page/"+tab.page, "2"); status != 200 {
			t.Fatalf("%d %s", status, text)
		}
		if st := s.Status().Push; st.Met != want {
			t.Errorf("behind %d turns: %+v", n+1, st)
		}
	}
}
