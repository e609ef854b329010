package supervise

import (
	"math"
	"math/rand/v2"
	"time"
)

// Limits of the pause before the next start.
const (
	backoffFirst  = 250 * time.Millisecond
	backoffMost   = 30 * time.Second
	backoffJitter = 0.2 // more or less, so that the slots of a group do not start in step
	// settled is how long a worker must have served for its death to count as an
	// accident: it starts again at once.
	settled = 5 * time.Second
	// healthy is how long it must have served for all failures to be forgotten; every
	// halfLife of serving forgets half of them.
	healthy  = 60 * time.Second
	halfLife = 15 * time.Second
)

// retries counts the failures of a slot, each kind by itself: an application that boots
// again must not be frozen for what kept it from booting before.
type retries struct {
	boots  backoff // that came to nothing, since the last READY
	deaths backoff // soon after READY
}

func (r *retries) ready() { r.boots.reset() }

func (r *retries) served(how time.Duration) { r.deaths.served(how) }

func (r *retries) reset() { *r = retries{} }

// backoff counts failures of one kind.
type backoff struct {
	failures float64
}

// failed counts a failure and gives the pause before the next start.
func (b *backoff) failed() time.Duration {
	pause := min(float64(backoffFirst)*math.Exp2(math.Floor(b.failures)), float64(backoffMost))
	b.failures++
	return time.Duration(pause * (1 - backoffJitter + 2*backoffJitter*rand.Float64()))
}

// served forgets failures by how long a worker has served.
func (b *backoff) served(how time.Duration) {
	if how >= healthy {
		b.failures = 0
	}
	b.failures *= math.Exp2(-how.Seconds() / halfLife.Seconds())
}

// over reports whether there were as many failures as are borne; 0: any number is.
func (b *backoff) over(most int) bool { return most > 0 && math.Round(b.failures) >= float64(most) }

func (b *backoff) reset() { b.failures = 0 }
