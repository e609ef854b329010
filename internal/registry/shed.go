package registry

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/guado-server/guado/internal/item"
)

// Stores is the account of what items keep.
type Stores interface {
	// Bytes is what all stores cost, and what those do that the worker holds, with the
	// objects of pages.
	Bytes() (total, worker int64)
	// Of is what the store of one item costs.
	Of(kind item.Kind, id string) int64
	// Rest lets the worker forget the object of a page that nobody uses now, which its next
	// use makes anew, and tells what is free then; 0: there is none, or it is in use.
	Rest(page string) (freed int64)
}

// Limits of what stores cost; 0: none.
type Limits struct {
	Total, Worker int64
}

// From where on, and down to what, room is made: parts of a limit in percent.
const (
	shedFrom = 80
	shedTo   = 75
)

// shedder makes room in memory.
type shedder struct {
	stores Stores
	limits Limits

	rested, runs atomic.Uint64
	freed        atomic.Int64

	mu      sync.Mutex // guards running and closed
	running bool
	closed  bool
	work    sync.WaitGroup
}

// Keep says where the stores are and what they may cost. Before the server serves.
func (r *Registry) Keep(s Stores, l Limits) { r.shed.stores, r.shed.limits = s, l }

// Grown is told that stores have become larger; room is made, beside the caller, where they
// come near a limit.
func (r *Registry) Grown() {
	s := &r.shed
	if s.stores == nil || !s.near() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running || s.closed {
		return
	}
	s.running = true
	s.work.Go(func() {
		r.makeRoom()
		s.mu.Lock()
		s.running = false
		s.mu.Unlock()
	})
}

// Close waits until room has been made; none is made any more.
func (r *Registry) Close() {
	r.shed.mu.Lock()
	r.shed.closed = true
	r.shed.mu.Unlock()
	r.shed.work.Wait()
}

func part(limit, percent int64) int64 { return limit / 100 * percent }

func (s *shedder) near() bool {
	total, worker := s.stores.Bytes()
	l := &s.limits
	return l.Total > 0 && total > part(l.Total, shedFrom) || l.Worker > 0 && worker > part(l.Worker, shedFrom)
}

// makeRoom lets the worker forget objects first, which costs nobody more than making them
// anew; what is still too much then must end.
func (r *Registry) makeRoom() {
	s := &r.shed
	total, worker := s.stores.Bytes()
	var excess int64
	if limit := s.limits.Worker; limit > 0 && worker > part(limit, shedFrom) {
		excess = worker - part(limit, shedTo)
		if r.rest(excess) > 0 {
			excess = 0 // the next write looks again: what is in use now may not be then
		}
	}
	if limit := s.limits.Total; limit > 0 && total > part(limit, shedFrom) {
		excess = max(excess, total-part(limit, shedTo))
	}
	if excess > 0 {
		r.end(excess)
	}
	s.runs.Add(1)
}

// rest makes pages ephemeral: those first that were not used for longest.
func (r *Registry) rest(excess int64) (freed int64) {
	pages := r.opts.Pages.Items("", "")
	slices.SortFunc(pages, func(a, b item.Item) int {
		return cmp.Or(compareBool(a.Connected, b.Connected), a.Seen.Compare(b.Seen))
	})
	for i := 0; i < len(pages) && freed < excess; i++ {
		if n := r.shed.stores.Rest(pages[i].ID); n > 0 {
			r.shed.rested.Add(1)
			freed += n
		}
	}
	return freed
}

// victim is an item that may have to end.
type victim struct {
	item.Item
	class int
}

// Which items end first.
const (
	unclaimed  = iota // pages whose client never came
	leftUsers         // users without connections
	leftPages         // pages whose client is away
	leftGuests        // guests without pages
	present           // pages whose client is there: last
)

// end ends items until so many bytes are free.
func (r *Registry) end(excess int64) {
	list := r.victims()
	ended := 0
	for i := 0; i < len(list) && excess > 0; i++ {
		v := &list[i]
		cost := r.shed.stores.Of(v.Kind, v.ID)
		if cost == 0 || !r.endOne(v) {
			continue
		}
		ended++
		excess -= cost
		r.shed.freed.Add(cost)
	}
	r.opts.Log.Warn("stores come near state.worker or state.total: items were ended", "items", ended, "bytes_left_over", max(excess, 0))
}

func (r *Registry) endOne(v *victim) bool {
	switch v.Kind {
	case item.User:
		return r.opts.Identity.DropUser(v.ID, item.Memory)
	case item.Connection:
		return r.opts.Identity.Drop(v.ID, item.Memory)
	}
	return r.opts.Pages.Evict(v.ID)
}

func (r *Registry) victims() []victim {
	var list []victim
	for _, p := range r.opts.Pages.Items("", "") {
		v := victim{p, leftPages}
		switch {
		case p.Connected:
			v.class = present
		case !p.Claimed:
			v.class = unclaimed
		}
		list = append(list, v)
	}
	for _, u := range r.opts.Identity.Users() {
		if u.Connections == 0 {
			list = append(list, victim{r.ofUser(u), leftUsers})
		}
	}
	for _, c := range r.opts.Identity.Connections() {
		if i := r.ofConnection(c); c.User == "" && i.Pages == 0 {
			list = append(list, victim{i, leftGuests})
		}
	}
	slices.SortFunc(list, func(a, b victim) int {
		return cmp.Or(cmp.Compare(a.class, b.class), a.Seen.Compare(b.Seen))
	})
	return list
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
