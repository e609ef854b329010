package link

import "golang.org/x/sys/unix"

const (
	controlKind  = unix.SOCK_SEQPACKET
	controlFlags = unix.MSG_CMSG_CLOEXEC | unix.MSG_DONTWAIT
)
