package link_test

import (
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/link/linktest"
)

func TestACursorThatCannotBeEndsTheWorker(t *testing.T) {
	const ring = 1 << 20
	cases := []struct {
		name string
		at   int
		to   uint64
		why  string
	}{
		{"up head not aligned", linktest.AtUpHead, 20, "up head 20"},
		{"up head ahead of the ring", linktest.AtUpHead, ring + 8 + 32, "up head"},
		{"up head back", linktest.AtUpHead, 8, "up head 8"},
		{"up head at the end of numbers", linktest.AtUpHead, 1<<64 - 8, "up head"},
		{"up head in the middle of a header", linktest.AtUpHead, 40, "cut after 8 bytes"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			l, p := pair(t, link.Options{Transport: link.SharedMemory})
			settled(t, l, p) // two frames of 16 bytes
			settled(t, l, p)
			p.Memory().Long(c.at).Store(c.to)
			p.WakeHost()
			ended(t, l, c.why)
		})
	}
}

func TestADownTailThatCannotBeEndsTheWorker(t *testing.T) {
	for name, to := range map[string]uint64{"ahead": 1 << 40, "not aligned": 4, "at the end of numbers": 1<<64 - 8} {
		t.Run(name, func(t *testing.T) {
			l, p := pair(t, link.Options{Transport: link.SharedMemory, Ring: 1 << 14})
			p.Memory().Long(linktest.AtDownTail).Store(to)
			// The host looks at it when the ring seems full.
			for range 100 {
				s, err := l.Open(request("GET", "/"))
				if err != nil {
					break
				}
				if err = s.Request(make([]byte, 2000), true); err != nil {
					if !errors.Is(err, link.ErrCorrupt) {
						t.Errorf("sending gives %v", err)
					}
					break
				}
			}
			ended(t, l, "down tail")
		})
	}
}

func TestADownTailThatGoesBackEndsTheWorker(t *testing.T) {
	l, p := pair(t, link.Options{Transport: link.SharedMemory, Ring: 1 << 14})
	for i := range 100 {
		s, err := l.Open(request("GET", "/"))
		if err != nil || s.Request(make([]byte, 2000), true) != nil {
			break
		}
		if i < 20 {
			next(t, p, link.KindRequest)
		} else {
			p.Memory().Long(linktest.AtDownTail).Store(8)
		}
	}
	ended(t, l, "down tail 8")
}

func TestAPadOfAWrongSizeEndsTheWorker(t *testing.T) {
	l, p := pair(t, link.Options{Transport: link.SharedMemory})
	if err := p.SendRaw(frame(64, 0x7f, 0, 0, 0, 0, make([]byte, 48)...)); err != nil {
		t.Fatal(err)
	}
	ended(t, l, "PAD of 64 bytes")
}

func TestAFrameThatReachesPastWhatWasPublishedEndsTheWorker(t *testing.T) {
	l, p := pair(t, link.Options{Transport: link.SharedMemory})
	if err := p.SendRaw(frame(4096, 0x49, 0, 0, 0, 0)); err != nil {
		t.Fatal(err)
	}
	ended(t, l, "where 16 are")
}

func TestTheRingPassesItsEndAtEveryOffset(t *testing.T) {
	// Sizes that are no divisors of the ring bring header, payload and gaps of 8, 16
	// and more bytes to its end in both directions.
	l := served(t, link.Options{Transport: link.SharedMemory, Ring: 1 << 12}, func(r *linktest.Request) {
		_ = r.Reply(200, r.Inline)
	})
	for i := range 3000 {
		c := open(t, l)
		body := make([]byte, i*8%120)
		if a := c.request(true, body).read(); len(a.body) != len(body) {
			t.Fatalf("round %d: %d bytes came back of %d", i, len(a.body), len(body))
		}
		c.s.Close()
	}
}

func TestTheMemoryCannotBeResizedOrSealed(t *testing.T) {
	_, p := pair(t, link.Options{Transport: link.SharedMemory})
	fd := p.FDs[linktest.FDMemory]
	for name, err := range map[string]error{
		"truncating to nothing": unix.Ftruncate(fd, 0),
		"growing":               unix.Ftruncate(fd, 1<<30),
	} {
		if !errors.Is(err, unix.EPERM) {
			t.Errorf("%s gives %v", name, err)
		}
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_FUTURE_WRITE); !errors.Is(err, unix.EPERM) {
		t.Errorf("adding a seal gives %v", err)
	}
}

func TestAHolePunchedIntoTheRingEndsTheWorker(t *testing.T) {
	l, p := pair(t, link.Options{Transport: link.SharedMemory})
	m := p.Memory()
	// A frame that is written but not yet announced, then taken away.
	binary.LittleEndian.PutUint64(m.Bytes[m.Up():], 16|0x49<<32)
	punch(t, p, int64(m.Up()&^4095), 4096+int64(m.Up()&4095))
	m.Long(linktest.AtUpHead).Store(16)
	p.WakeHost()
	ended(t, l, "size 0")
}

func TestAHolePunchedIntoTheCursorsEndsTheWorker(t *testing.T) {
	l, p := pair(t, link.Options{Transport: link.SharedMemory})
	settled(t, l, p)
	punch(t, p, 0, 4096)
	p.WakeHost()
	ended(t, l, "up head 0")
}

func punch(t *testing.T, p *linktest.Peer, at, size int64) {
	t.Helper()
	if err := unix.Fallocate(p.FDs[linktest.FDMemory], unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, size); err != nil {
		t.Fatal(err)
	}
}

