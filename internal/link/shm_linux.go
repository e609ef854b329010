package link

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Layout of the shared memory, protocol/link.md section 7.
const (
	shmMagic       = 0x4b4e4c4f44415547 // "GUADOLNK"
	shmDownHead    = 64
	shmDownTail    = 128
	shmUpHead      = 192
	shmUpTail      = 256
	shmReaderSleep = 320
	shmHostSleep   = 384
	shmWatchParked = 448
	shmWorkerWants = 512
	shmHostWants   = 576
	shmSlots       = 4096

	slotFree    = 0
	slotQueued  = 1
	slotStarted = 2
	slotRevoked = 3
)

// shm is the transport over shared memory: two rings in a sealed memfd, and eventfds
// for those who sleep.
type shm struct {
	ring, slots uint64
	mem         []byte
	down, up    []byte
	words       []atomic.Uint32 // slot words

	// The host publishes downHead, upTail and reads the worker's cursors from here.
	pubDownHead, pubDownTail, pubUpHead, pubUpTail                *atomic.Uint64
	readerSleeps, hostSleeps, watchParked, workerWants, hostWants *atomic.Uint32

	// Private truth of the down ring, guarded by outbox.mu.
	downHead, downTail, downSent uint64
	bad                          error

	upTail, upDone uint64 // private truth of the up ring; the reader's

	toHost        *os.File // read end: only its edges are waited for, it is never read
	raw           syscall.RawConn
	reader, watch *waker
	guard         *guard
}

// newShm makes the memory and the descriptors. child are the worker's own copies, in
// the order of GUADO_LINK.
func newShm(ring, slots int, report func(error)) (_ transport, child []*os.File, err error) {
	t := &shm{ring: uint64(ring), slots: uint64(slots), guard: newGuard(report)}
	defer func() {
		if err != nil {
			closeFiles(child)
			child = nil
		}
	}()
	size := shmSlots + 4*slots + 2*ring
	memfd, err := sealedMemory(size)
	if err != nil {
		return nil, child, err
	}
	child = append(child, os.NewFile(uintptr(memfd), "guado-link"))
	t.mem, err = unix.Mmap(memfd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, child, fmt.Errorf("map link memory: %w", err)
	}
	t.layOut()
	var hosts [3]int
	for i, name := range []string{"to-worker", "to-host", "to-watch"} {
		host, file, err := newEventfd(name)
		if err != nil {
			for _, fd := range hosts[:i] {
				_ = unix.Close(fd) // the error that is returned says why
			}
			_ = unix.Munmap(t.mem)
			return nil, child, err
		}
		hosts[i] = host
		child = append(child, file)
	}
	t.reader = &waker{fd: hosts[0], guard: t.guard}
	t.watch = &waker{fd: hosts[2], guard: t.guard}
	t.guard.wakers = []*waker{t.reader, t.watch}
	t.toHost = os.NewFile(uintptr(hosts[1]), "to-host")
	if t.raw, err = t.toHost.SyscallConn(); err != nil {
		return nil, child, errors.Join(fmt.Errorf("poll to-host: %w", err), t.release())
	}
	t.guard.start()
	return t, child, nil
}

// sealedMemory is a preallocated memfd whose size nobody can change any more: a
// mapping that is cut short under a Go process kills it.
func sealedMemory(size int) (int, error) {
	flags := unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("guado-link", flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("guado-link", flags)
	}
	if err != nil {
		return -1, fmt.Errorf("create link memory: %w", err)
	}
	if err = unix.Fallocate(fd, 0, 0, int64(size)); err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	}
	if err != nil {
		_ = unix.Close(fd) // the error that is returned says why
		return -1, fmt.Errorf("allocate and seal %d bytes of link memory: %w", size, err)
	}
	return fd, nil
}

// newEventfd gives the host's descriptor and a file of the worker's. The file is made
// while the eventfd still blocks, so that os neither polls it nor ever touches the
// status flags, which both descriptors share.
func newEventfd(name string) (int, *os.File, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return -1, nil, fmt.Errorf("create eventfd %s: %w", name, err)
	}
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		_ = unix.Close(fd) // the error that is returned says why
		return -1, nil, fmt.Errorf("duplicate eventfd %s: %w", name, err)
	}
	file := os.NewFile(uintptr(dup), name)
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd) // the error that is returned says why
		closeFiles([]*os.File{file})
		return -1, nil, fmt.Errorf("eventfd %s: %w", name, err)
	}
	return fd, file, nil
}

