package supervise

import "syscall"

// attributes: own, a process group of its own, so that signals reach what the
// application forks, and the terminal's do not reach it. A worker that would outlive
// its host is killed by the kernel.
func attributes(own bool) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: own, Pdeathsig: syscall.SIGKILL}
}
