package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	cgroups    = "/sys/fs/cgroup"
	removeTime = 20 * time.Second
)

// MemoryCgroup makes a cgroup below this process's own whose processes may use so many
// bytes together, as a container's may. It gives the file to which a process writes its
// id to live there. The test is skipped where no such cgroup can be made.
func MemoryCgroup(tb testing.TB, bytes int64) (procs string) {
	tb.Helper()
	own, limit := ownMemory(tb)
	folder, err := os.MkdirTemp(own, "guado-test-")
	if err != nil {
		tb.Skipf("no cgroup can be made here, so that no process can run out of memory: %v", err)
	}
	tb.Cleanup(func() {
		for end := time.Now().Add(removeTime); ; time.Sleep(10 * time.Millisecond) { // the kernel tells nobody that it is empty
			err := os.Remove(folder)
			if err == nil {
				return
			}
			if time.Now().After(end) {
				tb.Errorf("the cgroup of the test: %v", err)
				return
			}
		}
	})
	set := func(name, value string) error {
		return os.WriteFile(filepath.Join(folder, name), []byte(value), 0o600)
	}
	if err := set(limit, fmt.Sprint(bytes)); err != nil {
		tb.Skipf("the memory of a cgroup cannot be limited here: %v", err)
	}
	for name, value := range map[string]string{"memory.swap.max": "0", "memory.swappiness": "0"} { // where they are
		if _, err := os.Stat(filepath.Join(folder, name)); err == nil {
			if err := set(name, value); err != nil {
				tb.Skipf("swapping cannot be turned off: %v", err)
			}
		}
	}
	return filepath.Join(folder, "cgroup.procs")
}

// ownMemory finds this process's cgroup of the memory controller, and the name of its
// limit: version 2 or 1.
func ownMemory(tb testing.TB) (folder, limit string) {
	tb.Helper()
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		tb.Skipf("there are no cgroups here: %v", err)
	}
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(parts) != 3:
		case slices.Contains(strings.Split(parts[1], ","), "memory"):
			return filepath.Join(cgroups, "memory", parts[2]), "memory.limit_in_bytes"
		case parts[0] == "0":
			folder = filepath.Join(cgroups, parts[2])
		}
	}
	if _, err := os.Stat(filepath.Join(folder, "cgroup.controllers")); folder == "" || err != nil {
		tb.Skip("no cgroup of the memory controller is to be found here")
	}
	// Refused where processes live in it, unless it is the root: then nothing can be limited.
	_ = os.WriteFile(filepath.Join(folder, "cgroup.subtree_control"), []byte("+memory"), 0o600)
	return folder, "memory.max"
}
