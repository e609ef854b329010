package child

import (
	"os"
	"os/exec"
	"testing"

	"github.com/guado-server/guado/test/harness"
)

func TestAKillOfTheKernelForWantOfMemoryIsNamedAndAnotherIsNot(t *testing.T) {
	procs := harness.MemoryCgroup(t, 256<<20)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	host := exec.Command(self, "-test.run=^$")
	host.Env = append(os.Environ(), "ROLE=limited", "CGROUP="+procs)
	out, err := host.Output()
	if want := "signal: killed by the kernel: out of memory (OOM)\nsignal: killed\n"; err != nil || string(out) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, out, want)
	}
}
