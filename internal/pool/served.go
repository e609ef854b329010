package pool

import "github.com/guado-server/guado/internal/link"

// Served is how many exchanges a worker is through with.
func (p *Pool) Served(l *link.Link) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.workers {
		if w.link == l {
			return w.settled
		}
	}
	return 0
}

// Uncordon lets a worker that was cordoned have new requests again.
func (p *Pool) Uncordon(l *link.Link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.workers {
		if w.link == l && w.leaving {
			w.leaving = false
			p.feed(w)
		}
	}
}

// Taking tells which worker has what comes new: `has`, as long as it takes requests, else the
// one that began last; nil: there is none.
func (p *Pool) Taking(has *link.Link) *link.Link {
	p.mu.Lock()
	defer p.mu.Unlock()
	var last *worker
	for _, w := range p.workers {
		switch {
		case w.leaving:
		case w.link == has:
			return has
		case last == nil || w.number > last.number:
			last = w
		}
	}
	if last == nil {
		return nil
	}
	return last.link
}
