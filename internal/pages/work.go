package pages

import "sync"

// work runs what pages have to do, each thing on a goroutine, and counts them. Nothing
// begins once it is closed. Some goroutines that are done wait for more: to grow the stack
// of a new one to what a turn needs costs more than the rest of the turn.
type work struct {
	wait sync.WaitGroup // what is being done
	all  sync.WaitGroup // that, and goroutines, those that wait for more included

	mu     sync.Mutex // guards the rest, and a begin against closed
	closed bool
	idle   []chan task
}

// task is something to do.
type task interface{ run() }

// taskFunc is a function as a task.
type taskFunc func()

func (f taskFunc) run() { f() }

// mostIdle is how many goroutines wait for more to do.
const mostIdle = 64

// begin runs t, unless the host is stopping.
func (w *work) begin(t task) bool {
	if !w.enter() {
		return false
	}
	w.resume(t)
	return true
}

// enter counts something that is begun, and that [work.resume] gives a goroutine later;
// false: the host is stopping.
func (w *work) enter() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.wait.Add(1)
	w.all.Add(1)
	return true
}

// resume runs what was counted.
func (w *work) resume(t task) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.idle); n > 0 {
		w.idle[n-1] <- t // it has room for one
		w.idle = w.idle[:n-1]
		return
	}
	w.all.Go(func() { w.run(t) })
}

func (w *work) run(t task) {
	next := make(chan task, 1)
	for t != nil {
		t.run()
		more := w.park(next)
		w.wait.Done()
		w.all.Done()
		if !more {
			return
		}
		t = <-next
	}
}

// park offers a goroutine for more; false: enough wait already.
func (w *work) park(next chan task) bool {
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
