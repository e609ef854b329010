// Package guard is the process that outlives the host by a moment: told of every child
// that the host starts, it ends them all when the host is gone, by kill -9 too.
// Before it: child, whose spawner starts a guard and tells it of its children through
// a [Client]. After it: the kernel.
// Not here: starting, reaping or stopping children in order (child, supervise).
package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"
)

// Entry is what the guard must know of a child to end it.
type Entry struct {
	PID   int  `json:"pid"`
	Group bool `json:"group"` // it leads a process group, which is ended as a whole
	// Grace is what it may take to end after it was asked to; 0: SIGKILL at once.
	Grace  time.Duration  `json:"grace,omitempty"`
	Ask    syscall.Signal `json:"ask,omitempty"`    // by which it is asked; 0: SIGTERM
	Alone  bool           `json:"alone,omitempty"`  // the process alone is asked, not its group
	Cgroup string         `json:"cgroup,omitempty"` // folder of a cgroup of its own
}

// message is one line between host and guard.
type message struct {
	Do    string `json:"do"` // add, drop, end; to the host: ok, ended
	Seq   uint64 `json:"seq,omitempty"`
	Entry Entry  `json:"entry"`
}

// Sweep limits: whoever forks faster than it is found is looked for this often.
const (
	sweeps     = 20
	sweepPause = 10 * time.Millisecond
)

// guard is the list, kept by the one goroutine of its process.
type guard struct {
	instance string
	list     map[int]held
	err      io.Writer
}

// held is an entry with a handle that never means another process.
type held struct {
	Entry
	handle handle
}

// Run is the guard's life: it keeps the list that the host sends over conn and answers
// each line, until the host says that all is over or conn ends, which is the host's
// death. Then it ends what is left. Signals are the caller's to ignore.
func Run(conn io.ReadWriter, instance string, errOut io.Writer) error {
	g := &guard{instance: instance, list: map[int]held{}, err: errOut}
	in, out := json.NewDecoder(conn), json.NewEncoder(conn)
	for {
		var m message
		if err := in.Decode(&m); err != nil {
			g.endAll(true)
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("guard: the host's line: %w", err)
		}
		switch m.Do {
		case "add":
			g.add(m.Entry)
		case "drop":
			g.drop(m.Entry.PID)
		case "end":
			g.endAll(false)
		}
		// A host that is gone meanwhile is noticed at the next read.
		_ = out.Encode(message{Do: "ok", Seq: m.Seq})
		if m.Do == "end" {
			return nil
		}
	}
}

func (g *guard) add(e Entry) {
	g.drop(e.PID)
	g.list[e.PID] = held{e, open(e.PID)}
}

func (g *guard) drop(pid int) {
	if h, ok := g.list[pid]; ok {
		h.handle.close()
		delete(g.list, pid)
	}
}

// endAll ends what the list names, at once or after its time, and then whatever else
// carries this host's instance in its environment: a grandchild that made a session of
// its own is in no group of the list.
func (g *guard) endAll(orphaned bool) {
	if orphaned && len(g.list) > 0 {
		g.tell("the host is gone: ending %d of its processes", len(g.list))
	}
	for _, h := range g.list {
		if h.Grace == 0 {
			h.kill()
		}
	}
	g.ask()
	for _, h := range g.list {
		h.kill()
	}
	for range sweeps {
		found := carriers(g.instance)
		if len(found) == 0 {
			break
		}
		for _, pid := range found {
			g.tell("ending process %d, which was left behind", pid)
			endCarrier(pid, g.instance)
		}
		time.Sleep(sweepPause) // they are gone when the kernel has torn them down: no event tells us
	}
	for pid := range g.list {
		g.drop(pid)
	}
}

// ask tells those that may take their time to end, and kills each when that is over.
func (g *guard) ask() {
	began := time.Now()
	var patient []held
	for _, h := range g.list {
		if h.Grace > 0 {
			h.ask()
			patient = append(patient, h)
		}
	}
	for len(patient) > 0 {
		patient = slices.DeleteFunc(patient, func(h held) bool {
			if time.Since(began) >= h.Grace {
				h.kill()
				return true
			}
			return h.gone()
		})
		time.Sleep(sweepPause) // they are nobody's children any more: polling is all there is
	}
}

func (g *guard) tell(format string, args ...any) {
	_, _ = fmt.Fprintf(g.err, "guado guard: "+format+"\n", args...) // its reader may have died with the host
}

// ask tells the child to end, as its host would have.
func (h held) ask() {
	sig := h.Ask
	if sig == 0 {
		sig = syscall.SIGTERM
	}
	group := h.Group && !h.Alone
	h.signal(sig, group)
	h.signal(syscall.SIGCONT, group) // one that was stopped does not hear otherwise
}

// kill ends the child with its group and cgroup.
func (h held) kill() {
	h.signal(syscall.SIGKILL, h.Group)
	if h.Cgroup != "" {
		endCgroup(h.Cgroup)
	}
}

// signal reaches the child, or all of the group that it leads.
func (h held) signal(sig syscall.Signal, group bool) {
	if h.handle.signalGroup(h.PID, sig, group) {
		return
	}
	// Without such a call the number is checked instead: a group's id is not given away
	// while the group has members, so it is another's only when a process has it that
	// is not ours.
	if h.handle.gone() && syscall.Kill(h.PID, 0) == nil {
		return
	}
	pid := h.PID
	if group {
		pid = -pid
	}
	_ = syscall.Kill(pid, sig) // ESRCH: it is gone already
}

// gone reports whether the child, or all of its group, has ended.
func (h held) gone() bool {
	if !h.Group {
		return h.handle.gone()
	}
	if syscall.Kill(-h.PID, 0) != nil {
		return true
	}
	return h.handle.gone() && !GroupLives(h.PID) // which reads all of /proc
}

func endCgroup(folder string) {
	// Since Linux 5.14 one write ends all; before, the sweep finds them.
	_ = os.WriteFile(folder+"/cgroup.kill", []byte("1"), 0o600)
	removeCgroup(folder)
}

// removeCgroup removes a cgroup, which it can once its processes are torn down.
func removeCgroup(folder string) {
	for range sweeps {
		if err := syscall.Rmdir(folder); !errors.Is(err, syscall.EBUSY) {
			return
		}
		time.Sleep(sweepPause)
	}
}
