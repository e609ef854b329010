package program

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// attributes: a process group of its own, so that signals reach what the program
// forks, and the terminal's do not reach it. A program that would outlive its host is
// killed by the kernel.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// awaitExit waits for the end of a child and leaves it to be reaped: until then no
// other process or group gets its id.
func awaitExit(pid int) {
	for {
		if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}
