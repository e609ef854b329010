//go:build unix

package websocket

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// recvNow reads what there is; again says that there is nothing yet.
func recvNow(fd uintptr, p []byte) (n int, again bool, err error) {
	for {
		n, err = syscall.Read(int(fd), p)
		switch err {
		case nil:
			return n, false, nil
		case syscall.EINTR: //nolint:errorlint // bare errnos
		case syscall.EAGAIN:
			return 0, true, nil
		default:
			return 0, false, err
		}
	}
}

// sendNow writes as much as the socket takes, perhaps nothing.
func sendNow(fd uintptr, a, b []byte) (n int, err error) {
	for {
		switch {
		case len(b) == 0:
			n, err = syscall.Write(int(fd), a)
		case len(a) == 0:
			n, err = syscall.Write(int(fd), b)
		default:
			n, err = unix.Writev(int(fd), [][]byte{a, b})
		}
		switch err {
		case nil:
			return n, nil
		case syscall.EINTR: //nolint:errorlint // bare errnos
		case syscall.EAGAIN:
			return 0, nil
		default:
			return 0, err
		}
	}
}
