package supervise

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// attributes: own, a process group of its own, so that signals reach what the
// application forks, and the terminal's do not reach it. A worker that would outlive
// its host is killed by the kernel.
func attributes(own bool) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: own, Pdeathsig: syscall.SIGKILL}
}

// awaitExit waits for the end of a child and leaves it to be reaped: until then no
// other process or group gets its id. false: it cannot wait like that.
func awaitExit(pid int) bool {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
}
