//go:build !guado_faults

package durable

// faultWrite is off: only a build with the tag guado_faults can make the disk fail.
func faultWrite() error { return nil }
