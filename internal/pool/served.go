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
