package guado

import (
	"slices"

	"github.com/guado-server/guado/internal/mirror"
)

// Difference is where a store of a worker was not as the host's copy of it.
type Difference = mirror.Difference

// mostDiffering is how many differences the status names: the last ones.
const mostDiffering = 20

// differing are the differences that were found, the oldest first. Guarded by stores.mu.
type differing struct{ last []Difference }

// tellDifferences tells of what the commit just applied has shown: only in phase 6 do workers
// say how they have their stores.
func (k *keeper) tellDifferences() {
	found := k.source.Found()
	if len(found) == 0 {
		return
	}
	s := k.stores
	for _, d := range found {
		s.log.Error("a store of the worker is not as the host's copy of it", "kind", d.Kind, "id", d.ID, "at", d.Path,
			"worker", d.Worker, "host", d.Host, "commit", d.Sequence)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.differ.last = append(s.differ.last, found...)
	if more := len(s.differ.last) - mostDiffering; more > 0 {
		s.differ.last = slices.Delete(s.differ.last, 0, more)
	}
}
