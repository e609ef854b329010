package supervise

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// watchEvery is how often a worker is looked at: its memory, age and requests.
const watchEvery = time.Second

// Limits say when a worker has served its time. 0: never.
type Limits struct {
	Requests, RequestsJitter int
	Age, AgeJitter           time.Duration
	// Memory is resident bytes. Soft: more in so many looks of a second one after the
	// other replaces the worker. Hard: more ends it at once.
	MemorySoft, MemoryHard int64
	MemorySamples          int
}

// limits are those of one worker, with its own share of the jitter.
type limits struct {
	requests uint64
	end      time.Time // zero: none
	over     int       // looks in which there was more memory than the soft limit
	retry    time.Time // no replacement is asked for before
}

func drawn(o *Options, now time.Time) limits {
	var l limits
	if n := o.Limits.Requests; n > 0 {
		l.requests = uint64(n + rand.IntN(o.Limits.RequestsJitter+1))
	}
	if age := o.Limits.Age; age > 0 {
		l.end = now.Add(age + rand.N(o.Limits.AgeJitter+1))
	}
	return l
}

// replaceAgain is when a replacement that failed is tried again.
const replaceAgain = 30 * time.Second

// look is the once-a-second look at a worker that serves. Its error ends it.
func (w *worker) look(now time.Time) error {
	s, o := w.slot, w.slot.group.o()
	soft, hard := o.Limits.MemorySoft, o.Limits.MemoryHard
	if soft > 0 || hard > 0 {
		rss := residentMemory(w.p.PID())
		if hard > 0 && rss > hard {
			return fmt.Errorf("%w: %d MiB resident, %d MiB allowed", errMemory, rss>>20, hard>>20)
		}
		if w.limits.over++; soft <= 0 || rss <= soft {
			w.limits.over = 0
		}
	}
	var why Reason
	switch {
	case now.Before(w.limits.retry):
	case w.limits.over > 0 && w.limits.over >= o.Limits.MemorySamples:
		why = ByMemory
	case w.limits.requests > 0 && o.Crew.Served(w.p.link) >= w.limits.requests:
		why = ByRequests
	case !w.limits.end.IsZero() && now.After(w.limits.end):
		why = ByAge
	}
	if why != "" {
		w.limits.retry = now.Add(replaceAgain)
		s.group.replaceLater(s, w, why)
	}
	return nil
}
