package genropy

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/guado-server/guado/test/harness"
)

// The tests of the register are in Python, beside GenroPy's own register: see register/.
func TestTheRegisterAnswersAsGenroPysOwn(t *testing.T) {
	t.Parallel()
	root := harness.Root()
	python := filepath.Join(root, ".cache", "genropy", "bin", "python")
	if _, err := os.Stat(python); err != nil {
		t.Fatalf("%v: run tools/setup.sh genropy", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, "-W", "ignore", "-m", "unittest", "discover", "-v")
	cmd.Dir = filepath.Join(root, "test", "genropy", "register")
	cmd.Env = append(os.Environ(), "PYTHONPATH="+filepath.Join(root, "python"), "HOME="+t.TempDir(), "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
