package mirror

import "slices"

// A user may end while requests are under way that have read its stores, or written them: a
// guest has logged in, and its connection is another's. That is no move to another worker,
// and their commits are as good as before.

// mostDeparted is how many users' last generations are remembered at least.
const mostDeparted = 1 << 14

// last is what a user had that is gone.
type last struct {
	generation uint64
	heir       string // who has its stores; empty: nobody
}

// departed is the users that have gone, the latest of them. Guarded by the mirror's lock.
type departed struct {
	users map[string]last
	order []string
}

func (d *departed) add(name string, l last) {
	if _, there := d.users[name]; !there {
		d.order = append(d.order, name)
	}
	d.users[name] = l
	if len(d.order) == 2*mostDeparted {
		for _, name := range d.order[:mostDeparted] {
			delete(d.users, name)
		}
		d.order = slices.Clone(d.order[mostDeparted:])
	}
}

// bumped ends what those were allowed whose stores a user has, and what was of its own name.
func (d *departed) bumped(name string) {
	for at, l := range d.users {
		if l.heir == name || at == name {
			l.generation, l.heir = 0, ""
			d.users[at] = l
		}
	}
}

// honouredLocked reports whether a commit may name a user that is gone, under its last
// generation. Of what it has for it, only what an heir has now may be there.
func (m *Mirror) honouredLocked(c *commit, index int, u commitUser) bool {
	l, there := m.gone.users[string(u.name)]
	if !there || l.generation == 0 || l.generation != u.generation {
		return false
	}
	for _, b := range c.batches {
		if b.user != index {
			continue
		}
		if s := m.stores[Ref{b.kind, string(b.id)}]; s != nil && s.former != string(u.name) && (l.heir == "" || s.user != l.heir) {
			return false
		}
	}
	return true
}

// Pass gives some of a user's stores to another user, and leaves the rest: one of a user's
// connections has become somebody else's.
func (m *Mirror) Pass(from, to string, take func(Ref) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	giver := m.users[from]
	if giver == nil || from == to {
		return
	}
	taker := m.userLocked(to)
	for ref := range giver.stores {
		if !take(ref) {
			continue
		}
		delete(giver.stores, ref)
		s := m.stores[ref]
		s.user, s.former = to, from
		taker.stores[ref] = struct{}{}
	}
}
