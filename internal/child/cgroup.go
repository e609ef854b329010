package child

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// cgroups makes a cgroup for each child below one that the host was given: killing it
// reaches whatever the child has started, in whatever session and with whatever
// environment. Its nil value makes none.
type cgroups struct {
	prefix string
	number atomic.Int64
	ending sync.WaitGroup
}

// Removing a cgroup succeeds once the kernel has torn its processes down.
const (
	removeTries = 100
	removePause = 10 * time.Millisecond
)

func openCgroups(instance string) *cgroups {
	folder := delegated()
	if folder == "" || instance == "" {
		return nil
	}
	return &cgroups{prefix: filepath.Join(folder, "guado-"+instance[:min(8, len(instance))]+"-")}
}

// make makes a cgroup and opens it, for a process that is to start in it.
func (g *cgroups) make(name string) (*os.File, error) {
	if g == nil {
		return nil, nil //nolint:nilnil // none is wanted, and that is no error
	}
	folder := fmt.Sprintf("%s%s-%d", g.prefix, filepath.Base("/"+name), g.number.Add(1))
	if err := os.Mkdir(folder, 0o755); err != nil {
		return nil, err
	}
	f, err := os.Open(folder)
	if err != nil {
		g.remove(folder)
		return nil, err
	}
	return f, nil
}

// end kills what is in a cgroup and removes it, which may take a moment.
func (g *cgroups) end(folder string) {
	// Since Linux 5.14; before, what left its group is found by the guard at the end.
	_ = os.WriteFile(filepath.Join(folder, "cgroup.kill"), []byte("1"), 0o600)
	g.ending.Go(func() { g.remove(folder) })
}

func (g *cgroups) remove(folder string) {
	if g == nil || folder == "" {
		return
	}
	for range removeTries {
		if os.Remove(folder) == nil {
			return
		}
		time.Sleep(removePause) // the kernel tells nobody when a cgroup has become empty of the dead
	}
}

func (g *cgroups) close() {
	if g != nil {
		g.ending.Wait()
	}
}
