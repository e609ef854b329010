package kill

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"
)

const (
	// atOnce is how long a worker must have served for the next one to be started at once.
	atOnce = 5 * time.Second
	// inTime is what a client may wait behind the death of a worker, over the import of its
	// application.
	inTime = 500 * time.Millisecond
)

// awaits is who waits for the first answer of another worker than those that were killed.
type awaits struct {
	killed []int
	at     time.Time
	answer chan answered
}

type answered struct {
	pid  int
	took time.Duration
}

// back is how long nobody was told anything.
type back struct {
	took, imported time.Duration
	served         time.Duration // the worker that was killed
	host           bool          // it was killed, too
}

func (b back) String() string {
	return fmt.Sprintf("%d+%d", (b.took - b.imported).Milliseconds(), b.imported.Milliseconds())
}

// heard takes note of the process that an answer came of.
func (w *world) heard(worker string) {
	pid, err := strconv.Atoi(worker)
	if err != nil {
		return // it is the host's own
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if a := w.awaits; a != nil && !slices.Contains(a.killed, pid) {
		a.answer <- answered{pid, time.Since(a.at)} // it has room
		w.awaits = nil
	}
}

func (w *world) await(killed []int) *awaits {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.awaits = &awaits{killed, time.Now(), make(chan answered, 1)}
	return w.awaits
}

// kill ends the worker, or the host with it, and measures until somebody is told something again.
func (w *world) kill(served time.Duration) {
	w.t.Helper()
	pids := w.server.Workers()
	if len(pids) == 0 {
		return // it is still starting
	}
	a, b := w.await(pids), back{served: served}
	if b.host = w.setting.hosts && w.rand.IntN(2) == 0; b.host {
		w.killHost()
	} else {
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err == nil {
				w.kills++
			}
		}
	}
	select {
	case first := <-a.answer:
		ready := fmt.Sprintf(`worker is ready.* pid=%d .*import_seconds=([0-9.]+)`, first.pid)
		line := w.server.WaitLog(ready, patience)
		seconds, err := strconv.ParseFloat(regexp.MustCompile(ready).FindStringSubmatch(line)[1], 64)
		if err != nil {
			w.t.Fatal(err)
		}
		b.took, b.imported = first.took, max(time.Millisecond, time.Duration(seconds*float64(time.Second)))
		w.backs = append(w.backs, b)
	case <-time.After(patience):
		w.failed(fmt.Errorf("nobody was told anything within %v after a worker was killed", patience))
	}
}

// inTime says how long clients waited, and in the long run wants that to be in time behind workers
// that had served for a while. The machine may be busy with something else: how much slower the
// import of the application was than the quickest one of this run says how much, and the median
// without that is held against the bound.
func (w *world) inTime() {
	w.t.Helper()
	var after, soon, hosts []back
	for _, b := range w.backs {
		switch {
		case b.host:
			hosts = append(hosts, b)
		case b.served >= atOnce:
			after = append(after, b)
		default:
			soon = append(soon, b)
		}
	}
	w.t.Logf("ms from the kill to the first answer, less the application's import, and that: workers that had served for %v: %v; for less, which start again after a pause: %v; hosts: %v",
		atOnce, after, soon, hosts)
	if len(after) < 5 {
		return
	}
	quickest := slices.MinFunc(w.backs, func(a, b back) int { return int(a.imported - b.imported) }).imported
	var over, quiet []time.Duration
	for _, b := range after {
		over = append(over, b.took-b.imported)
		quiet = append(quiet, time.Duration(float64(b.took-b.imported)*float64(quickest)/float64(b.imported)))
	}
	slices.Sort(over)
	slices.Sort(quiet)
	median := quiet[len(quiet)/2].Round(time.Millisecond)
	w.t.Logf("over the import, behind %d kills: median %v, nine of ten within %v, all within %v; the median on a machine that does nothing else: %v",
		len(over), over[len(over)/2], over[len(over)*9/10], over[len(over)-1], median)
	if median > inTime {
		w.t.Errorf("from the kill to the first answer it took %v and the import of the application, the most is %v", median, inTime)
	}
}
