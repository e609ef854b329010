package program

import (
	"fmt"
	"slices"
)

// State is where a program is in its life.
type State string

// The states of a program.
const (
	Stopped   State = "stopped"   // no process, and none is wanted
	Held      State = "held"      // it waits for the programs it comes after
	Scheduled State = "scheduled" // it waits for its next time
	Starting  State = "starting"  // the process runs and is not ready yet
	Ready     State = "ready"     // it runs, and what comes after it may start
	Running   State = "running"   // a once or scheduled program runs to its end
	Stopping  State = "stopping"  // it was asked to end
	Waiting   State = "waiting"   // its next start is put off
	Done      State = "done"      // it has ended and is not started again by itself
	Frozen    State = "frozen"    // it has failed too often and is not started again by itself
)

// moves is the life cycle: from each state, the states that may follow.
var moves = map[State][]State{
	Stopped:   {Held, Scheduled, Starting},
	Held:      {Starting, Stopped},
	Scheduled: {Held, Starting, Stopped},
	Starting:  {Ready, Running, Stopping, Waiting, Scheduled, Done, Frozen},
	Ready:     {Stopping, Held, Starting, Waiting, Done},
	Running:   {Stopping, Held, Starting, Waiting, Scheduled, Done, Frozen},
	Stopping:  {Stopped, Held, Starting, Waiting, Scheduled, Done, Frozen},
	Waiting:   {Held, Starting, Stopped},
	Done:      {Held, Scheduled, Starting, Stopped},
	Frozen:    {Held, Scheduled, Starting, Stopped},
}

// States are all states in the order of a life.
func States() []State {
	return []State{Stopped, Held, Scheduled, Starting, Ready, Running, Stopping, Waiting, Done, Frozen}
}

// Moves tells which states may follow s.
func (s State) Moves() []State { return slices.Clone(moves[s]) }

// live reports whether there is a process.
func (s State) live() bool { return s == Starting || s == Ready || s == Running || s == Stopping }

// check is an error that names both states when the move is not in the table.
func (s State) check(to State) error {
	if !slices.Contains(moves[s], to) {
		return fmt.Errorf("a program cannot go from %s to %s", s, to)
	}
	return nil
}
