package pool

import "context"

// Idle waits until no worker has anything under way: also what runs on behind an
// answer that its client has, or behind a client that has left. Nothing new should
// come meanwhile. Its error is that of ctx.
func (p *Pool) Idle(ctx context.Context) error {
	for {
		p.mu.Lock()
		if p.underWay() == 0 {
			p.mu.Unlock()
			return nil
		}
		if p.calm == nil {
			p.calm = make(chan struct{})
		}
		calm := p.calm
		p.mu.Unlock()
		select {
		case <-calm:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// underWay counts the exchanges of the workers that are attached, without the
// WebSockets that are open: those end when somebody ends them. Called with p.mu held.
func (p *Pool) underWay() (n int) {
	for _, w := range p.workers {
		for k := range w.sides {
			n += w.sides[k].flights.n
		}
		for f := w.sides[asgi].flights.first; f != nil; f = f.next {
			if f.session.Load() != nil {
				n--
			}
		}
	}
	return n
}

// tellIdle wakes those who wait in Idle when nothing is under way any more. Called
// with p.mu held.
func (p *Pool) tellIdle() {
	if p.calm != nil && p.underWay() == 0 {
		close(p.calm)
		p.calm = nil
	}
}
