package pages

import "sync"

// work runs what pages have to do, each thing on a goroutine, and counts them. Nothing
// begins once it is closed. Some goroutines that are done wait for more: to grow the stack
// of a new one to what a turn needs costs more than the rest of the turn.
type work struct {
	wait sync.WaitGroup // what is being done
	all  sync.WaitGroup // goroutines, those that wait for more included

	mu     sync.Mutex // guards the rest, and a begin against closed
	closed bool
	idle   []chan func()
}

// mostIdle is how many goroutines wait for more to do.
const mostIdle = 64

// begin runs f, unless the host is stopping.
func (w *work) begin(f func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.wait.Add(1)
	if n := len(w.idle); n > 0 {
		w.idle[n-1] <- f // it has room for one
		w.idle = w.idle[:n-1]
		return true
	}
	w.all.Go(func() { w.run(f) })
	return true
}

func (w *work) run(f func()) {
	next := make(chan func(), 1)
	for f != nil {
		f()
		more := w.park(next)
		w.wait.Done()
		if !more {
			return
		}
		f = <-next
	}
}

// park offers a goroutine for more; false: enough wait already.
func (w *work) park(next chan func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.idle) >= mostIdle {
		return false
	}
	w.idle = append(w.idle, next)
	return true
}

func (w *work) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, next := range w.idle {
		close(next)
	}
	w.idle = nil
}
