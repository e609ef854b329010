package child

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOrphansAreReapedAndTheExitsOfOurOwnAreNot(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) }()
	if !adopts() {
		t.Fatal("a subreaper does not know it")
	}
	s := NewSpawner(Options{})
	defer s.Close()
	ours, err := s.Spawn(Child{Path: "sh", Args: []string{"-c", "setsid true >/dev/null & exit 3"}, Env: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	late := exec.Command("true") // a child of the program's own, which is not waited for yet
	if err := late.Start(); err != nil {
		t.Fatal(err)
	}
	<-ours.Exited()
	if ours.State().ExitCode() != 3 {
		t.Errorf("its exit was stolen: %v", ours.State())
	}
	eventually(t, "the orphan and the late one are dead", func() bool { return len(zombies()) == 2 })
	first := s.reapOrphans(nil)
	if err := late.Wait(); err != nil {
		t.Errorf("a look at the dead reaped what its own parent was about to wait for: %v", err)
	}
	s.reapOrphans(first)
	if left := zombies(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestADelegatedCgroupIsDividedAndKilledAsAWhole(t *testing.T) {
	tree := cgroupTree()
	folder := tree + "/guado-test"
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Skipf("no cgroup can be made here: %v", err)
	}
	g := &cgroups{prefix: folder + "/guado-"}
	defer func() {
		g.close()
		if err := os.Remove(folder); err != nil {
			t.Error(err)
		}
	}()
	s := NewSpawner(Options{}) // without an instance: only the cgroup finds what it left
	defer s.Close()
	s.groups = g
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	p, err := s.Spawn(Child{Path: "sh", Name: "p01", Stdout: w, Env: os.Environ(),
		Args: []string{"-c", "setsid sh -c 'echo there; exec env -i sleep 1000' & cat /proc/self/cgroup; wait"}})
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for buffer := make([]byte, 4096); !strings.Contains(text.String(), "there\n") || !strings.Contains(text.String(), "0::"); {
		n, err := r.Read(buffer)
		if err != nil {
			t.Fatal(text.String(), err)
		}
		text.Write(buffer[:n])
	}
	if !strings.Contains(text.String(), "/guado-test/guado-p01-1\n") {
		t.Errorf("it is in %q", text.String())
	}
	if _, err := os.Stat(p.cgroup + "/cgroup.kill"); err != nil {
		t.Skip("this kernel cannot kill a cgroup")
	}
	p.Kill()
	<-p.Exited()
	if _, err := r.Read(make([]byte, 1)); err == nil {
		t.Error("somebody still writes")
	}
}

func TestAHostThatIsKilledLeavesNothingInItsTreeOfCgroups(t *testing.T) {
	tree, err := os.MkdirTemp(cgroupTree(), "guado-test-")
	if err != nil {
		t.Skipf("no cgroup can be made here: %v", err)
	}
	t.Cleanup(func() {
		_ = os.WriteFile(tree+"/cgroup.kill", []byte("1"), 0o600) // of what a failure leaves
		eventually(t, "the tree is empty", func() bool {
			inner, _ := filepath.Glob(tree + "/guado-*")
			for _, folder := range inner {
				_ = os.Remove(folder)
			}
			return os.Remove(tree) == nil
		})
	})
	if _, err := os.Stat(tree + "/cgroup.kill"); err != nil {
		t.Skip("this kernel cannot kill a cgroup")
	}
	// What a service manager does with Delegate=yes.
	if err := unix.Setxattr(tree, "trusted.delegate", []byte("1"), 0); err != nil {
		t.Skipf("a cgroup cannot be marked as delegated here: %v", err)
	}
	h := startHost(t, "TREE="+tree)
	if h.pids["stranger"] == 0 {
		t.Fatal(h.pids)
	}
	h.kill(t)
	eventually(t, "its cgroups are removed", func() bool {
		left, err := os.ReadDir(tree)
		for _, e := range left {
			if e.IsDir() {
				return false
			}
		}
		return err == nil
	})
}
