//go:build !linux

package program

import "syscall"

// attributes: a process group of its own, so that signals reach what the program
// forks, and the terminal's do not reach it.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// awaitExit would wait for the end of a child and leave it to be reaped.
func awaitExit(int) {}
