package registry

import "github.com/guado-server/guado/internal/item"

// Status is the index, as operators see it.
type Status struct {
	Pages       KindStatus  `json:"pages"`
	Connections KindStatus  `json:"connections"`
	Users       KindStatus  `json:"users"`
	State       StateStatus `json:"state"`
}

// KindStatus is the items of one kind.
type KindStatus struct {
	Now   int                 `json:"now"`
	Made  uint64              `json:"made"` // by applications
	Ended map[item.Why]uint64 `json:"ended"`
}

// StateStatus is what their stores cost.
type StateStatus struct {
	Bytes       int64  `json:"bytes"`
	Limit       int64  `json:"limit"` // 0: none
	WorkerBytes int64  `json:"worker_bytes"`
	WorkerLimit int64  `json:"worker_limit"`
	Runs        uint64 `json:"runs"`   // times that room was made
	Rested      uint64 `json:"rested"` // pages that the worker had to forget
	Freed       int64  `json:"freed"`  // bytes of items that had to end
}

// Status tells how it is now.
func (r *Registry) Status() Status {
	of := func(kind item.Kind) KindStatus {
		return KindStatus{Now: r.Count(kind, nil), Made: r.made[kind].Load(), Ended: r.ends.counts(kind)}
	}
	s := &r.shed
	out := Status{Pages: of(item.Page), Connections: of(item.Connection), Users: of(item.User), State: StateStatus{
		Limit: s.limits.Total, WorkerLimit: s.limits.Worker, Runs: s.runs.Load(), Rested: s.rested.Load(), Freed: s.freed.Load(),
	}}
	if s.stores != nil {
		out.State.Bytes, out.State.WorkerBytes = s.stores.Bytes()
	}
	return out
}