func (t *shm) layOut() {
	word := func(at int) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&t.mem[at])) }
	long := func(at int) *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&t.mem[at])) }
	long(0).Store(shmMagic)
	word(8).Store(Protocol)
	word(12).Store(uint32(t.ring))
	word(16).Store(uint32(t.slots))
	t.pubDownHead, t.pubDownTail = long(shmDownHead), long(shmDownTail)
	t.pubUpHead, t.pubUpTail = long(shmUpHead), long(shmUpTail)
	t.readerSleeps, t.hostSleeps, t.watchParked = word(shmReaderSleep), word(shmHostSleep), word(shmWatchParked)
	t.workerWants, t.hostWants = word(shmWorkerWants), word(shmHostWants)
	t.words = unsafe.Slice(word(shmSlots), t.slots)
	rings := t.mem[shmSlots+4*t.slots:]
	t.down, t.up = rings[:t.ring:t.ring], rings[t.ring:]
}

func (t *shm) put(h header, payload []byte) bool {
	need := uint64(padded(int(h.size)))
	at := t.downHead & (t.ring - 1)
	gap := uint64(0)
	if left := t.ring - at; need > left {
		gap = left
	}
	if !t.room(need + gap) {
		return false
	}
	if gap >= headerSize {
		t.putHeader(at, header{size: uint32(gap), kind: KindPad})
	}
	if gap > 0 {
		t.downHead += gap
		at = 0
	}
	t.putHeader(at, h)
	copy(t.down[at+headerSize:], payload)
	t.downHead += need
	return true
}

func (t *shm) putHeader(at uint64, h header) {
	lo, hi := h.words()
	*(*uint64)(unsafe.Pointer(&t.down[at])) = lo
	*(*uint64)(unsafe.Pointer(&t.down[at+8])) = hi
}

// room looks whether the down ring has n free bytes, and asks to be told when not.
func (t *shm) room(n uint64) bool {
	if t.downHead+n-t.downTail <= t.ring {
		return true
	}
	if t.lookTail(); t.downHead+n-t.downTail <= t.ring {
		return true
	}
	t.hostWants.Store(1)
	t.lookTail()
	return t.downHead+n-t.downTail <= t.ring
}

// lookTail takes the worker's cursor when it can be true. It may have read up to
// what was published, not what is only put.
func (t *shm) lookTail() {
	tail := t.pubDownTail.Load()
	if tail%frameAlign != 0 || tail-t.downTail > t.downSent-t.downTail {
		if t.bad == nil {
			t.bad = corrupt("down tail %d is not between %d and %d", tail, t.downTail, t.downSent)
		}
		return
	}
	t.downTail = tail
}

func (t *shm) fault() error { return t.bad }

func (t *shm) publish() (w wakes) {
	if t.downHead == t.downSent {
		return 0
	}
	t.downSent = t.downHead
	t.pubDownHead.Store(t.downHead)
	if t.readerSleeps.Load() == 1 && t.readerSleeps.CompareAndSwap(1, 0) {
		return wakeReader
	}
	if t.watchParked.Load() == 1 && t.watchParked.CompareAndSwap(1, 0) {
		return wakeWatch
	}
	return 0
}

func (t *shm) wake(w wakes) {
	if w&wakeReader != 0 {
		t.reader.wake(w&wakeNow != 0)
	}
	if w&wakeWatch != 0 {
		t.watch.wake(w&wakeNow != 0)
	}
}

func (t *shm) queue(id uint32) { t.words[slotOf(id)].Store(generationOf(id)<<16 | slotQueued) }

func (t *shm) revoke(id uint32) fate {
	w, gen := &t.words[slotOf(id)], generationOf(id)<<16
	if w.CompareAndSwap(gen|slotQueued, gen|slotRevoked) || w.Load() == gen|slotRevoked {
		return fateNotStarted
	}
	return fateStarted // or a word that the worker has spoilt
}

