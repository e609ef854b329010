package guado_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado"
)

func TestProgramsStartBeforeTheWorkersThatWaitForThemAndEndAfterThem(t *testing.T) {
	s, c := newSite(t, "auto")
	dir := t.TempDir()
	migrate := guado.NewProgram("migrate", "sh", "-c", "echo migrating; until test -e go; do sleep 0.02; done")
	migrate.Once, migrate.Dir = true, dir
	daemon := guado.NewProgram("daemon", "sh", "-c", "trap 'echo daemon ends; exit' TERM; echo $GUADO_PROGRAM; while :; do sleep 0.05; done")
	daemon.Ready = "log:^daemon$"
	c.Programs = append(c.Programs, migrate, daemon)
	code := "import atexit\natexit.register(print, 'worker ends', flush=True)\ndef app(environ, start):\n    start('200 OK', [])\n    return [b'hello']\n"
	if err := os.WriteFile(filepath.Join(dir, "waiting.py"), []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	a := app(t, guado.WSGI("waiting:app"))
	a.Dir = dir
	a.After = []string{"migrate", "daemon"}
	s.Mount("/", a)
	started := make(chan struct{})
	go func() {
		defer close(started)
		for end := time.Now().Add(patience); !strings.Contains(s.log.String(), "migrate | migrating"); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Error("no migration")
				return
			}
		}
		if st := s.Status(); len(st.Programs) != 2 || st.Groups[0].Workers[0].Starts != 0 {
			t.Errorf("before the migration has ended: %+v", st)
		}
		if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
			t.Error(err)
		}
	}()
	s.run()
	<-started
	if st := s.Status(); st.Programs[0].State != "done" || st.Programs[1].State != "ready" {
		t.Errorf("%+v", st.Programs)
	}
	s.get("/")
	if err := s.end(); err != nil {
		t.Error(err)
	}
	log := s.log.String()
	if worker, end := strings.Index(log, "worker ends"), strings.Index(log, "daemon | daemon ends"); worker < 0 || end < worker {
		t.Errorf("the daemon ended at %d, the worker at %d", end, worker)
	}
}

func TestAProgramThatIsNeverReadyHoldsOnlyTheAppsThatWaitForIt(t *testing.T) {
	s, c := newSite(t, "auto")
	dir := t.TempDir()
	never := guado.NewProgram("never", "sleep", "1000")
	never.Ready = "file:" + filepath.Join(dir, "never")
	c.Programs = append(c.Programs, never)
	code := "def app(environ, start):\n    start('200 OK', [])\n    return [b'hello']\n"
	if err := os.WriteFile(filepath.Join(dir, "hello.py"), []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	held, free := app(t, guado.WSGI("hello:app")), app(t, guado.WSGI("hello:app"))
	held.Name, free.Name, held.Dir, free.Dir = "held", "free", dir, dir
	held.After, held.QueueWait = []string{"never"}, guado.Duration(100*time.Millisecond)
	s.Mount("/", free)
	s.Mount("/held", held)
	s.run() // the server is ready
	s.get("/")
	if status, body, err := s.do("GET", "/held", ""); err != nil || status != 503 {
		t.Errorf("the app that waits: %d %q %v", status, body, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "never"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.eventually("the app serves once the program is ready", func() bool {
		status, _, err := s.do("GET", "/held", "")
		return err == nil && status == 200
	})
}
