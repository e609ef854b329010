//go:build linux && !race

package http1

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// recvNow and sendNow are recv(2) and sendmsg(2) that never block, whatever the flags of
// the socket say. They do not tell Go's scheduler: on loopback a send lasts longer
// than the 20 µs after which the scheduler takes the processor from a thread in a
// system call, and giving it back costs more than the call.
func recvNow(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
		syscall.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// sendNow takes at most as many parts as work.vecs has.
func sendNow(fd uintptr, parts [][]byte) (int, syscall.Errno) {
	const flags = syscall.MSG_DONTWAIT | syscall.MSG_NOSIGNAL
	if len(parts) == 1 {
		p := parts[0]
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
		return int(n), errno
	}
	var iov [maxParts]unix.Iovec
	for i, p := range parts {
		iov[i].Base = unsafe.SliceData(p)
		iov[i].SetLen(len(p))
	}
	message := unix.Msghdr{Iov: &iov[0]}
	message.SetIovlen(len(parts))
	n, _, errno := syscall.RawSyscall(syscall.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&message)), flags)
	runtime.KeepAlive(parts)
	return int(n), errno
}
