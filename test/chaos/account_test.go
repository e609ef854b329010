package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/guado-server/guado/test/harness"
)

const whoami = `import os, resource

def application(environ, start_response):
    mask = os.umask(0)
    os.umask(mask)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    score = open("/proc/self/oom_score_adj").read().strip()
    start_response("200 OK", [])
    return [f"{os.getuid()} {os.getgid()} {mask:o} {limits} {score} {os.environ.get('HOME')}".encode()]
`

// system is an interpreter that another account can execute.
func system(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("another account needs root")
	}
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))").Run(); err != nil {
		t.Skipf("no interpreter for another account: %v", err)
	}
	return python
}

func TestAWorkerRunsUnderTheAccountAndLimitsThatItsGroupNames(t *testing.T) {
	python := system(t)
	dir, err := os.MkdirTemp("/tmp", "guado-account-") // t.TempDir is root's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/who.py", []byte(whoami), 0o644); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`
[server]
listen = ["127.0.0.1:0"]
cache_dir = %q
[[app]]
target = "who:application"
dir = %q
python = %q
user = "nobody:12345"
umask = "027"
rlimits = {nofile = "1000:2000"}
oom_score_adj = 300
`, dir+"/cache", dir, python)
	s := harness.Start(t, harness.Options{Config: config})
	got := text(t, harness.Client(t, "http1"), s.URL)
	if !strings.HasPrefix(got, "65534 12345 27 (1000, 2000) 300 /") {
		t.Errorf("%q", got)
	}
}
