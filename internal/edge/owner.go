package edge

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// portOwner names the process that listens on a TCP port: "gunicorn (pid 71)". Empty
// where /proc does not exist, or does not show that process to us.
func portOwner(port uint16) string {
	inodes := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		listeningInodes(table, port, inodes)
	}
	if len(inodes) == 0 {
		return ""
	}
	fds, err := filepath.Glob("/proc/[0-9]*/fd/[0-9]*")
	if err != nil {
		return ""
	}
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		if err != nil {
			continue // of another user, or gone
		}
		if inode, ok := strings.CutPrefix(target, "socket:["); ok && inodes[strings.TrimSuffix(inode, "]")] {
			return processName(strings.Split(fd, "/")[2])
		}
	}
	return ""
}

// listeningInodes reads /proc/net/tcp: sl local_address rem_address st … inode.
func listeningInodes(table string, port uint16, into map[string]bool) {
	f, err := os.Open(table)
	if err != nil {
		return // no /proc here, or no IPv6
	}
	defer f.Close() //nolint:errcheck // only read
	var be [2]byte
	binary.BigEndian.PutUint16(be[:], port)
	suffix := fmt.Sprintf(":%02X%02X", be[0], be[1])
	const listenState, inodeColumn = "0A", 9
	for lines := bufio.NewScanner(f); lines.Scan(); {
		columns := strings.Fields(lines.Text())
		if len(columns) > inodeColumn && columns[3] == listenState && strings.HasSuffix(columns[1], suffix) {
			into[columns[inodeColumn]] = true
		}
	}
}

func processName(pid string) string {
	name, err := os.ReadFile("/proc/" + pid + "/comm")
	if err != nil {
		return "pid " + pid
	}
	return fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(name)), pid)
}

// peerOwner names the process at the other end of a Unix connection.
func peerOwner(c net.Conn) string {
	if u, ok := c.(*net.UnixConn); ok {
		if pid := peerPID(u); pid > 0 {
			return processName(strconv.Itoa(pid))
		}
	}
	return "another process"
}
