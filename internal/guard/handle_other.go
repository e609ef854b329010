//go:build !linux

package guard

import "syscall"

// handle is nothing where there is no pidfd: a number is believed.
type handle struct{}

func open(int) handle { return handle{} }

func (handle) close() {}

func (handle) gone() bool { return false }

func (handle) signalGroup(int, syscall.Signal, bool) bool { return false }

// carriers finds nobody: the environment of a process cannot be read here. Workers
// end with their control socket, groups by their number.
func carriers(string) []int { return nil }

func endCarrier(int, string) {}
