package edge

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// peek shows enough the first bytes of a connection, up to n of them, each time that
// more have come, until it says yes. They stay in the socket.
func peek(c net.Conn, n int, timeout time.Duration, enough func([]byte) bool) error {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return errors.New("the connection is not a socket")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	buf := make([]byte, n)
	var got int
	var recvErr error
	err = raw.Read(func(fd uintptr) bool {
		for {
			got, _, recvErr = syscall.Recvfrom(int(fd), buf, syscall.MSG_PEEK)
			if recvErr != syscall.EINTR { //nolint:errorlint // a system call gives the number itself
				break
			}
		}
		if recvErr == syscall.EAGAIN { //nolint:errorlint // likewise
			recvErr = nil
			return false
		}
		// False waits for more to come: the poller tells of each arrival.
		return recvErr != nil || got == 0 || got == len(buf) || enough(buf[:got])
	})
	switch {
	case err != nil:
		return err
	case recvErr != nil:
		return fmt.Errorf("recvfrom: %w", recvErr)
	case got == 0:
		return io.ErrUnexpectedEOF
	case got == len(buf) && !enough(buf):
		return errTooLong
	}
	return c.SetReadDeadline(time.Time{})
}

var errTooLong = errors.New("header is too long")
