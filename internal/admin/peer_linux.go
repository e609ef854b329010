package admin

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// peerOf asks the kernel who connected.
func peerOf(c net.Conn) (Peer, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return Peer{}, fmt.Errorf("a connection of kind %T has no owner", c)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, credErr); err != nil {
		return Peer{}, fmt.Errorf("credentials of the peer: %w", err)
	}
	p := Peer{PID: int(cred.Pid), UID: int(cred.Uid), User: userName(int(cred.Uid))}
	if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.PID)); err == nil {
		p.Command = strings.TrimSpace(string(name))
	}
	return p, nil
}

var errGone = errors.New("it has ended meanwhile, so nobody knows whose it was")

// descends reports whether pid is host or was started by it, directly or not: by its
// ancestors, and for one whose parent has ended by the variable that all of the host's
// children carry.
func descends(pid, host int, instance string) (bool, error) {
	if pid == 0 {
		return false, nil // outside our namespace, where no child of ours can be
	}
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, errGone
	case err != nil && !errors.Is(err, fs.ErrPermission): // root's, which is none of ours
		return false, err
	}
	mark := []byte("GUADO_INSTANCE=" + instance)
	for variable := range bytes.SplitSeq(environ, []byte{0}) {
		if instance != "" && bytes.Equal(variable, mark) {
			return true, nil
		}
	}
	for p := pid; p > 0; {
		if p == host {
			return true, nil
		}
		parent, err := parentOf(p)
		if errors.Is(err, fs.ErrNotExist) && p != pid {
			p = pid // an ancestor ended under our hands, and its children have another parent now
			continue
		}
		if err != nil {
			return false, errGone
		}
		p = parent
	}
	return false, nil
}

// parentOf reads the parent from /proc/PID/stat: pid (comm) state ppid …, where comm
// may hold anything.
func parentOf(pid int) (int, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, found := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " ")
	fields := strings.Fields(rest)
	if !found || len(fields) < 2 {
		return 0, fmt.Errorf("/proc/%d/stat cannot be read: %q", pid, stat)
	}
	return strconv.Atoi(fields[1])
}
