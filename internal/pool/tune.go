package pool

import "time"

// Tuning is what of a pool's options can change while it is used.
type Tuning struct {
	Queue       int
	QueueWait   time.Duration
	Threads     int // of workers that come from now on
	Concurrency int // likewise
}

// Tune changes the options. Requests that wait are held to the new ones.
func (p *Pool) Tune(t Tuning) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opts.Queue, p.opts.QueueWait = t.Queue, t.QueueWait
	p.opts.Threads, p.opts.Concurrency = max(t.Threads, 1), max(t.Concurrency, 1)
}

// Tune changes how the application's exchanges are handled, from the next one on.
func (a *App) Tune(o AppOptions) { a.opts.Store(&o) }

// Tune changes the bounds of the spool. Bodies that it holds stay where they are.
func (s *Spool) Tune(o SpoolOptions) { s.opts.Store(&o) }
