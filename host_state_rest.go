package guado

import (
	"context"
	"sync/atomic"

	"github.com/guado-server/guado/internal/calls"
	"github.com/guado-server/guado/internal/mirror"
)

// rests are the stores of pages that their worker has let go, to make room: the host alone
// has them, and sends them anew ahead of the next request. stores.mu guards all but bytes.
type rests struct {
	asleep map[mirror.Ref]int64 // what each costs
	asked  map[mirror.Ref]int64 // the worker was asked, and the page was not used since; 0: it had it in use
	bytes  atomic.Int64         // of all these
}

func (h *host) openRests() {
	h.stores.rests.asleep, h.stores.rests.asked = map[mirror.Ref]int64{}, map[mirror.Ref]int64{}
	h.calls.Handle("store.rested", h.callStoreRested)
}

// wake is told that a store is with a worker, or has ended.
func (r *rests) wake(ref mirror.Ref) {
	r.bytes.Add(-r.asleep[ref] - r.asked[ref])
	delete(r.asleep, ref)
	delete(r.asked, ref)
}

// used is told that there is something to do for a page.
func (r *rests) used(page string) {
	ref := mirror.Ref{Kind: mirror.Page, ID: page}
	if n, is := r.asked[ref]; is {
		r.bytes.Add(-n)
		delete(r.asked, ref)
	}
}

// lets tells what would be free if the worker let go the store of a page; 0: it has none, or
// was asked before and had it in use.
func (s *stores) lets(page string) int64 {
	ref := mirror.Ref{Kind: mirror.Page, ID: page}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, asked := s.rests.asked[ref]; asked {
		return 0
	}
	for _, k := range s.keepers {
		if _, there := k.sent[ref]; there {
			return s.mirror.StoreBytes(ref)
		}
	}
	return 0
}

// asks notes that the worker is asked to let go what is of a page, which costs so much: until
// it has answered that is held to be free. The function is told that it has.
func (s *stores) asks(page string, freed int64) (answered func()) {
	ref := mirror.Ref{Kind: mirror.Page, ID: page}
	set := func(n int64) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if before, is := s.rests.asked[ref]; is || n > 0 {
			s.rests.asked[ref] = n
			s.rests.bytes.Add(n - before)
		}
	}
	set(freed)
	return func() { set(0) }
}

// callStoreRested hears that a worker has let a store go. Where another one was sent
// meanwhile, the worker has that.
func (h *host) callStoreRested(_ context.Context, c calls.Caller, data []byte) (any, error) {
	var said struct {
		Kind   mirror.Kind `json:"kind"`
		ID     string      `json:"id"`
		Number uint64      `json:"number"`
	}
	if err := calls.Decode(data, &said); err != nil {
		return nil, err
	}
	ref, s := mirror.Ref{Kind: said.Kind, ID: said.ID}, h.stores
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keepers[c.Link]
	if k == nil || k.sent[ref] != said.Number {
		return nil, nil //nolint:nilnil // there is nothing to tell
	}
	delete(k.sent, ref)
	s.rests.wake(ref)
	n := s.mirror.StoreBytes(ref)
	s.rests.asleep[ref] = n
	s.rests.bytes.Add(n)
	return nil, nil //nolint:nilnil // as above
}
