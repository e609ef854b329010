package supervise

import (
	"fmt"
	"slices"
)

// State is where a slot is in the life of its worker.
type State string

// The states of a slot.
const (
	Stopped  State = "stopped"  // no worker, and none is wanted
	Starting State = "starting" // the process is being made
	Booting  State = "booting"  // HELLO was sent; the application is being imported
	Ready    State = "ready"    // READY came; requests go to it
	Draining State = "draining" // DRAIN was sent; it finishes what it has
	Ending   State = "ending"   // it failed, died or is being killed
	Waiting  State = "waiting"  // its next start is put off
)

// moves is the life cycle: from each state, the states that may follow. The table of
// docs and the checks of the code are the same data.
var moves = map[State][]State{
	Stopped:  {Starting},
	Starting: {Booting, Ending},
	Booting:  {Ready, Ending},
	Ready:    {Draining, Ending},
	Draining: {Ending},
	Ending:   {Starting, Waiting, Stopped},
	Waiting:  {Starting, Stopped},
}

// States are all states in the order of a life.
func States() []State {
	return []State{Stopped, Starting, Booting, Ready, Draining, Ending, Waiting}
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
