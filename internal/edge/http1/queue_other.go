//go:build !linux

package http1

func (c *conn) unsent() (n int, ok bool) { return 0, false }
