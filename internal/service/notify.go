package service

import (
	"fmt"
	"net"
	"time"
)

// notifyTime bounds a send: a manager that does not read must not hold up a host that
// stops.
const notifyTime = time.Second

// notify sends a datagram. The library has a function for it, but one that waits for ever.
func notify(socket, text string) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // it was written, or not, already
	if err := conn.SetWriteDeadline(time.Now().Add(notifyTime)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte(text)); err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	return nil
}
