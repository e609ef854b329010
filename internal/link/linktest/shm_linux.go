package linktest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Offsets in the shared memory, protocol/link.md section 7.
const (
	AtDownHead    = 64
	AtDownTail    = 128
	AtUpHead      = 192
	AtUpTail      = 256
	AtReaderSleep = 320
	AtHostSleep   = 384
	AtWatchParked = 448
	AtWorkerWants = 512
	AtHostWants   = 576
	AtSlots       = 4096
)

// Order of the descriptors in GUADO_LINK.
const (
	FDMemory = iota
	FDToWorker
	FDToHost
	FDToWatch
	FDControl
)

// Memory is the worker's mapping of a link over shared memory, to be read and spoilt.
type Memory struct {
	Bytes []byte
	Ring  uint64
}

// Word is a 32-bit word of the mapping.
func (m Memory) Word(at int) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&m.Bytes[at]))
}

// Long is a 64-bit word of the mapping.
func (m Memory) Long(at int) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&m.Bytes[at]))
}

// Up is the offset of the worker's ring.
func (m Memory) Up() int { return len(m.Bytes) - int(m.Ring) }

// Memory gives the mapping; the transport must be shared memory.
func (p *Peer) Memory() Memory {
	c := p.ch.(*shmChannel) //nolint:forcetypeassert // the caller knows the transport
	return c.m
}

type shmChannel struct {
	m        Memory
	down, up []byte
	slots    int

	toWorker *os.File
	raw      syscall.RawConn
	others   []int

	mu       sync.Mutex // guards all below
	news     *sync.Cond
	leading  bool // a goroutine waits at the eventfd for all
	closed   bool
	downTail uint64
	upHead   uint64
}

func openShm(fds []int) (channel, int, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fds[FDMemory], &st); err != nil {
		return nil, 0, err
	}
	mem, err := unix.Mmap(fds[FDMemory], 0, int(st.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, 0, fmt.Errorf("map: %w", err)
	}
	le := binary.LittleEndian
	if string(mem[:8]) != "GUADOLNK" || le.Uint32(mem[8:]) != 1 {
		return nil, 0, errors.New("not the memory of a link of version 1")
	}
	c := &shmChannel{m: Memory{mem, uint64(le.Uint32(mem[12:]))}, slots: int(le.Uint32(mem[16:]))}
	c.news = sync.NewCond(&c.mu)
	at := AtSlots + 4*c.slots
	c.down = mem[at : at+int(c.m.Ring)]
	c.up = mem[at+int(c.m.Ring):]
	c.others = []int{fds[FDMemory], fds[FDToHost], fds[FDToWatch]}
	c.toWorker = os.NewFile(uintptr(fds[FDToWorker]), "to-worker")
	c.raw, err = c.toWorker.SyscallConn()
	return c, int(c.m.Ring) / 8, err
}

// wait waits at the eventfd, or for the goroutine that does. Called with mu held.
func (c *shmChannel) wait() {
	if c.leading {
		c.news.Wait()
		return
	}
	c.leading = true
	c.mu.Unlock()
	var count [8]byte
	err := c.raw.Read(func(fd uintptr) bool {
		_, err := unix.Read(int(fd), count[:])
		return !errors.Is(err, unix.EAGAIN)
	})
	c.mu.Lock()
	c.leading = false
	if err != nil {
		c.closed = true
	}
	c.news.Broadcast()
}

func (c *shmChannel) next(into []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	sleeps := c.m.Word(AtReaderSleep)
	for {
		if c.closed {
			return nil, errClosed
		}
		if head := c.m.Long(AtDownHead).Load(); head != c.downTail {
			if raw, ok := c.take(into); ok {
				return raw, nil
			}
			continue
		}
		sleeps.Store(1)
		if c.m.Long(AtDownHead).Load() == c.downTail {
			c.wait()
		}
		sleeps.Store(0)
	}
}

// take copies the next frame out; false: it was padding.
func (c *shmChannel) take(into []byte) ([]byte, bool) {
	ring := c.m.Ring
	at := c.downTail & (ring - 1)
	ok := false
	if ring-at == 8 {
		c.downTail += 8
	} else {
		size := uint64(binary.LittleEndian.Uint32(c.down[at:]))
		if ok = c.down[at+4] != 0x7f; ok {
			into = append(into, c.down[at:at+size]...)
		}
		c.downTail += (size + 7) &^ 7
	}
	c.m.Long(AtDownTail).Store(c.downTail)
	if c.m.Word(AtHostWants).CompareAndSwap(1, 0) {
		c.wakeHost()
	}
	return into, ok
}

func (c *shmChannel) send(raw []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	ring, need := c.m.Ring, uint64(len(raw))
	at := c.upHead & (ring - 1)
	gap := uint64(0)
	if need > ring-at {
		gap = ring - at
	}
	tail, wants := c.m.Long(AtUpTail), c.m.Word(AtWorkerWants)
	for c.upHead+gap+need-tail.Load() > ring {
		if c.closed {
			return errClosed
		}
		wants.Store(1)
		if c.upHead+gap+need-tail.Load() > ring {
			c.wait()
		}
	}
	if gap >= 16 {
		binary.LittleEndian.PutUint64(c.up[at:], gap|0x7f<<32)
		binary.LittleEndian.PutUint64(c.up[at+8:], 0)
	}
	if gap > 0 {
		at = 0
	}
	copy(c.up[at:], raw)
	c.upHead += gap + need
	c.m.Long(AtUpHead).Store(c.upHead)
	if sleeps := c.m.Word(AtHostSleep); sleeps.Load() == 1 && sleeps.CompareAndSwap(1, 0) {
		c.wakeHost()
	}
	return nil
}

// wakeHost is called with mu held: once the peer is closed, the number of its eventfd
// is somebody else's.
func (c *shmChannel) wakeHost() {
	if !c.closed {
		_, _ = unix.Write(c.others[1], []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// WakeHost adds to the host's eventfd.
func (p *Peer) WakeHost() {
	c := p.ch.(*shmChannel) //nolint:forcetypeassert // the caller knows the transport
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wakeHost()
}

func (c *shmChannel) start(stream uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false // a process that is gone starts nothing
	}
	w := c.m.Word(AtSlots + 4*int(stream&0xffff))
	return w.CompareAndSwap(stream>>16<<16|1, stream>>16<<16|2)
}

// close leaves the mapping: goroutines of the test may still look at it, and the end
// of the test process takes it away.
func (c *shmChannel) close() error {
	err := c.toWorker.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.news.Broadcast()
	for _, fd := range c.others {
		if cerr := unix.Close(fd); err == nil && cerr != nil {
			err = cerr
		}
	}
	return err
}
