package link

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// waker adds to one eventfd of the worker. The worker shares the descriptor's status
// flags: it can clear O_NONBLOCK and fill the counter, and then a write blocks. So
// at most one goroutine writes at a time (a second one would only block a second
// thread; its wake-up is done by the first), and the guard watches how long.
type waker struct {
	fd    int
	state atomic.Uint32 // wakerIdle …
	count atomic.Uint64 // writes that came back
	guard *guard

	seen  uint64 // the guard's: count at its last look
	ticks int    // the guard's: looks since which the same write is under way
}

const (
	wakerIdle    uint32 = iota
	wakerPending        // a goroutine lets others run, then writes
	wakerWriting        // a goroutine is in write(2)
	wakerAgain          // and will write once more
	wakerClosed
)

var eventOne = [8]byte{1}

// wake adds 1 to the eventfd. syscall.Syscall and not RawSyscall: a thread that
// blocks in a raw one keeps its P and stops the whole host at the next collection.
//
// The goroutines that are ready run first: they are requests that arrived with this
// one, and a worker that wakes for the first of them takes the processor from the
// others, finds one frame, and sleeps again. Not so where now is true: what a thread waits for
// must not wait for them, nor for a processor that is called to help with them.
func (w *waker) wake(now bool) {
	for {
		switch s := w.state.Load(); s {
		case wakerIdle:
			if w.state.CompareAndSwap(wakerIdle, wakerPending) {
				if !now {
					runtime.Gosched()
				}
				w.state.Store(wakerWriting)
				w.write()
				return
			}
		case wakerWriting:
			if w.state.CompareAndSwap(wakerWriting, wakerAgain) {
				return
			}
		default:
			return
		}
	}
}

func (w *waker) write() {
	w.guard.watch()
	for {
		_, _, errno := unix.Syscall(unix.SYS_WRITE, uintptr(w.fd), uintptr(unsafe.Pointer(&eventOne)), 8)
		w.count.Add(1)
		if errno != 0 && errno != unix.EINTR {
			// EAGAIN: 2⁶⁴−2 wake-ups that nobody read are not an accident.
			w.guard.fault(corrupt("wake-up of the worker failed: %w", errno))
		}
		if errno != unix.EINTR {
			if w.state.CompareAndSwap(wakerWriting, wakerIdle) {
				return
			}
			w.state.Store(wakerWriting)
		}
	}
}

// drain empties the counter without ever blocking and gives what it held.
func (w *waker) drain() (uint64, error) {
	var value uint64
	iov := unix.Iovec{Base: (*byte)(unsafe.Pointer(&value))}
	iov.SetLen(8)
	for {
		_, _, errno := unix.Syscall6(unix.SYS_PREADV2, uintptr(w.fd), uintptr(unsafe.Pointer(&iov)), 1,
			^uintptr(0), ^uintptr(0), unix.RWF_NOWAIT)
		switch errno {
		case 0:
			return value, nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// guard frees writes that a worker holds up, and reports the worker. It sleeps while
// nothing was written for a while, so an idle link costs no timer.
type guard struct {
	wakers []*waker
	report func(error)

	parked  atomic.Bool
	signal  chan struct{}
	done    chan struct{}
	stopped sync.WaitGroup
}

const (
	guardTick = 50 * time.Millisecond
	guardIdle = 4 // ticks without a write before the guard parks
	// A counter over this was filled on purpose.
	guardFull = uint64(1) << 63
)

func newGuard(report func(error)) *guard {
	g := &guard{report: report, signal: make(chan struct{}, 1), done: make(chan struct{})}
	g.parked.Store(true)
	return g
}

func (g *guard) start() { g.stopped.Go(g.run) }

// watch is called before each write.
func (g *guard) watch() {
	if g.parked.Load() && g.parked.CompareAndSwap(true, false) {
		g.signal <- struct{}{} // room for one, and only who unparks sends
	}
}

func (g *guard) fault(err error) { g.report(err) }

func (g *guard) run() {
	ticker := time.NewTicker(guardTick)
	ticker.Stop()
	defer ticker.Stop()
	for {
		select {
		case <-g.signal:
		case <-g.done:
			return
		}
		ticker.Reset(guardTick)
		for quiet := 0; quiet < guardIdle; {
			select {
			case <-ticker.C:
			case <-g.done:
				return
			}
			if g.look() {
				quiet = 0
			} else {
				quiet++
			}
		}
		ticker.Stop()
		g.parked.Store(true)
		// A write that began before the store did not see a parked guard.
		if g.look() {
			g.watch()
		}
	}
}

// look reports whether any write came back or is under way since the last look, and
// frees those that two looks have found.
func (g *guard) look() (active bool) {
	for _, w := range g.wakers {
		count, state := w.count.Load(), w.state.Load()
		if count != w.seen {
			w.seen, w.ticks, active = count, 0, true
			continue
		}
		if state != wakerWriting && state != wakerAgain {
			continue
		}
		active = true
		if w.ticks++; w.ticks > 2 {
			g.free(w)
		}
	}
	return active
}

// free drains the counter that holds up a write. Only a full counter is the worker's
// doing: a host that was stopped or starved for 100 ms finds a small one, and gives
// back what it took by asking the writer to write once more.
func (g *guard) free(w *waker) {
	value, err := w.drain()
	switch {
	case err == nil && value >= guardFull:
		g.report(corrupt("worker filled its wake-up counter and made it block"))
	case err == nil:
		if !w.state.CompareAndSwap(wakerWriting, wakerAgain) && w.state.Load() == wakerIdle {
			w.wake(false)
		}
	case errors.Is(err, unix.EAGAIN): // empty: the write is about to return
	default:
		g.report(corrupt("draining a wake-up counter: %w", err))
	}
}

// stop ends the guard and then every write, draining what the worker (or a process
// that it left behind) still fills, and closes the eventfds.
func (g *guard) stop() error {
	close(g.done)
	g.stopped.Wait()
	var first error
	for _, w := range g.wakers {
		for !w.state.CompareAndSwap(wakerIdle, wakerClosed) {
			if _, err := w.drain(); err != nil && !errors.Is(err, unix.EAGAIN) && first == nil {
				first = err
			}
			time.Sleep(time.Millisecond)
		}
		if err := unix.Close(w.fd); err != nil && first == nil {
			first = err
		}
	}
	return first
}
