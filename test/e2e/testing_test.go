package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/guado-server/guado/test/harness"
)

// What test/apps/alike.py asks of the API, a server and guado.testing answer alike.
func TestInMemoryTheAPIAnswersAsUnderAServer(t *testing.T) {
	python := harness.Python(t, "newest")
	s := harness.Start(t, harness.Options{Config: fmt.Sprintf(`[server]
listen = ["127.0.0.1:0"]
phase = 4
state_dir = %q

[[app]]
target = "alike:application"
dir = %q
python = %q
`, t.TempDir(), harness.Apps(), python)})
	res, body := do(t, harness.Client(t, "http1"), request(t, "GET", s.URL+"/", nil, "User-Agent", "alike"))
	want(t, res, body, 200, "")

	cmd := exec.CommandContext(t.Context(), python, filepath.Join(harness.Apps(), "alike.py"))
	cmd.Env = append(os.Environ(), "PYTHONPATH="+filepath.Join(harness.Root(), "python"))
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Logf("%s", exit.Stderr)
		}
		t.Fatal(err)
	}
	var server, memory []any
	if err := errors.Join(json.Unmarshal([]byte(body), &server), json.Unmarshal(out, &memory)); err != nil {
		t.Fatal(err)
	}
	if len(server) < 70 || len(server) != len(memory) {
		t.Errorf("%d answers of the server, %d in memory", len(server), len(memory))
	}
	for i := range min(len(server), len(memory)) {
		if a, b := fmt.Sprint(server[i]), fmt.Sprint(memory[i]); a != b {
			t.Errorf("the server answers %s, and in memory it is %s", a, b)
		}
	}
}
