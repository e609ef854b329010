package push

import (
	"cmp"
	"slices"
)

// makeRoom ends pages where there are as many as allowed: of the new page's owner, and of
// all. Those whose client has been away longest go first, and those with a client last, the
// one that was heard longest ago before the others. Of all pages, those whose client never
// came go before: of one owner they may be tabs that load right now.
func (h *Hub) makeRoom(owner Owner) {
	of := h.User(owner.User)
	if owner.User == "" { // a guest is nobody else's, and one browser is a guest
		of = h.Connection(owner.Connection)
	}
	if n := len(of) - h.opts.UserPages; n >= 0 {
		h.evict(of, n+1, away, WhyFull)
	}
	if h.full() && h.clearing.TryLock() { // one at a time: it looks at all
		defer h.clearing.Unlock()
		if h.full() {
			h.evict(h.Sessions(), max(1, h.opts.Pages/64), unclaimed, WhyFull)
		}
	}
}

// Thin ends some of the pages without a client, in the order of makeRoom: what they keep
// elsewhere is too much.
func (h *Hub) Thin() {
	all := slices.DeleteFunc(h.Sessions(), (*Session).Connected)
	h.evict(all, max(1, len(all)/16), unclaimed, WhyMemory)
}

func (h *Hub) full() bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return len(h.pages) >= h.opts.Pages
}

// Which pages go first.
const (
	unclaimed = iota // their client never came
	away
	connected
)

// evict ends n of these pages. first is what those are taken for whose client never came.
func (h *Hub) evict(all []*Session, n, first int, why string) {
	type victim struct {
		*Session
		class int
		since tick
	}
	list := make([]victim, 0, len(all))
	for _, s := range all {
		v := victim{Session: s}
		s.mu.Lock()
		switch {
		case s.attached != nil:
			v.class, v.since = connected, s.heard
		case s.claimedLocked():
			v.class, v.since = away, s.left
		default:
			v.class, v.since = first, s.left
		}
		s.mu.Unlock()
		list = append(list, v)
	}
	slices.SortFunc(list, func(a, b victim) int {
		return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(a.since, b.since))
	})
	for _, v := range list[:min(n, len(list))] {
		v.EndFor(CodeEvicted, why)
	}
}
