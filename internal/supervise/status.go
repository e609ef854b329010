package supervise

import (
	"maps"
	"time"
)

// Status is a group as the admin API, the command line and the dashboard show it.
type Status struct {
	Group   string         `json:"group"`
	Workers []WorkerStatus `json:"workers"`
}

// WorkerStatus is one slot and its worker.
type WorkerStatus struct {
	Slot     string            `json:"slot"`
	State    State             `json:"state"`
	Since    time.Time         `json:"since"`
	PID      int               `json:"pid,omitempty"`
	Python   string            `json:"python,omitempty"`
	Loop     string            `json:"loop,omitempty"`
	Starts   int               `json:"starts"`
	Last     string            `json:"last_end,omitempty"`   // why its last worker ended
	Next     *time.Time        `json:"next_start,omitempty"` // while it backs off
	Cordoned bool              `json:"cordoned,omitempty"`   // it gets no new requests
	Memory   int64             `json:"memory,omitempty"`     // resident bytes
	Restarts map[Reason]uint64 `json:"restarts,omitempty"`   // ends of workers, by reason
	Coming   int               `json:"coming,omitempty"`     // process id of the worker that will take over
	Leaving  []int             `json:"leaving,omitempty"`    // process ids of those that were replaced and finish
	Output   []Line            `json:"output,omitempty"`     // its last lines, while it is frozen or backs off
}

// Status tells how the workers are now.
func (g *Group) Status() Status {
	st := Status{Group: g.o().Name}
	for _, s := range g.slots {
		st.Workers = append(st.Workers, s.status())
	}
	return st
}

func (s *slot) status() WorkerStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.front
	w := WorkerStatus{Slot: s.name, State: f.state, Since: f.since, Starts: s.starts, Last: s.last,
		Cordoned: f.cordoned, Restarts: maps.Clone(s.restarts)}
	if f.state == BackingOff {
		next := s.nextRun
		w.Next = &next
	}
	if f.state == BackingOff || f.state == Frozen {
		w.Output = s.journal.tail()
	}
	if f.p != nil && f.state != Stopped && f.state != BackingOff && f.state != Frozen {
		w.PID = f.p.PID()
		w.Memory = residentMemory(w.PID)
	}
	if f.state == Serving || f.state == Draining {
		w.Python, w.Loop = f.ready.Python, f.ready.Loop
	}
	if s.coming != nil && s.coming.p != nil {
		w.Coming = s.coming.p.PID()
	}
	for _, old := range s.old {
		w.Leaving = append(w.Leaving, old.p.PID())
	}
	return w
}

// Tail gives the last lines that a slot's workers printed; false: there is no such slot.
func (g *Group) Tail(slot string) ([]Line, bool) {
	s := g.slot(slot)
	if s == nil {
		return nil, false
	}
	return s.journal.tail(), true
}
