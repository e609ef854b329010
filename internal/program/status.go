package program

import "time"

// Status is a program, or one of its instances, as the admin API, the command line and
// the dashboard show it.
type Status struct {
	Name     string     `json:"name"`
	Program  string     `json:"program"` // of which it is an instance
	State    State      `json:"state"`
	Since    time.Time  `json:"since"`
	PID      int        `json:"pid,omitempty"`
	Starts   int        `json:"starts"`
	Failures int        `json:"failures,omitempty"`   // starts that came to nothing, in a row
	Last     *Exit      `json:"last_exit,omitempty"`  // of its last process
	Problem  string     `json:"problem,omitempty"`    // why it waits, or is frozen
	Next     *time.Time `json:"next_start,omitempty"` // of a scheduled or waiting one
	HeldBy   []string   `json:"held_by,omitempty"`    // programs that it waits for
	Text     string     `json:"status,omitempty"`     // what it says of itself (sd_notify)
	Output   []Line     `json:"output,omitempty"`     // its last lines, on request
}

// Status tells how the programs are now, each with up to lines of its last output.
func (s *Set) Status(lines int) []Status {
	s.mu.Lock()
	list := s.list
	all := make([]Status, 0, len(list))
	for _, i := range list {
		st := Status{
			Name: i.spec.Name, Program: i.spec.Program, State: i.state, Since: i.since, PID: i.pid,
			Starts: i.starts, Failures: i.failures, Last: i.last, Text: i.text,
		}
		if next := i.resume; !next.IsZero() && (i.state == Waiting || i.spec.Schedule != nil && i.on) {
			st.Next = &next
		}
		if i.state == Waiting || i.state == Frozen {
			st.Problem = i.problem
		}
		if i.state == Held {
			st.HeldBy = s.missing(i.spec.After)
		}
		all = append(all, st)
	}
	s.mu.Unlock()
	for n, i := range list {
		if lines > 0 {
			all[n].Output = i.out.lines(lines)
		}
	}
	return all
}
