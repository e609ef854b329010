//go:build !linux

package link

import "golang.org/x/sys/unix"

const (
	controlKind  = unix.SOCK_STREAM
	controlFlags = unix.MSG_DONTWAIT
)
