package pages

import (
	"context"
	"sync"
)

// hold is the turn of a page in the hands of code that is no handler of it: a request.
type hold struct {
	begun chan struct{} // closed when it has the turn
	over  chan struct{} // closed by who gave it back, or does not want it any more
}

// Hold waits for the page's turn and keeps it until it is given back: meanwhile no handler
// of the page runs, but for concurrent ones.
func (p *Pages) Hold(ctx context.Context, id string) (giveBack func(), err error) {
	pg := p.page(id)
	if pg == nil {
		return nil, ErrNoPage
	}
	h := &hold{begun: make(chan struct{}), over: make(chan struct{})}
	over := sync.OnceFunc(func() { close(h.over) })
	if err := pg.queue(h); err != nil {
		return nil, err
	}
	select {
	case <-h.begun:
		pg.reached(true)
		return over, nil
	case <-ctx.Done():
	case <-p.over:
	}
	over()
	return nil, context.Cause(ctx)
}

func (pg *page) queue(h *hold) error {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	switch {
	case pg.ended:
		return ErrNoPage
	case pg.mailbox != nil && len(pg.mailbox.waiting) >= mostWaiting:
		return errBusy
	}
	pg.addLocked(&pg.mailbox, 1, &job{held: h})
	return nil
}

// wait gives the turn away, and has it again when it returns.
func (h *hold) wait(stopped <-chan struct{}) {
	close(h.begun)
	select {
	case <-h.over:
	case <-stopped:
	}
}
