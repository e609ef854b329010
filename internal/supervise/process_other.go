//go:build !linux

package supervise

import "syscall"

// attributes: own, a process group of its own, so that signals reach what the
// application forks, and the terminal's do not reach it. Without a parent-death
// signal a worker ends when its control socket reads EOF.
func attributes(own bool) *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: own} }
