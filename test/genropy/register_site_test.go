package genropy

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/guado-server/guado/test/harness"
)

// registered serves the site in phase 4, with its register in the worker. There is no
// daemon, and no WebSocket process, which would need one.
func registered(t *testing.T) *stack {
	t.Helper()
	dir, _ := prepare(t)
	file := filepath.Join(dir, "phase4.toml")
	if err := os.WriteFile(file, []byte(phase4), 0o600); err != nil {
		t.Fatal(err)
	}
	s := harness.Start(t, harness.Options{File: file, Dir: dir})
	return &stack{
		name: "guado, phase 4", dir: dir, url: s.URL, root: s.PID,
		isWorker: func(p process) bool {
			return strings.Contains(p.command, "GUADO_PACKAGE") && strings.HasSuffix(p.dir, "/gnrdevelop")
		},
		kill: func(pid int) error { return syscall.Kill(pid, syscall.SIGKILL) },
	}
}

const phase4 = `
[server]
listen = ["127.0.0.1:0"]
phase = 4
state_dir = "state"

[[app]]
name = "site"
kind = "wsgi"
target = "root:application"
dir = "site/projects/local/instances/gnrdevelop"
python = ".venv/bin/python"
env_file = "site/env"
threads = 8

[[mount]]
path = "/"
app = "site"
`

func TestAGenroPySiteNeedsNoDaemonInPhase4(t *testing.T) {
	s := registered(t)
	b := newBrowser(t, s)
	harness.Eventually(t, "the site answers", patience, func() bool {
		res, _, err := b.try(http.MethodGet, "/", "")
		return err == nil && res.StatusCode == http.StatusOK
	})
	session(t, s)
	b.open()
	if a := b.call("/", "method=main"); a.status != http.StatusOK {
		t.Fatalf("main: %d %.300s", a.status, a.body)
	}
	worker := s.find(t, s.isWorker)
	if err := s.kill(worker); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the site answers again", patience, func() bool {
		res, _, err := newBrowser(t, s).try(http.MethodGet, "/", "")
		return err == nil && res.StatusCode == http.StatusOK
	})
	if now := s.find(t, s.isWorker); now == worker || now == 0 {
		t.Fatalf("the worker is %d, and was %d", now, worker)
	}
	// The page is there, with its connection; 412 would send its client to a new one.
	if a := b.ping(); a.status != http.StatusOK || !strings.Contains(a.body, `<result _T="NN">`) {
		t.Errorf("a ping of a page from before: %d %.300s", a.status, a.body)
	}
	if a := b.call("/", "method=main"); a.status != http.StatusOK {
		t.Errorf("a call of a page from before: %d %.300s", a.status, a.body)
	}
	if a := b.leave(); a.status != http.StatusOK {
		t.Errorf("its beacon: %d %.300s", a.status, a.body)
	}
	if a := b.ping(); a.status != http.StatusPreconditionFailed {
		t.Errorf("a page is there after its beacon: %d %.300s", a.status, a.body)
	}
}
