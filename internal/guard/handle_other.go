//go:build !linux

package guard

import "syscall"

// handle is nothing where there is no pidfd: a number is believed.
type handle struct{}

func open(int) handle { return handle{} }

func (handle) close() {}

func (handle) gone() bool { return false }

func (handle) signalGroup(int, syscall.Signal, bool) bool { return false }

// GroupLives reports whether a process group has members; one that has ended and was
// not reaped counts.
func GroupLives(group int) bool { return syscall.Kill(-group, 0) == nil }

// carriers finds nobody: the environment of a process cannot be read here. Workers
// end with their control socket, groups by their number.
func carriers(string) []int { return nil }

func endCarrier(int, string) {}
