//go:build !linux

package supervise

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// attributes: own, a process group of its own, so that signals reach what the
// application forks, and the terminal's do not reach it. Without a parent-death
// signal a worker ends when its control socket reads EOF.
func attributes(own bool) *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: own} }

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
