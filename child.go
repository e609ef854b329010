package guado

import (
	"os"

	"github.com/guado-server/guado/internal/child"
)

// Child is for the first line of a program's main:
//
//	if code, is := guado.Child(); is {
//		os.Exit(code)
//	}
//
// The server starts its workers through a first step of the program itself, which sets
// user, limits and umask, and it starts the program once more as a guard that ends all
// workers, and what they have started, when the program is killed. In such a process
// Child does that work and reports the code to exit with; in any other it returns false
// at once. A program that does not call it is served too: its workers are then held by
// the kernel's parent-death signal (Linux) and by their own watch over the link, and
// user, group, umask, rlimits and oom_score_adj are refused.
func Child() (code int, is bool) { return child.Main(os.Args, os.Environ()) }
