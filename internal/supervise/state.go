package supervise

import (
	"fmt"
	"slices"
	"strings"
)

// State is where a worker is in its life.
type State string

// The states of a worker.
const (
	Stopped    State = "stopped"     // there is no process
	Starting   State = "starting"    // the process is made; the applications are being imported
	Ready      State = "ready"       // READY came; requests do not go to it yet
	Serving    State = "serving"     // requests go to it
	Draining   State = "draining"    // it gets nothing new and finishes what it has
	Stopping   State = "stopping"    // it failed, died or is being ended
	BackingOff State = "backing off" // its next start is put off
	Frozen     State = "frozen"      // it failed too often; an operator, a reload or a change starts it again
)

// moves is the life cycle: from each state, the states that may follow. The table of
// docs and the checks of the code are the same data.
var moves = map[State][]State{
	Stopped:    {Starting},
	Starting:   {Ready, Stopping},
	Ready:      {Serving, Stopping},
	Serving:    {Draining, Stopping},
	Draining:   {Stopping},
	Stopping:   {Stopped, BackingOff, Frozen},
	BackingOff: {Starting, Stopped},
	Frozen:     {Starting, Stopped},
}

// meanings are the words of the documentation's table.
var meanings = map[State]string{
	Stopped:    "there is no process",
	Starting:   "the process is made, its applications are imported, lifespan startup runs",
	Ready:      "it has said that it is ready, and gets no requests yet",
	Serving:    "requests go to it",
	Draining:   "it gets nothing new and finishes what it has",
	Stopping:   "it failed, died, or is being ended",
	BackingOff: "its next start is put off",
	Frozen:     "it failed too often: an operator, a reload or (`guado dev`) a change starts it again",
}

// States are all states in the order of a life.
func States() []State {
	return []State{Stopped, Starting, Ready, Serving, Draining, Stopping, BackingOff, Frozen}
}

// Moves tells which states may follow s.
func (s State) Moves() []State { return slices.Clone(moves[s]) }

// check is an error that names both states when the move is not in the table.
func (s State) check(to State) error {
	if !slices.Contains(moves[s], to) {
		return fmt.Errorf("a worker cannot go from %s to %s", s, to)
	}
	return nil
}

// MovesTable is the life cycle as the documentation shows it.
func MovesTable() string {
	var b strings.Builder
	b.WriteString("| state | what it means | what may follow |\n|---|---|---|\n")
	for _, s := range States() {
		next := make([]string, len(moves[s]))
		for i, n := range moves[s] {
			next[i] = string(n)
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", s, meanings[s], strings.Join(next, ", "))
	}
	return b.String()
}
