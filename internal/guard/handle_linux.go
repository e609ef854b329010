package guard

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// wholeGroup makes pidfd_send_signal reach the group that the process leads (Linux 6.9).
const wholeGroup = 4

// handle is a pidfd: it never means another process that got the number. -1: none.
type handle int

func open(pid int) handle {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1
	}
	return handle(fd)
}

func (h handle) close() {
	if h >= 0 {
		_ = unix.Close(int(h)) // nothing was written
	}
}

// gone reports whether the process has ended: its handle can be read then.
func (h handle) gone() bool {
	if h < 0 {
		return true
	}
	fds := []unix.PollFd{{Fd: int32(h), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

// signalGroup reports whether the kernel could do it by the handle.
func (h handle) signalGroup(_ int, sig syscall.Signal, group bool) bool {
	if h < 0 {
		return false
	}
	flags := 0
	if group {
		flags = wholeGroup
	}
	err := unix.PidfdSendSignal(int(h), sig, nil, flags)
	return err == nil || errors.Is(err, unix.ESRCH)
}

// GroupLives reports whether a process group has a member that has not ended; one that
// nobody reaps has.
func GroupLives(group int) bool {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return false
	}
	id := strconv.Itoa(group)
	for _, e := range entries {
		if name := e.Name(); name[0] < '0' || name[0] > '9' {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) > 2 && fields[2] == id && fields[0] != "Z" {
			return true
		}
	}
	return false
}

// carriers lists the processes whose environment names the instance, zombies and this
// one excepted. Whose environment may not be read belongs to others.
func carriers(instance string) (found []int) {
	if instance == "" {
		return nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() && carries(pid, instance) {
			found = append(found, pid)
		}
	}
	return found
}

func carries(pid int, instance string) bool {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ") // empty of a zombie
	if err != nil {
		return false
	}
	variable := []byte(Variable + "=" + instance)
	for one := range bytes.SplitSeq(env, []byte{0}) {
		if bytes.Equal(one, variable) {
			return true
		}
	}
	return false
}

// endCarrier kills the process if it still carries the instance once it is held by a
// handle: the number may have become another's between the look and the signal.
func endCarrier(pid int, instance string) {
	h := open(pid)
	defer h.close()
	if h >= 0 && carries(pid, instance) {
		_ = unix.PidfdSendSignal(int(h), unix.SIGKILL, nil, 0) // ESRCH: it is gone already
	} else if h < 0 && carries(pid, instance) { // a kernel before 5.3
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}
