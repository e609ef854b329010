//go:build !linux

package admin

import (
	"net"
	"os"
)

// peerOf: without SO_PEERCRED the socket's mode is what keeps others away.
func peerOf(net.Conn) (Peer, error) {
	return Peer{UID: os.Geteuid(), User: userName(os.Geteuid())}, nil
}

func descends(int, int, string) (bool, error) { return false, nil }
