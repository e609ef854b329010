package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// control receives the descriptors that workers send for FILE frames.
type control struct {
	file *os.File
	raw  syscall.RawConn
	done chan struct{} // closed when nothing will be received any more
}

const (
	controlMagic   = 0x47444644 // "DFDG" as bytes
	controlMessage = 16
)

func newControl() (*control, *os.File, error) {
	host, child, err := socketPair(controlKind, "guado-control")
	if err != nil {
		return nil, nil, err
	}
	raw, err := host.SyscallConn()
	if err != nil {
		closeFiles([]*os.File{host, child})
		return nil, nil, fmt.Errorf("poll control socket: %w", err)
	}
	return &control{file: host, raw: raw, done: make(chan struct{})}, child, nil
}

// read receives until the worker's end is closed, the process has ended and the
// socket is empty, or the link is dead.
func (c *control) read(l *Link) error {
	defer close(c.done)
	for {
		var cause error
		err := c.raw.Read(func(fd uintptr) (stop bool) {
			stop, cause = c.turn(int(fd), l)
			return stop
		})
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return errors.Join(cause, err)
		}
		if err := c.file.SetReadDeadline(time.Time{}); err != nil {
			return fmt.Errorf("poll control socket: %w", err)
		}
	}
}

func (c *control) turn(fd int, l *Link) (stop bool, err error) {
	var p [controlMessage + 8]byte
	oob := make([]byte, unix.CmsgSpace(4*4))
	for {
		last := l.ending()
		n, oobn, flags, _, err := unix.Recvmsg(fd, p[:], oob, controlFlags)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return last || l.dead(), nil
		case errors.Is(err, unix.ECONNRESET), err == nil && n == 0 && oobn == 0:
			return true, nil
		case err != nil:
			return true, fmt.Errorf("read control socket: %w", err)
		}
		if err := c.message(p[:n], oob[:oobn], flags, l); err != nil || l.dead() {
			return true, err
		}
	}
}

// message takes one message and its descriptor; whatever else came is closed.
func (c *control) message(p, oob []byte, flags int, l *Link) error {
	fds, err := descriptors(oob)
	le := binary.LittleEndian
	switch {
	case err != nil:
	case flags&(unix.MSG_CTRUNC|unix.MSG_TRUNC) != 0:
		err = corrupt("truncated control message")
	case len(p) != controlMessage || le.Uint32(p) != controlMagic || le.Uint32(p[12:]) != 0:
		err = corrupt("control message %x", p)
	case len(fds) != 1:
		err = corrupt("control message with %d descriptors", len(fds))
	default:
		var st unix.Stat_t
		if err = unix.Fstat(fds[0], &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
			err = corrupt("descriptor of type 0%o is no regular file", st.Mode&unix.S_IFMT)
		}
	}
	if err != nil {
		for _, fd := range fds {
			_ = unix.Close(fd) // the worker is being ended because of it
		}
		return err
	}
	return l.files.arrived(le.Uint32(p[4:]), le.Uint32(p[8:]), os.NewFile(uintptr(fds[0]), "worker-file"))
}

// descriptors gives every descriptor in a control message, close-on-exec.
func descriptors(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, corrupt("control message: %w", err)
	}
	var out []int
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue // credentials and the like carry nothing to close
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			out = append(out, fd)
		}
	}
	return out, nil
}

func (c *control) kick() {
	// The file is closed only after the reader has returned.
	_ = c.file.SetReadDeadline(time.Unix(1, 0))
}
