package http1

import "golang.org/x/sys/unix"

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
