//go:build !linux || race

package http1

import "syscall"

// recvNow and sendNow rely on the runtime having made the socket non-blocking. The
// race detector knows these calls, and that what was sent happened before its answer.
func recvNow(fd uintptr, p []byte) (int, syscall.Errno) { return result(syscall.Read(int(fd), p)) }

func sendNow(fd uintptr, parts [][]byte) (int, syscall.Errno) {
	return result(syscall.Write(int(fd), parts[0]))
}

func result(n int, err error) (int, syscall.Errno) {
	if errno, ok := err.(syscall.Errno); ok { //nolint:errorlint // a system call gives the number itself
		return n, errno
	}
	return n, 0
}
