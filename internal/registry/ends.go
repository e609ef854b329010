package registry

import (
	"sync"
	"time"

	"github.com/guado-server/guado/internal/item"
)

// mostEnds is how many of the last ends are remembered, for who asks why something is gone.
const mostEnds = 1024

// End is the end of an item, as operators see it.
type End struct {
	Kind       item.Kind `json:"kind"`
	ID         string    `json:"id"`
	User       string    `json:"user,omitempty"`
	Connection string    `json:"connection,omitempty"`
	Why        item.Why  `json:"why"`
	At         time.Time `json:"at"`
}

// ends counts the ends, and remembers the last ones.
type ends struct {
	mu    sync.Mutex // guards all
	count map[item.Kind]map[item.Why]uint64
	last  []End // a ring
	at    int   // of the oldest
}

func (e *ends) note(n item.Ended) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.count == nil {
		e.count = map[item.Kind]map[item.Why]uint64{item.Page: {}, item.Connection: {}, item.User: {}}
	}
	e.count[n.Kind][n.Why]++
	one := End{n.Kind, n.ID, n.User, n.Connection, n.Why, time.Now()}
	if len(e.last) < mostEnds {
		e.last = append(e.last, one)
		return
	}
	e.last[e.at] = one
	e.at = (e.at + 1) % mostEnds
}

// counts are the ends of each kind by reason.
func (e *ends) counts(kind item.Kind) map[item.Why]uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := map[item.Why]uint64{}
	for why, n := range e.count[kind] {
		out[why] = n
	}
	return out
}

// newest gives the last ends of a kind, the newest first.
func (e *ends) newest(kind item.Kind) []End {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := []End{}
	for i := range e.last {
		one := e.last[(e.at+len(e.last)-1-i)%len(e.last)]
		if one.Kind == kind {
			list = append(list, one)
		}
	}
	return list
}

// Endings gives the last items of a kind that have ended, the newest first.
func (r *Registry) Endings(kind item.Kind) []End { return r.ends.newest(kind) }

// EndOf tells of the end of an item; false: it was long ago, or there never was one.
func (r *Registry) EndOf(kind item.Kind, id string) (End, bool) {
	for _, e := range r.ends.newest(kind) {
		if e.ID == id {
			return e, true
		}
	}
	return End{}, false
}
