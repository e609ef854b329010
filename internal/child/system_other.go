//go:build !linux

package child

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

var rlimits = map[string]int{
	"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA,
	"fsize": unix.RLIMIT_FSIZE, "memlock": unix.RLIMIT_MEMLOCK, "nofile": unix.RLIMIT_NOFILE,
	"nproc": unix.RLIMIT_NPROC, "stack": unix.RLIMIT_STACK,
}

// rlimValue: no limit is the largest signed number here.
func rlimValue(v uint64) uint64 { return min(v, 1<<63-1) }

func selfPath() (string, error) { return os.Executable() }

func setOOMScore(int) error { return errors.ErrUnsupported }

// dieWithParent: there is no such signal here. A worker ends when its control socket
// reads EOF, and the guard ends groups.
func dieWithParent(int) error { return nil }

func nameProcess(string) {}

// attributes: own, a process group of its own, so that signals reach what the
// application forks, and the terminal's do not reach it.
func attributes(own bool) *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: own} }

func useCgroup(*syscall.SysProcAttr, *os.File) {}

// awaitExit waits for the end of a child and leaves it to be reaped: until then no
// other process or group gets its id. false: it cannot wait like that.
func awaitExit(pid int) bool {
	kq, err := unix.Kqueue()
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(kq) }() // nothing was written
	var exit [1]unix.Kevent_t
	unix.SetKevent(&exit[0], pid, unix.EVFILT_PROC, unix.EV_ADD|unix.EV_ONESHOT)
	exit[0].Fflags = unix.NOTE_EXIT
	for {
		switch _, err := unix.Kevent(kq, exit[:], exit[:], nil); {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ESRCH) || err == nil:
			return true // it has ended, perhaps before we asked
		default:
			return false
		}
	}
}

// adopts: orphans go to launchd.
func adopts() bool { return false }

func zombies() []int { return nil }

func reapOne(int) (syscall.WaitStatus, bool) { return 0, false }

func oomCounter(int) string { return "" }

func oomKills(string) int { return 0 }

// groupLives cannot tell here: the rest of a group does not linger.
func groupLives(int) bool { return false }
