package program

import (
	"math/rand/v2"
	"time"
)

const (
	pauseFirst = 500 * time.Millisecond
	pauseMost  = 30 * time.Second
	// settled is how long a program must have been ready for its death to count as an
	// accident: it starts again at once.
	settled = 5 * time.Second
	// quickDeaths is how many deaths before that are followed by a start at once.
	quickDeaths = 3
)

// pause is the time before the next start after n earlier failures: doubled each
// time, and a random part of it taken off, so that programs do not start in step.
func pause(n int) time.Duration {
	d := pauseMost
	if n < 16 {
		d = min(pauseFirst<<n, pauseMost)
	}
	return d/2 + rand.N(d/2+1)
}
