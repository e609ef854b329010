package pool

import (
	"cmp"

	"github.com/guado-server/guado/internal/exchange"
)

// Begun is a turn that is with a worker, and for which no goroutine waits.
type Begun flight

// Begin sends a turn to a worker that can take it now. When its exchange rings (see
// [exchange.Exchange.Sleep]) somebody calls [Begun.Land]. nil: nothing was done, and
// [App.Serve] knows what there is to wait for.
func (a *App) Begin(x *exchange.Exchange) *Begun {
	if x.Turn == nil || a.kind.Load() < 0 {
		return nil
	}
	f := newFlight(a, x)
	f.kind = kind(a.kind.Load())
	f.clock = x.Received
	if t := cmp.Or(x.Timeout, a.opts.Load().Timeout); t > 0 {
		f.timed, f.deadline = true, f.clock.Add(t)
	}
	if a.pool.seatNow(f) {
		if _, _, off := f.launch(x); off {
			return (*Begun)(f)
		}
	}
	f.free()
	return nil
}

// Land serves the answer, and whatever else there may be to do: see [App.Serve].
func (b *Begun) Land() {
	f := (*flight)(b)
	x := f.x.Load()
	v, problem := f.follow(x)
	owned, over := f.through(v)
	for !over {
		problem, owned, over = f.leg(x)
	}
	f.conclude(x, problem, owned)
}

// seatNow gives f a seat, if there is one and nobody waits for it.
func (p *Pool) seatNow(f *flight) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping || p.queues[f.kind].n > 0 {
		return false
	}
	w := p.pick(f.kind)
	if w == nil {
		return false
	}
	p.seat(f, w)
	return true
}
