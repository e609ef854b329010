package program_test

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/guado-server/guado/internal/child"
	"github.com/guado-server/guado/internal/program"
)

func TestAProgramRunsAsItsUserWithItsLimits(t *testing.T) {
	if os.Getuid() != 0 || runtime.GOOS != "linux" {
		t.Skip("only root can become another user")
	}
	id, err := child.LookupIdentity("65534", "65533")
	if err != nil {
		t.Fatal(err)
	}
	mask, score := 0o037, 300
	s := shell("x", "echo $(id -u) $(id -g) $(umask) $(ulimit -Sn) $(ulimit -Hn) $(cat /proc/self/oom_score_adj)")
	s.Dir, s.Once, s.Restart = "/", true, program.OnFailure
	s.Child = child.Child{Identity: id, Umask: &mask, OOMScoreAdj: &score, Rlimits: []child.Rlimit{{Name: "nofile", Soft: 100, Hard: 200}}}
	r := start(t, s)
	r.becomes("x", program.Done)
	if got := strings.TrimSpace(r.out.String()); got != "x | 65534 65533 0037 100 200 300" {
		t.Errorf("%q", got)
	}
}
