package edge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Listener is what [Listen] opens.
type Listener struct {
	net.Listener
	Plain bool // no TLS here, also when the server has a certificate
}

// defaultSocketMode lets the owner and the group in: a web server in front is usually
// another user of a common group.
const defaultSocketMode = fs.FileMode(0o660)

// Listen opens one address:
//
//	HOST:PORT, :PORT    TCP; "http://HOST:PORT" stays plain when there is TLS
//	unix:PATH           Unix socket, mode 0660; "unix:PATH?mode=0666" sets another.
//	                    A socket that a dead process left behind is taken over
//	fd://N              a listening socket inherited as descriptor N
//	systemd, systemd:NAME  the socket that systemd passed (the one of this name)
//
// An address in use gives an error that names the owner where the system tells it.
func Listen(addr string) (net.Listener, error) {
	if rest, ok := strings.CutPrefix(addr, "unix:"); ok {
		return listenUnix(rest)
	}
	if rest, ok := strings.CutPrefix(addr, "fd://"); ok {
		fd, err := strconv.Atoi(rest)
		if err != nil || fd < 3 {
			return nil, fmt.Errorf("listen %s: fd:// takes the number of an inherited descriptor, 3 or more", addr)
		}
		return listenFD(fd, addr)
	}
	if addr == "systemd" || strings.HasPrefix(addr, "systemd:") {
		return listenSystemd(addr)
	}
	plain := false
	if rest, ok := strings.CutPrefix(addr, "http://"); ok {
		addr, plain = strings.TrimSuffix(rest, "/"), true
	}
	var config net.ListenConfig
	l, err := config.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, explain(addr, err)
	}
	return &Listener{Listener: l, Plain: plain}, nil
}

// ListenAll opens all addresses or none; "systemd" stands for every socket that
// systemd passed.
func ListenAll(addrs []string) ([]net.Listener, error) {
	var all []net.Listener
	for _, addr := range addrs {
		each := []string{addr}
		if addr == "systemd" && passed() > 1 {
			each = Activated()
		}
		for _, one := range each {
			l, err := Listen(one)
			if err != nil {
				for _, open := range all {
					err = errors.Join(err, open.Close())
				}
				return nil, err
			}
			all = append(all, l)
		}
	}
	return all, nil
}

// InUseError is the error about an address that another process has. It says once what the system's error beneath it says again.
type InUseError struct {
	Who  string // has it: "gunicorn (pid 71)"
	addr string
	err  error
}

func (e *InUseError) Error() string { return fmt.Sprintf("listen %s: in use by %s", e.addr, e.Who) }

// By reports whether that process is this one.
func (e *InUseError) By(pid int) bool { return strings.HasSuffix(e.Who, fmt.Sprintf("(pid %d)", pid)) }

func (e *InUseError) Unwrap() error { return e.err }

func explain(addr string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		_, port, splitErr := net.SplitHostPort(addr)
		n, convErr := strconv.ParseUint(port, 10, 16)
		if splitErr == nil && convErr == nil {
			if who := portOwner(uint16(n)); who != "" {
				return &InUseError{addr: addr, Who: who, err: err}
			}
		}
		return &InUseError{addr: addr, Who: "another process", err: err}
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("listen %s: not permitted: ports below 1024 need the capability CAP_NET_BIND_SERVICE: %w", addr, err)
	}
	return fmt.Errorf("listen %s: %w", addr, err)
}

func listenUnix(rest string) (net.Listener, error) {
	path, mode, err := splitUnix(rest)
	if err != nil {
		return nil, err
	}
	abstract := strings.HasPrefix(path, "@")
	if !abstract {
		if err := removeDead(path); err != nil {
			return nil, err
		}
	}
	// Closed to others from its first moment; opened to the mode once it is there.
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var chmodErr error
		err := c.Control(func(fd uintptr) {
			if !abstract {
				chmodErr = syscall.Fchmod(int(fd), 0o600)
			}
		})
		return errors.Join(err, chmodErr)
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen unix:%s: %w", path, err)
	}
	if !abstract {
		if err := os.Chmod(path, mode); err != nil {
			return nil, errors.Join(fmt.Errorf("listen unix:%s: %w", path, err), l.Close())
		}
	}
	return &Listener{Listener: l, Plain: true}, nil
}

func splitUnix(rest string) (path string, mode fs.FileMode, err error) {
	path, query, found := strings.Cut(rest, "?")
	mode = defaultSocketMode
	if found {
		value, ok := strings.CutPrefix(query, "mode=")
		n, convErr := strconv.ParseUint(value, 8, 12)
		if !ok || convErr != nil || n > 0o777 {
			return "", 0, fmt.Errorf("listen unix:%s: after ? comes mode= and an octal mode, as in ?mode=0660", rest)
		}
		mode = fs.FileMode(n)
	}
	if path == "" {
		return "", 0, errors.New("listen unix: no path")
	}
	return path, mode, nil
}

// removeDead takes away a socket file behind which nobody listens.
func removeDead(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listen unix:%s: %w", path, err)
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("listen unix:%s: the path is there and is no socket: remove it or choose another", path)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "unix", path)
	if err == nil {
		owner := peerOwner(c)
		_ = c.Close() // it has told what we wanted
		return &InUseError{addr: "unix:" + path, Who: owner, err: syscall.EADDRINUSE}
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("listen unix:%s: cannot tell whether the socket is in use: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("listen unix:%s: %w", path, err)
	}
	return nil
}
