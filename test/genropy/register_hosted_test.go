package genropy

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/guado-server/guado/test/harness"
)

// The register of a real worker, beside GenroPy's own in the same process: register/hosted_app.py.
func TestTheRegisterOfAWorkerAnswersAsGenroPysOwnAndOutlivesIt(t *testing.T) {
	t.Parallel()
	root := harness.Root()
	dir := t.TempDir()
	file := filepath.Join(dir, "guado.toml")
	config := fmt.Sprintf(hosted, filepath.Join(root, "test", "genropy", "register"),
		filepath.Join(root, ".cache", "genropy", "bin", "python"), filepath.Join(dir, "kept"), dir)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s := harness.Start(t, harness.Options{File: file, Dir: dir})
	for seed := 1; seed <= 2; seed++ {
		var played struct {
			Calls       int
			Differences []string
		}
		get(t, fmt.Sprintf("%s/play?seed=%d&calls=500", s.URL, seed), &played)
		if played.Calls < 500 || len(played.Differences) > 0 {
			t.Errorf("seed %d: %d calls, differences %q", seed, played.Calls, played.Differences)
		}
		site := &stack{root: s.PID}
		worker := func() int {
			return site.find(t, func(p process) bool { return strings.Contains(p.command, "GUADO_PACKAGE") })
		}
		old := worker()
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		harness.Eventually(t, "the worker is there again", patience, func() bool { now := worker(); return now != 0 && now != old })
		var there struct {
			Items       int
			Differences []string
		}
		get(t, s.URL+"/compare", &there)
		if there.Items < 20 || len(there.Differences) > 0 {
			t.Errorf("seed %d: after kill -9, %d items, differences %q", seed, there.Items, there.Differences)
		}
	}
}

const hosted = `
[server]
listen = ["127.0.0.1:0"]
phase = 4
state_dir = "state"

[[app]]
name = "site"
kind = "wsgi"
target = "hosted_app:application"
dir = %q
python = %q
env = {KEPT = %q, HOME = %q, PYTHONWARNINGS = "ignore", PYTHONDONTWRITEBYTECODE = "1"}

[[mount]]
path = "/"
app = "site"
`

func get(t *testing.T, url string, into any) {
	t.Helper()
	res, err := (&http.Client{Timeout: patience}).Get(url) //nolint:noctx // it has a timeout
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // read to its end
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %d %.500s", url, res.StatusCode, text)
	}
}
