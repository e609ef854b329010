package pool

import (
	"time"

	"github.com/guado-server/guado/internal/link"
)

// Slow tells, once each, of the requests that a worker has had for so long without
// beginning its answer. It is called once a second, which is also its clock: a look at
// the time for each request would cost all of them something.
func (p *Pool) Slow(over time.Duration, tell func(l *link.Link, request, app string, took time.Duration)) {
	type found struct {
		link         *link.Link
		request, app string
		took         time.Duration
	}
	var all []found
	p.mu.Lock()
	p.era++
	for _, w := range p.workers {
		for k := range w.sides {
			for f := w.sides[k].flights.first; f != nil; f = f.next {
				took := time.Duration(p.era-f.era) * time.Second
				if took > over && !f.slow && !f.begun.Load() && !f.waiting() {
					f.slow = true
					all = append(all, found{w.link, f.id, f.app.opts.Load().Name, took})
				}
			}
		}
	}
	p.mu.Unlock()
	for _, f := range all {
		tell(f.link, f.request, f.app, f.took)
	}
}