func TestACounterThatTheWorkerFilledDoesNotHangTheHost(t *testing.T) {
	for name, which := range map[string]int{"to worker": linktest.FDToWorker, "to watch": linktest.FDToWatch} {
		t.Run(name, func(t *testing.T) {
			l, p := pair(t, link.Options{Transport: link.SharedMemory})
			fill(t, p.FDs[which])
			m := p.Memory()
			word := linktest.AtReaderSleep
			if which == linktest.FDToWatch {
				word = linktest.AtWatchParked
			}
			// Many at once: only one of them may be caught in the write, for a thread
			// that is caught is one that the host has to replace.
			threads := countDir(t, "/proc/self/task")
			var all sync.WaitGroup
			for range 64 {
				all.Go(func() {
					for range 50 {
						m.Word(word).Store(1)
						l.Ping(1)
					}
				})
			}
			done := make(chan struct{})
			go func() { all.Wait(); close(done) }()
			select {
			case <-done:
			case <-time.After(patience):
				t.Fatal("senders hang in the wake-up")
			}
			ended(t, l, "filled its wake-up counter")
			if n := countDir(t, "/proc/self/task") - threads; n > 16 {
				t.Errorf("%d threads were made for the senders", n)
			}
		})
	}
}

func TestACounterThatIsFilledAgainAndAgainDoesNotHangClose(t *testing.T) {
	for range 20 { // the write has begun when the link is closed, or not quite
		l, p := pair(t, link.Options{Transport: link.SharedMemory, Ring: 1 << 14, Slots: 1})
		fd := p.FDs[linktest.FDToWorker]
		fill(t, fd)
		stop := make(chan struct{})
		var both sync.WaitGroup
		both.Go(func() { // as often as the host drains it
			for {
				select {
				case <-stop:
					return
				default:
					fillOnce(fd)
				}
			}
		})
		word := p.Memory().Word(linktest.AtReaderSleep)
		word.Store(1)
		both.Go(func() { l.Ping(1) })
		until(t, "the wake-up", func() bool { return word.Load() == 0 })
		closed := make(chan error, 1)
		go func() { closed <- l.Close() }()
		select {
		case err := <-closed:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Fatal("Close hangs")
		}
		close(stop)
		ended := make(chan struct{})
		go func() { both.Wait(); close(ended) }()
		drainUntil(ended, fd) // the filler itself may be caught now
	}
}

// drainUntil empties a counter again and again until done.
func drainUntil(done <-chan struct{}, fd int) {
	var count [8]byte
	for {
		select {
		case <-done:
			return
		default:
		}
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 1); err == nil && n > 0 {
			_, _ = unix.Read(fd, count[:]) // only this goroutine reads it
		}
	}
}

// fill clears O_NONBLOCK and leaves no room for another 1 in the counter.
func fill(t *testing.T, fd int) {
	t.Helper()
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
	fillOnce(fd)
}

// fillOnce adds what brings an empty counter to its top; it never blocks, for it asks
// poll for room first and nobody else adds that much.
func fillOnce(fd int) {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	if n, err := unix.Poll(p, 1); err != nil || n == 0 || p[0].Revents&unix.POLLOUT == 0 {
		return
	}
	var count [8]byte
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0); err == nil && n > 0 {
		return // something is in it: all but the top would block
	}
	binary.LittleEndian.PutUint64(count[:], 1<<64-2)
	_, _ = unix.Write(fd, count[:])
}

// A host that is only slow to run must not take a worker for hostile.
func TestAWakeUpThatIsSlowToReturnCondemnsNobody(t *testing.T) {
	l, p := pair(t, link.Options{Transport: link.SharedMemory})
	for i := range 20 {
		p.Memory().Word(linktest.AtReaderSleep).Store(1)
		l.Ping(uint32(i))
		next(t, p, link.KindPing)
	}
	if err := l.Err(); err != nil {
		t.Error(err)
	}
}

func TestTheWatchThreadIsWokenWhenNoReaderSleeps(t *testing.T) {
	l, p := pair(t, link.Options{Transport: link.SharedMemory})
	m := p.Memory()
	watch := os.NewFile(uintptr(p.FDs[linktest.FDToWatch]), "to-watch")
	p.FDs[linktest.FDToWatch] = -1
	m.Word(linktest.AtWatchParked).Store(1)
	l.Ping(7)
	var count [8]byte
	if err := watch.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Read(count[:]); err != nil {
		t.Fatalf("the watch thread was not woken: %v", err)
	}
	if m.Word(linktest.AtWatchParked).Load() != 0 {
		t.Error("the word still says parked")
	}
	// One wake for one sleep: a second frame wakes nobody.
	l.Ping(8)
	next(t, p, link.KindPing)
	next(t, p, link.KindPing)
	if n := binary.LittleEndian.Uint64(count[:]); n != 1 {
		t.Errorf("the watch thread was woken %d times", n)
	}
}

func TestAProcessMayNotFillTheControlSocketWithDescriptors(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		l, p := pair(t, link.Options{Transport: transport})
		c := open(t, l).request(true)
		id := next(t, p, link.KindRequest).Stream
		f := tempFile(t, "x")
		before := openFDs(t)
		for i := range 80 {
			if p.SendDescriptor(id, uint32(i), int(f.Fd())) != nil {
				break // the host has closed its end
			}
		}
		ended(t, l, "descriptors that no FILE names")
		c.s.Close()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if n := openFDs(t); n > before {
			t.Errorf("%d descriptors are open, before the flood %d", n, before)
		}
	})
}

func openFDs(t *testing.T) int {
	t.Helper()
	return countDir(t, "/proc/self/fd")
}

func countDir(t *testing.T, path string) int {
	t.Helper()
	all, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
