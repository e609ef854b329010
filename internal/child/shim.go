package child

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/guado-server/guado/internal/guard"
)

// marker is the variable by which this binary knows that it was started as a child's
// first step, or as the guard.
const (
	marker    = "GUADO_CHILD"
	asShim    = "shim"
	asGuard   = "guard"
	guardFD   = 3
	shimFails = 126
)

// hooked is set when the program has called Main: only then is it safe to start the
// program itself as a child's first step.
var hooked atomic.Bool

// Main runs the first step of a child, or the guard, when this process was started as
// one; it reports whether it was, and with which code the program must exit. A program
// calls it before anything else.
func Main(args, environ []string) (code int, is bool) {
	switch lookup(environ, marker) {
	case asShim:
		runShim(args, environ) // returns when it could not
		return shimFails, true
	case asGuard:
		return runGuard(environ), true
	}
	hooked.Store(true)
	return 0, false
}

func lookup(environ []string, name string) string {
	for i := len(environ) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(environ[i], name+"="); ok {
			return value
		}
	}
	return ""
}

func runGuard(environ []string) int {
	nameProcess("guado-guard")
	// Terminals and service managers signal all of a service: a guard ends with its
	// host, not before.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGTSTP,
		syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE)
	_ = os.Chdir("/") // it must not keep a folder busy; where it runs does not matter
	runtime.GOMAXPROCS(1)
	if err := guard.Run(os.NewFile(guardFD, "host"), lookup(environ, guard.InstanceOf), os.Stderr); err != nil {
		return 1
	}
	return 0
}

// order is what the shim is told, as JSON in its first argument.
type order struct {
	Gate    int      `json:"gate"` // descriptor: a byte opens it, an error goes back over it
	Parent  int      `json:"parent"`
	Death   int      `json:"death,omitempty"` // signal at the host's death
	Umask   *int     `json:"umask,omitempty"`
	OOM     *int     `json:"oom,omitempty"`
	Rlimits []Rlimit `json:"rlimits,omitempty"`
	SetID   bool     `json:"setid,omitempty"`
	UID     int      `json:"uid,omitempty"`
	GID     int      `json:"gid,omitempty"`
	Groups  []int    `json:"groups,omitempty"`
}

// runShim is args = [name, order, path, argv…]: it prepares the process, waits at the
// gate, and becomes path. It returns only when it could not.
func runShim(args, environ []string) {
	// The parent-death signal belongs to the thread that asks for it, and to the program
	// that this thread executes.
	runtime.LockOSThread()
	var o order
	if len(args) < 4 {
		return
	}
	if err := json.Unmarshal([]byte(args[1]), &o); err != nil {
		return
	}
	unix.CloseOnExec(o.Gate)
	gate := os.NewFile(uintptr(o.Gate), "gate")
	err := o.prepare()
	if err == nil {
		var one [1]byte
		if _, err := io.ReadFull(gate, one[:]); err != nil {
			return // the host is gone
		}
		if err = o.become(); err == nil {
			env := slices.DeleteFunc(environ, func(v string) bool { return strings.HasPrefix(v, marker+"=") })
			err = fmt.Errorf("%s: %w", args[2], syscall.Exec(args[2], args[3:], env))
		}
	}
	_, _ = gate.WriteString(err.Error()) // a host that is gone needs no reason
}

// prepare sets what a process of the host's account may set.
func (o *order) prepare() error {
	if o.OOM != nil {
		if err := setOOMScore(*o.OOM); err != nil {
			return fmt.Errorf("oom_score_adj %d: %w", *o.OOM, err)
		}
	}
	for _, l := range o.Rlimits {
		resource, ok := rlimits[l.Name]
		if !ok {
			return fmt.Errorf("there is no limit %q on this system", l.Name)
		}
		// syscall's, not unix': Go gives a program the limit of open files back that the
		// host had found, unless it was set here.
		if err := syscall.Setrlimit(resource, &syscall.Rlimit{Cur: rlimValue(l.Soft), Max: rlimValue(l.Hard)}); err != nil {
			return fmt.Errorf("rlimit %s %s: %w", l.Name, l, err)
		}
	}
	if o.Umask != nil {
		syscall.Umask(*o.Umask)
	}
	return nil
}

var errOrphan = errors.New("the host is gone")

// become takes the account and ties the process to the host: a change of account
// forgets the tie.
func (o *order) become() error {
	if err := o.identify(); err != nil {
		return err
	}
	if err := dieWithParent(o.Death); err != nil {
		return fmt.Errorf("parent-death signal: %w", err)
	}
	if os.Getppid() != o.Parent {
		return errOrphan
	}
	return nil
}

// Assume gives this very process the child's account and limits.
func (c *Child) Assume() error {
	o := c.order()
	if err := o.prepare(); err != nil {
		return err
	}
	return o.identify()
}

// order is the part of it that says what the process may do.
func (c *Child) order() order {
	o := order{Umask: c.Umask, OOM: c.OOMScoreAdj, Rlimits: c.Rlimits}
	if id := c.Identity; id != nil && !id.same() {
		o.SetID, o.UID, o.GID, o.Groups = true, id.UID, id.GID, id.Groups
	}
	return o
}

func (o *order) identify() error {
	if o.SetID {
		if err := syscall.Setgroups(o.Groups); err != nil {
			return fmt.Errorf("groups %v: %w", o.Groups, err)
		}
		if err := syscall.Setgid(o.GID); err != nil {
			return fmt.Errorf("group %d: %w", o.GID, err)
		}
		if err := syscall.Setuid(o.UID); err != nil {
			return fmt.Errorf("user %d: %w", o.UID, err)
		}
	}
	return nil
}

// RlimitNames are the limits that this system knows.
func RlimitNames() []string {
	names := make([]string, 0, len(rlimits))
	for name := range rlimits {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// String is the limit as a configuration spells it.
func (l Rlimit) String() string {
	one := func(v uint64) string {
		if v == Unlimited {
			return "unlimited"
		}
		return fmt.Sprint(v)
	}
	if l.Soft == l.Hard {
		return one(l.Soft)
	}
	return one(l.Soft) + ":" + one(l.Hard)
}
