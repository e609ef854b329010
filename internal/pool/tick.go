package pool

import (
	"time"

	"github.com/guado-server/guado/internal/exchange"
)

// startTicking arms the one timer of the pool while there is something that time can
// change. Called with p.mu held.
func (p *Pool) startTicking() {
	if !p.ticking && !p.stopping {
		p.ticking = true
		p.ticker.Reset(tickEvery)
	}
}

// tick refuses those that waited too long, rings those over their deadline, and
// takes requests back from a worker that stands still.
func (p *Pool) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ticking = false
	p.ticks++
	now := time.Now()
	again := p.tickList(&p.early, now)
	for k := range p.queues {
		again = p.tickList(&p.queues[k], now) || again
	}
	for _, w := range p.workers {
		for k := range w.sides {
			again = p.tickSide(w, kind(k), now) || again
		}
	}
	for _, w := range p.workers {
		w.before = w.settled
	}
	p.stealForAll()
	if again {
		p.startTicking()
	}
}

// tickList looks at those who wait in the host and reports whether any still does.
func (p *Pool) tickList(l *list, now time.Time) bool {
	for f := l.first; f != nil; {
		next := f.next
		problem := (*exchange.Problem)(nil)
		switch {
		case f.over(now):
			p.total.Expired++
			problem = deadlineProblem()
		case p.opts.QueueWait > 0 && now.Sub(f.since) > p.opts.QueueWait:
			p.total.Refused++
			problem = queueWaitProblem()
		}
		if problem != nil {
			l.remove(f)
			f.place, f.refusal = placeRefused, problem
			f.ring()
		}
		f = next
	}
	return l.n > 0
}

// tickSide looks at those that were sent and reports whether the clock still
// matters to any of them.
func (p *Pool) tickSide(w *worker, k kind, now time.Time) bool {
	s := &w.sides[k]
	again := false
	// Those behind the threads wait in the ring. While other workers get on and this
	// one does not, they go back to the head of the queue, or those who came later
	// would always be served before them.
	stuck := k == wsgi && w.settled == w.before && w.revokes && p.othersMoved(w)
	for f := s.flights.first; f != nil; f = f.next {
		if f.over(now) && !f.begun.Load() {
			if f.tell(newsDeadline) {
				p.total.Expired++
			}
			continue
		}
		again = again || f.timed
		if w.leaving && w.revokes {
			again = p.recall(f) || again
		}
		if s.flights.n <= s.limit || k != wsgi || !f.waiting() {
			continue
		}
		again = true
		switch {
		case p.opts.QueueWait > 0 && time.Duration(p.ticks-f.tickSeated)*tickEvery > p.opts.QueueWait:
			f.tell(newsQueueWait) // counted when it could be taken back
		case stuck && f.target == nil && p.ticks-f.tickSeated > 1:
			w.stuck = true
			f.tell(newsRequeue)
		}
	}
	return again
}

// recall takes a request back from a worker that was cordoned, and reports whether it is
// still on its way there: it had its seat before, and is not in the ring yet.
func (p *Pool) recall(f *flight) (coming bool) {
	if f.waiting() {
		f.tell(newsRequeue)
	}
	return f.x.Load() != nil && f.stream.Load() == nil
}

func (p *Pool) othersMoved(w *worker) bool {
	for _, o := range p.workers {
		if o != w && o.settled != o.before {
			return true
		}
	}
	return false
}
