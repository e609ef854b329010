package lane

import (
	"context"
	"sync"
)

// Tally counts what is under way and lets others wait until nothing is, or until their
// context ends, which a sync.WaitGroup cannot.
type Tally struct {
	mu    sync.Mutex // guards the rest
	n     int
	empty chan struct{} // closed at zero; nil: nobody waits
}

// Add counts one more.
func (t *Tally) Add() {
	t.mu.Lock()
	t.n++
	t.mu.Unlock()
}

// Done counts one less.
func (t *Tally) Done() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n--; t.n == 0 && t.empty != nil {
		close(t.empty)
		t.empty = nil
	}
}

// Wait returns nil as soon as nothing is under way.
func (t *Tally) Wait(ctx context.Context) error {
	t.mu.Lock()
	if t.n == 0 {
		t.mu.Unlock()
		return nil
	}
	if t.empty == nil {
		t.empty = make(chan struct{})
	}
	empty := t.empty
	t.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
