//go:build linux && !race

package http1

import (
	"syscall"
	"unsafe"
)

// recvNow and sendNow are recv(2) and send(2) that never block, whatever the flags of
// the socket say. They do not tell Go's scheduler: on loopback a send lasts longer
// than the 20 µs after which the scheduler takes the processor from a thread in a
// system call, and giving it back costs more than the call.
func recvNow(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
		syscall.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

func sendNow(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
		syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
	return int(n), errno
}
