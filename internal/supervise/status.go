package supervise

import "time"

// Status is a group as the admin API, the command line and the dashboard show it.
type Status struct {
	Group   string         `json:"group"`
	Workers []WorkerStatus `json:"workers"`
}

// WorkerStatus is one slot and its worker.
type WorkerStatus struct {
	Slot   string     `json:"slot"`
	State  State      `json:"state"`
	Since  time.Time  `json:"since"`
	PID    int        `json:"pid,omitempty"`
	Python string     `json:"python,omitempty"`
	Loop   string     `json:"loop,omitempty"`
	Starts int        `json:"starts"`
	Last   string     `json:"last_end,omitempty"`   // why its last worker ended
	Next   *time.Time `json:"next_start,omitempty"` // while it waits
}

// Status tells how the workers are now.
func (g *Group) Status() Status {
	st := Status{Group: g.opts.Name}
	for _, s := range g.slots {
		s.mu.Lock()
		w := WorkerStatus{Slot: s.name, State: s.state, Since: s.since, PID: s.pid, Python: s.python,
			Loop: s.loop, Starts: s.starts, Last: s.last}
		if s.state == Waiting {
			next := s.nextRun
			w.Next = &next
		}
		s.mu.Unlock()
		st.Workers = append(st.Workers, w)
	}
	return st
}
