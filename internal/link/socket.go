package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socket is the transport over a stream socketpair: the same frames with the same
// padding. There are no slot words; STARTED frames take their place.
type socket struct {
	file     *os.File
	raw      syscall.RawConn
	maxFrame int
	limit    int // bytes that may wait for the writer: as much as a ring would hold

	out    *outbox
	queued []byte // put and not taken by who writes; guarded by out.mu
	fresh  bool   // something was put since publish; guarded by out.mu
	taken  int    // bytes that are being written; guarded by out.mu

	// One goroutine writes at a time: a sender who finds nobody at it, or the owner
	// of what did not go at once. Who holds writer owns left and spare.
	writer      atomic.Bool
	left, spare []byte
	more        chan struct{} // hands writer to writeLoop
	done        chan struct{}
	owner       sync.WaitGroup

	in      []byte // the reader's: bytes from at to end are not parsed yet
	at, end int
}

// writeRounds is how often a sender goes on writing what others have queued.
const writeRounds = 4

func newSocket(ring int, out *outbox) (transport, []*os.File, error) {
	host, child, err := socketPair(unix.SOCK_STREAM, "guado-link")
	if err != nil {
		return nil, nil, err
	}
	raw, err := host.SyscallConn()
	if err != nil {
		closeFiles([]*os.File{host, child})
		return nil, nil, fmt.Errorf("poll link socket: %w", err)
	}
	t := &socket{
		file: host, raw: raw, maxFrame: ring / 8, limit: ring, out: out,
		more: make(chan struct{}, 1), done: make(chan struct{}),
		in: make([]byte, max(64<<10, ring/4)),
	}
	t.owner.Go(t.writeLoop)
	return t, []*os.File{child}, nil
}

// socketPair gives the host's end, polled, and the worker's, which still blocks: the
// two have status flags of their own.
func socketPair(kind int, name string) (host, child *os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := unix.Socketpair(unix.AF_UNIX, kind, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, fmt.Errorf("create socketpair %s: %w", name, err)
	}
	child = os.NewFile(uintptr(fds[1]), name)
	if err := unix.SetNonblock(fds[0], true); err != nil {
		_ = unix.Close(fds[0]) // the error that is returned says why
		closeFiles([]*os.File{child})
		return nil, nil, fmt.Errorf("socketpair %s: %w", name, err)
	}
	return os.NewFile(uintptr(fds[0]), name), child, nil
}

func (t *socket) put(h header, payload []byte) bool {
	need := padded(int(h.size))
	if len(t.queued)+t.taken+need > t.limit {
		return false
	}
	t.queued = append(h.append(t.queued), payload...)
	for pad := need - int(h.size); pad > 0; pad-- {
		t.queued = append(t.queued, 0)
	}
	t.fresh = true
	return true
}

func (t *socket) publish() wakes {
	if !t.fresh {
		return 0
	}
	t.fresh = false
	return wakeReader
}

func (t *socket) fault() error { return nil }

func (t *socket) queue(uint32) {}

func (t *socket) revoke(uint32) fate { return fateOpen }

func (t *socket) started(uint32) bool { return false }

// wake writes what is queued, at once and without blocking, when nobody writes yet.
// Who writes looks again after each round, so nothing is left behind.
func (t *socket) wake(wakes) {
	if t.writer.CompareAndSwap(false, true) {
		t.pump(false)
	}
}

// writeLoop waits for the worker to read, which senders never do.
func (t *socket) writeLoop() {
	for {
		select {
		case <-t.more:
			t.pump(true)
		case <-t.done:
			return
		}
	}
}

// pump writes until nothing is queued and lets go of writer, or hands it over.
func (t *socket) pump(wait bool) {
	for round := 0; ; round++ {
		t.out.mu.Lock()
		if len(t.left) == 0 {
			if len(t.queued) == 0 {
				t.taken = 0
				t.writer.Store(false)
				t.out.mu.Unlock()
				return
			}
			t.left, t.queued, t.spare = t.queued, t.spare[:0], nil
		}
		t.taken = len(t.left)
		t.out.mu.Unlock()
		if !wait && round == writeRounds {
			t.more <- struct{}{} // room for one, and only who holds writer sends
			return
		}
		whole := t.left
		err := t.raw.Write(func(fd uintptr) bool {
			t.left = writeSome(int(fd), t.left)
			return len(t.left) == 0 || !wait
		})
		if err != nil {
			t.left = nil // closed: the reader has said or will say so
		}
		if len(t.left) > 0 {
			t.more <- struct{}{}
			return
		}
		t.spare = whole[:0]
		if t.out.linked.Load() {
			t.out.mu.Lock()
			t.taken = 0
			t.out.mu.Unlock()
			_ = t.out.flush() // a socket has no cursors to find fault with
		}
	}
}

// writeSome writes until the socket is full and gives what is left; of a socket that
// the worker has closed, nothing is.
func writeSome(fd int, p []byte) []byte {
	for len(p) > 0 {
		n, err := unix.Write(fd, p)
		switch {
		case err == nil:
			p = p[n:]
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return p
		default:
			return nil
		}
	}
	return nil
}

func (t *socket) read(s sink) error {
	for {
		var cause error
		err := t.raw.Read(func(fd uintptr) (stop bool) {
			stop, cause = t.turn(int(fd), s)
			return stop
		})
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return errors.Join(cause, err)
		}
		// A kick: what it is about is looked at before the next sleep.
		if err := t.file.SetReadDeadline(time.Time{}); err != nil {
			return fmt.Errorf("poll link socket: %w", err)
		}
	}
}

// turn reads and files what has come; it says whether reading has ended. A short
// read has emptied the socket: what comes after it makes an edge.
func (t *socket) turn(fd int, s sink) (stop bool, err error) {
	for {
		last := s.ending()
		n, err := unix.Read(fd, t.in[t.end:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			if last {
				return true, ErrExited
			}
			return s.dead(), nil
		case errors.Is(err, unix.ECONNRESET), err == nil && n == 0:
			// Reset: the worker left something unread. All that it wrote comes first.
			return true, io.EOF
		case err != nil:
			return true, fmt.Errorf("read link socket: %w", err)
		}
		short := n < len(t.in)-t.end
		t.end += n
		if err := t.parse(s); err != nil {
			return true, err
		}
		if s.dead() {
			return true, nil
		}
		if short && !last {
			return false, nil
		}
	}
}

// parse files the whole frames and moves the rest to the front.
func (t *socket) parse(s sink) error {
	for t.end-t.at >= headerSize && !s.dead() {
		b := t.in[t.at:t.end]
		h, err := parseHeader(binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]), t.maxFrame)
		if err != nil {
			return err
		}
		if h.kind == KindPad {
			return corrupt("PAD on a socket")
		}
		if len(b) < padded(int(h.size)) {
			break
		}
		if err := s.frame(h, shared{b[headerSize:h.size]}); err != nil {
			return err
		}
		t.at += padded(int(h.size))
	}
	t.end = copy(t.in, t.in[t.at:t.end])
	t.at = 0
	return nil
}

func (t *socket) kick() {
	// The file is closed only after the link has ended, and then nobody need be woken.
	_ = t.file.SetReadDeadline(time.Unix(1, 0))
}

func (t *socket) stop() {
	close(t.done)
	t.kick()
}

func (t *socket) release() error {
	err := t.file.Close() // frees a writer that waits
	t.owner.Wait()
	return err
}

func (t *socket) status(s *Status) {
	s.Transport = "socket"
	s.Waiting = len(t.queued) + t.taken
}