func (t *shm) started(id uint32) bool {
	return t.words[slotOf(id)].Load() == generationOf(id)<<16|slotStarted
}

// read waits for edges of to-host. One RawConn.Read spans the life of the link: the
// poller keeps an edge that comes while the callback runs, so nothing is lost, and
// nothing has to be read from the eventfd, whose counter each wake-up changes.
func (t *shm) read(s sink) error {
	for {
		var cause error
		err := t.raw.Read(func(uintptr) (stop bool) {
			stop, cause = t.turn(s)
			return stop
		})
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return errors.Join(cause, err)
		}
		// A kick: what it is about is looked at before the next sleep.
		if err := t.toHost.SetReadDeadline(time.Time{}); err != nil {
			return fmt.Errorf("poll to-host: %w", err)
		}
	}
}

// turn reads what there is and says whether reading has ended; otherwise the host is
// marked asleep and the worker's next frame makes an edge.
func (t *shm) turn(s sink) (stop bool, err error) {
	for {
		last := s.ending() // asked first: all that the process wrote is published then
		n, err := t.drain(s)
		if err != nil {
			return true, err
		}
		if s.dead() {
			return true, nil
		}
		if last {
			return true, ErrExited
		}
		s.flush()
		if n > 0 {
			continue
		}
		t.hostSleeps.Store(1)
		if t.pubUpHead.Load() == t.upTail {
			return false, nil
		}
		t.hostSleeps.Store(0)
	}
}

// drain files the frames that are published now.
func (t *shm) drain(s sink) (n int, err error) {
	head := t.pubUpHead.Load()
	if head%frameAlign != 0 || head-t.upTail > t.ring {
		return 0, corrupt("up head %d with %d read of a ring of %d", head, t.upTail, t.ring)
	}
	for t.upTail != head && !s.dead() {
		at := t.upTail & (t.ring - 1)
		left := min(t.ring-at, head-t.upTail)
		if t.ring-at == frameAlign {
			t.upTail += frameAlign
			continue
		}
		if left < headerSize {
			return n, corrupt("frame header cut after %d bytes", left)
		}
		lo := (*atomic.Uint64)(unsafe.Pointer(&t.up[at])).Load()
		hi := (*atomic.Uint64)(unsafe.Pointer(&t.up[at+8])).Load()
		h, err := parseHeader(lo, hi, int(t.ring/8))
		if err != nil {
			return n, err
		}
		size := uint64(padded(int(h.size)))
		if size > left {
			return n, corrupt("%v frame of %d bytes where %d are", h.kind, h.size, left)
		}
		if h.kind == KindPad {
			if uint64(h.size) != t.ring-at {
				return n, corrupt("PAD of %d bytes, %d before the end", h.size, t.ring-at)
			}
		} else if err := s.frame(h, shared{t.up[at+headerSize : at+uint64(h.size)]}); err != nil {
			return n, err
		}
		n++
		if t.upTail += size; t.upTail-t.upDone >= t.ring/4 {
			t.releaseUp()
		}
	}
	if t.upTail != t.upDone {
		t.releaseUp()
	}
	return n, nil
}

// releaseUp publishes what was read, and wakes a worker that waits for room.
func (t *shm) releaseUp() {
	t.upDone = t.upTail
	t.pubUpTail.Store(t.upTail)
	if t.workerWants.Load() == 1 && t.workerWants.CompareAndSwap(1, 0) {
		t.reader.wake(false)
	}
}

func (t *shm) kick() {
	// The file is closed only after the link has ended, and then nobody need be woken.
	_ = t.toHost.SetReadDeadline(time.Unix(1, 0))
}

func (t *shm) stop() { t.kick() }

func (t *shm) release() error {
	return errors.Join(t.toHost.Close(), t.guard.stop(), unix.Munmap(t.mem))
}

func (t *shm) status(s *Status) {
	s.Transport = "shm"
	s.Waiting = int(t.downHead - t.downTail)
}

// shmWorks probes what the transport needs beyond a memfd: an eventfd that can be
// drained without ever blocking (Linux 5.8).
func shmWorks() bool {
	fd, err := unix.Eventfd(1, unix.EFD_CLOEXEC)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written to it
	w := waker{fd: fd}
	_, err = w.drain()
	return err == nil
}
