//go:build guado_faults

package durable

import (
	"os"
	"syscall"
)

// faultWrite fails as a full disk does, as long as the file that GUADO_FAULT_DISK names is
// there.
func faultWrite() error {
	name := os.Getenv("GUADO_FAULT_DISK")
	if name == "" {
		return nil
	}
	if _, err := os.Stat(name); err == nil {
		return syscall.ENOSPC
	}
	return nil
}
