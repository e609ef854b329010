package http1

import (
	"golang.org/x/sys/unix"

	"github.com/guado-server/guado/internal/exchange"
)

// unsent is the number of bytes in the socket's send queue, that its peer has not
// acknowledged.
func (c *conn) unsent() (n int, ok bool) {
	if c.raw == nil {
		return 0, false
	}
	var failed error
	err := c.raw.Control(func(fd uintptr) { n, failed = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return n, err == nil && failed == nil
}

// hungUp tells, without reading, what the socket knows of its peer.
func (c *conn) hungUp() exchange.Gone {
	if c.raw == nil {
		return exchange.Present
	}
	poll := []unix.PollFd{{Events: unix.POLLRDHUP}}
	var failed error
	err := c.raw.Control(func(fd uintptr) {
		poll[0].Fd = int32(fd) //nolint:gosec // a descriptor is a small number
		_, failed = unix.Poll(poll, 0)
	})
	switch events := poll[0].Revents; {
	case err != nil || failed != nil: // closed by us, or interrupted: the next look tells
		return exchange.Present
	case events&(unix.POLLERR|unix.POLLHUP) != 0:
		return exchange.Closed
	case events&unix.POLLRDHUP != 0:
		return exchange.HalfClosed
	}
	return exchange.Present
}
