package supervise

import (
	"math/rand/v2"
	"time"
)

// Limits of the pause before the next start.
const (
	backoffFirst = 500 * time.Millisecond
	backoffMost  = 30 * time.Second
	// settled is how long a worker must have served for its death to count as an
	// accident: it starts again at once, and the pauses start anew.
	settled = 5 * time.Second
)

// backoff counts the starts that came to nothing.
type backoff struct {
	first, most time.Duration
	failures    int
}

// next is the pause before the next start: doubled each time, and a random half of
// it taken off, so that the slots of a group do not start in step.
func (b *backoff) next() time.Duration {
	pause := b.most
	if b.failures < 16 {
		pause = min(b.first<<b.failures, b.most)
	}
	b.failures++
	return pause/2 + rand.N(pause/2+1)
}

func (b *backoff) reset() { b.failures = 0 }
