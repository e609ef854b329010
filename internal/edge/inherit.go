package edge

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// firstPassed is the number of the first descriptor that systemd passes.
const firstPassed = 3

// Activated lists the sockets that systemd passed to this process, as addresses for
// [Listen]; none when it was started by something else.
func Activated() []string {
	n := passed()
	all := make([]string, 0, n)
	for i := range n {
		all = append(all, "fd://"+strconv.Itoa(firstPassed+i))
	}
	return all
}

// passed is the number of sockets of LISTEN_FDS. LISTEN_PID says whom they are for: a
// child that inherited the environment only must not take them.
func passed() int {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return 0
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || n < 0 || n > 1024 {
		return 0
	}
	return n
}

func listenSystemd(addr string) (net.Listener, error) {
	n := passed()
	if n == 0 {
		return nil, fmt.Errorf("listen %s: systemd passed no socket (LISTEN_PID and LISTEN_FDS are not set for this process)", addr)
	}
	name := strings.TrimPrefix(strings.TrimPrefix(addr, "systemd"), ":")
	if name == "" {
		if n > 1 {
			return nil, fmt.Errorf("listen %s: systemd passed %d sockets; name one: systemd:NAME (FileDescriptorName=) or fd://N", addr, n)
		}
		return listenFD(firstPassed, addr)
	}
	found := -1
	for i, each := range strings.Split(os.Getenv("LISTEN_FDNAMES"), ":") {
		if each != name || i >= n {
			continue
		}
		if found >= 0 {
			return nil, fmt.Errorf("listen %s: several sockets have this name; use fd://N", addr)
		}
		found = i
	}
	if found < 0 {
		return nil, fmt.Errorf("listen %s: no socket of this name; systemd passed %q", addr, os.Getenv("LISTEN_FDNAMES"))
	}
	return listenFD(firstPassed+found, addr)
}

// listenFD takes over an inherited socket. The descriptor itself is closed: the
// listener has a copy of its own, which children do not inherit.
func listenFD(fd int, addr string) (net.Listener, error) {
	if err := checkListening(fd); err != nil {
		return nil, fmt.Errorf("listen %s: %w", addr, err)
	}
	f := os.NewFile(uintptr(fd), addr)
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("listen %s: descriptor %d is no socket to listen on: %w", addr, fd, err)
	}
	if err := f.Close(); err != nil {
		return nil, errors.Join(fmt.Errorf("listen %s: %w", addr, err), l.Close())
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // the path belongs to who made it
	}
	return &Listener{Listener: l}, nil
}

// checkListening looks before os.NewFile takes the descriptor over: a wrong number
// must not close what belongs to somebody else.
func checkListening(fd int) error {
	on, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
	switch {
	case errors.Is(err, syscall.EBADF):
		return fmt.Errorf("descriptor %d is not open", fd)
	case errors.Is(err, syscall.ENOTSOCK):
		return fmt.Errorf("descriptor %d is not a socket", fd)
	case err != nil:
		return fmt.Errorf("descriptor %d: %w", fd, err)
	case on == 0:
		return fmt.Errorf("descriptor %d is a socket that does not listen", fd)
	}
	return nil
}
