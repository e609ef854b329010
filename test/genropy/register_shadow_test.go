package genropy

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/guado-server/guado/test/harness"
)

// What real traffic asks of the daemon is asked of our register, too, and recorded; the
// recording is played to GenroPy's own register and to ours once more.
func TestRealTrafficGetsTheSameAnswersOfBothRegisters(t *testing.T) {
	dir, daemon := prepare(t)
	calls := filepath.Join(dir, "calls")
	file := filepath.Join(dir, "shadow.toml")
	config := strings.NewReplacer("DAEMON", daemon, "CALLS", calls).Replace(shadowed)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	server := harness.Start(t, harness.Options{File: file, Dir: dir})
	s := &stack{name: "guado with both registers", dir: dir, url: server.URL, root: server.PID}
	b := newBrowser(t, s)
	harness.Eventually(t, "the site answers", patience, func() bool {
		res, _, err := b.try(http.MethodGet, "/", "")
		return err == nil && res.StatusCode == http.StatusOK
	})
	for range 4 {
		session(t, s)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	root := harness.Root()
	cmd := exec.CommandContext(ctx, filepath.Join(root, ".cache", "genropy", "bin", "python"), "-W", "ignore", "replay.py", calls) //nolint:gosec // the test's own
	cmd.Dir = filepath.Join(root, "test", "genropy", "register")
	cmd.Env = append(os.Environ(), "PYTHONPATH="+filepath.Join(root, "python"), "HOME="+t.TempDir(), "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var played struct {
		Calls       int
		Differences []string
		Names       map[string]int
	}
	if err := json.Unmarshal(out, &played); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if played.Calls < 2000 || len(played.Differences) > 0 {
		t.Errorf("%d calls were played again, differences %q", played.Calls, played.Differences)
	}
	t.Logf("%d calls: %v", played.Calls, played.Names)
	if log := server.Log(); strings.Contains(log, "the register in charge and ours differ") {
		t.Errorf("the registers differ: %s", log)
	} else if !strings.Contains(log, "the register in charge and ours: 2000 calls, 0 differences") {
		t.Errorf("the log does not tell how it goes: %s", log)
	}
}

const shadowed = `
[server]
listen = ["127.0.0.1:0"]

[[app]]
name = "site"
kind = "wsgi"
target = "root:application"
dir = "site/projects/local/instances/gnrdevelop"
python = ".venv/bin/python"
env_file = "site/env"
env = {GUADO_GENROPY = "shadow", GUADO_GENROPY_RECORD = "CALLS"}
threads = 8
after = ["daemon"]

[[program]]
name = "daemon"
group = "site"
command = ["gnr", "web", "daemon"]
ready = "tcp:127.0.0.1:DAEMON"

[[mount]]
path = "/"
app = "site"
`
