package pool

// Status is a pool as the admin API, the command line and the dashboard show it.
type Status struct {
	Waiting  int            `json:"waiting"` // in the queue
	Workers  []WorkerStatus `json:"workers"`
	Apps     []AppStatus    `json:"apps"`
	Counters Counters       `json:"counters"`
	Problem  string         `json:"problem,omitempty"` // why there is no worker
}

// WorkerStatus is what a worker has under way.
type WorkerStatus struct {
	Slot string `json:"slot"`
	WSGI int    `json:"wsgi"` // sent, those that wait in the ring included
	ASGI int    `json:"asgi"`
	Done uint64 `json:"done"`

	// As the worker said at its last heartbeat.
	GILWaits       uint64  `json:"gil_waits"` // requests whose thread had to get the GIL
	GILWaitSeconds float64 `json:"gil_wait_seconds"`
	LoopLagSeconds float64 `json:"loop_lag_seconds"` // of the event loop
}

// AppStatus is one application.
type AppStatus struct {
	Name string `json:"name"`
	Kind string `json:"kind"` // empty until a worker has said it
}

// Status tells how the pool is now.
func (p *Pool) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := Status{Waiting: p.queues[wsgi].n + p.queues[asgi].n + p.early.n, Counters: p.total}
	for _, w := range p.workers {
		told := w.link.Stats()
		st.Workers = append(st.Workers, WorkerStatus{
			Slot: w.slot, WSGI: w.sides[wsgi].flights.n, ASGI: w.sides[asgi].flights.n, Done: w.settled,
			GILWaits: told.GILWaits, GILWaitSeconds: told.GILWait.Seconds(), LoopLagSeconds: told.LoopLag.Seconds(),
		})
		st.Counters.Exchanges += w.settled
	}
	names := map[int32]string{int32(wsgi): "wsgi", int32(asgi): "asgi"}
	for _, a := range p.apps {
		if o := a.opts.Load(); !o.Hidden {
			st.Apps = append(st.Apps, AppStatus{Name: o.Name, Kind: names[a.kind.Load()]})
		}
	}
	if p.unavailable != nil {
		st.Problem = p.unavailable.Error()
	}
	return st
}
