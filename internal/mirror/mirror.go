// Package mirror is the host's copy of stores: trees whose leaves it does not read, changed by
// the commits of workers, each of them whole or not at all.
// Before it: the link, which brings commits in the order of a worker's queue. After it: whoever
// restores a store into a worker, reads one for another group, or saves all.
// Not here: the effects of a commit (pages, push), which items there are.
// The twin of protocol/store.md.
package mirror

import (
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Kind says whose a store is.
type Kind uint8

// The kinds of stores.
const (
	Page       Kind = 1
	Connection Kind = 2
	User       Kind = 3
)

// Ref names a store.
type Ref struct {
	Kind Kind
	ID   string
}

// What can be wrong with a commit.
var (
	// ErrGap ends the worker: a commit is missing.
	ErrGap = errors.New("the commit is not the next one of its worker")
	// ErrCorrupt ends the worker: the commit cannot have been made by one of ours.
	ErrCorrupt = errors.New("the commit is corrupt")
	// ErrStale refuses the commit: a user of it has been moved meanwhile.
	ErrStale = errors.New("a user of the commit has moved")
	// ErrNoStore is told of a store that is not there.
	ErrNoStore = errors.New("there is no such store")
	// ErrExists is told of a store that is there already.
	ErrExists = errors.New("there is such a store already")
)

// Mirror holds the stores of all users. Its methods may be called from any goroutine.
type Mirror struct {
	limits Limits

	mu     sync.Mutex // guards all below; held for memory operations only
	users  map[string]*user
	stores map[Ref]*store
	issued uint64 // the highest generation ever given
	bytes  int64
	gone   departed
	count  Status

	journal func([]Changed, any) // nil: nobody keeps one
	changed []Changed            // memory for it

	watch watching
}

type user struct {
	generation uint64
	stores     map[Ref]struct{}
	heir       string // who has what was this one's; empty: nobody
	aliases    []string
}

type store struct {
	user    string
	former  string // whose it was: what was written as that user's may still come
	token   uint64 // the highest under which it was written
	root    *node
	gone    uint64 // number of the last change that is gone
	changes [][]byte
	shares  []*share // with the client of the page whose store it is
	bytes   int64
	order   uint64 // of the key that was added last
}

// Limits bound the account; 0: no bound. Workers keep them, so a commit that does not is
// corrupt.
type Limits struct {
	Store int64 // of one store
	All   int64
}

// New makes a mirror whose generations are higher than issued, the highest one ever given.
func New(issued uint64, limits Limits) *Mirror {
	m := &Mirror{limits: limits, users: map[string]*user{}, stores: map[Ref]*store{}, issued: issued, gone: departed{users: map[string]last{}}}
	m.watch.begin()
	return m
}

// Source is the link of one worker. It belongs to who reads the link.
type Source struct {
	last uint64

	// Also is told to the journal with the next commit: what is kept with it, or not at all.
	Also any

	// Of the commit that is being read; their memory is used again.
	commit commit
	reader reader
	done   undo

	found []Difference

	touched []touches // of what others are told of
	shared  []string  // pages that share something else now
}

// Issued is the highest generation ever given.
func (m *Mirror) Issued() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.issued
}

// Bytes is what all stores cost in the account.
func (m *Mirror) Bytes() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bytes
}

// Status is how the copy is.
type Status struct {
	Users   int    `json:"users"` // guests are users, too
	Stores  int    `json:"stores"`
	Bytes   int64  `json:"bytes"`   // of the account
	Commits uint64 `json:"commits"` // that were applied
	Stale   uint64 `json:"stale"`   // that were refused: their user had moved
	Late    uint64 `json:"late"`    // parts that came for stores which had ended, and were skipped
	// Compared are stores that were compared with those of the worker, from phase 6 on.
	Compared    uint64 `json:"compared"`
	Differences uint64 `json:"differences"`
	// Sharing are pages whose clients have something of stores; Waiting, changes that wait until
	// they ask.
	Sharing int `json:"sharing"`
	Waiting int `json:"waiting"`
}

// Status tells how the copy is.
func (m *Mirror) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	st := m.count
	st.Users, st.Stores, st.Bytes = len(m.users), len(m.stores), m.bytes
	st.Sharing, st.Waiting = len(m.watch.pages), m.waitingLocked()
	return st
}

// Bump begins a new generation of a user and gives it: from now on every commit of an older
// one is refused.
func (m *Mirror) Bump(name string) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bumpLocked(name)
}

// bumpLocked also ends what those were allowed whose stores the user has taken over.
func (m *Mirror) bumpLocked(name string) uint64 {
	u := m.userLocked(name)
	m.gone.bumped(name)
	for ref := range u.stores {
		m.stores[ref].former = ""
	}
	for _, alias := range u.aliases {
		if a := m.users[alias]; a != nil && a.heir == name {
			m.issued++
			a.generation = m.issued
		}
	}
	m.issued++
	u.generation = m.issued
	return m.issued
}

// Relabel gives the stores of one user to another: a guest has logged in. Those that take
// says no to are given up; it gives their names. What was begun as the guest goes on: its
// generation is honoured until the heir's next one begins.
func (m *Mirror) Relabel(from, to string, take func(Ref) bool) (dropped []Ref) {
	m.mu.Lock()
	defer m.mu.Unlock()
	guest := m.users[from]
	if guest == nil || from == to {
		return nil
	}
	heir := m.userLocked(to)
	for ref := range guest.stores {
		delete(guest.stores, ref)
		s := m.stores[ref]
		if !take(ref) {
			m.bytes -= s.bytes
			delete(m.stores, ref)
			m.tellLocked(Changed{Ref: ref, What: Ended})
			m.endedLocked(ref)
			dropped = append(dropped, ref)
			continue
		}
		s.user = to
		heir.stores[ref] = struct{}{}
	}
	if guest.heir != to {
		guest.heir = to
		heir.aliases = append(heir.aliases, from)
	}
	return dropped
}

// Generation is the current one of a user; 0: nobody knows the user.
func (m *Mirror) Generation(name string) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if u := m.users[name]; u != nil {
		return u.generation
	}
	return 0
}

func (m *Mirror) userLocked(name string) *user {
	u := m.users[name]
	if u == nil {
		m.issued++
		u = &user{generation: m.issued, stores: map[Ref]struct{}{}}
		m.users[name] = u
	}
	return u
}

// Open makes an empty store of a user.
func (m *Mirror) Open(name string, ref Ref) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stores[ref] != nil {
		return fmt.Errorf("store %q: %w", ref.ID, ErrExists)
	}
	m.stores[ref] = &store{user: name, root: newDict()}
	m.userLocked(name).stores[ref] = struct{}{}
	m.tellLocked(Changed{Ref: ref, What: Whole})
	return nil
}

// Drop forgets a store; false: there is none.
func (m *Mirror) Drop(ref Ref) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stores[ref]
	if s == nil {
		return false
	}
	m.bytes -= s.bytes
	delete(m.stores, ref)
	delete(m.users[s.user].stores, ref)
	m.tellLocked(Changed{Ref: ref, What: Ended})
	m.endedLocked(ref)
	return true
}

// Forget forgets a user who has no store any more; false: there are some, or no such user.
func (m *Mirror) Forget(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	u := m.users[name]
	if u == nil || len(u.stores) > 0 {
		return false
	}
	delete(m.users, name)
	m.gone.add(name, last{u.generation, u.heir})
	if heir := m.users[u.heir]; heir != nil {
		heir.aliases = slices.DeleteFunc(heir.aliases, func(a string) bool { return a == name })
	}
	return true
}

// Stores names the stores of a user.
func (m *Mirror) Stores(name string) []Ref {
	m.mu.Lock()
	defer m.mu.Unlock()
	u := m.users[name]
	if u == nil {
		return nil
	}
	refs := make([]Ref, 0, len(u.stores))
	for ref := range u.stores {
		refs = append(refs, ref)
	}
	return refs
}

// Apply does what a commit says of stores. After ErrGap and ErrCorrupt the worker must end;
// after ErrStale the exchange has been refused, and the worker goes on. Nothing of the commit
// has been done after any error.
func (m *Mirror) Apply(from *Source, state []byte) error {
	rest, err := from.commit.decode(from.reader.begin(state))
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%w: %d bytes behind its end", ErrCorrupt, len(rest))
	}
	if err != nil {
		return err
	}
	return m.apply(from)
}

// ApplyFront is [Mirror.Apply] of the state that a frame begins with; it gives the rest of
// the frame.
func (m *Mirror) ApplyFront(from *Source, frame []byte) (rest []byte, err error) {
	rest, err = from.commit.decode(from.reader.begin(frame))
	if err != nil {
		return nil, err
	}
	return rest, m.apply(from)
}

func (m *Mirror) apply(from *Source) error {
	c := &from.commit
	if c.sequence != from.last+1 && !skipSequence {
		return fmt.Errorf("%w: it is %d, and the last one was %d", ErrGap, c.sequence, from.last)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, u := range c.users {
		if known := m.users[string(u.name)]; known != nil && known.generation == u.generation {
			continue
		}
		if !m.honouredLocked(c, i, u) {
			from.last++
			m.count.Stale++
			return fmt.Errorf("%w: user %q, generation %d", ErrStale, u.name, u.generation)
		}
	}
	err := m.applyLocked(from, c, &from.reader, &from.done)
	if err != nil {
		from.done.run(m)
	} else {
		from.last++
		m.count.Commits++
		m.tellCommitLocked(c, from.Also)
		m.tellPagesLocked(from)
	}
	from.done.reset()
	clear(from.touched)
	from.touched, from.shared = from.touched[:0], from.shared[:0]
	return err
}

func (m *Mirror) applyLocked(from *Source, c *commit, r *reader, done *undo) error {
	for i, b := range c.batches {
		s := m.stores[Ref{b.kind, string(b.id)}]
		switch {
		case s == nil: // it has ended, and its worker did not know it yet
			m.count.Late++
			continue
		case !m.mayLocked(c.users[b.user].name, s):
			return fmt.Errorf("%w: store %q is another user's", ErrCorrupt, b.id)
		case b.token != 0 && b.token < s.token:
			return fmt.Errorf("%w: token %d of store %q, after %d", ErrCorrupt, b.token, b.id, s.token)
		}
		before := s.bytes
		done.account(s)
		r.begin(b.records)
		shares := s.shares
		if m.watch.any() {
			r.touches = m.touchesLocked(from, &b)
		}
		err := s.apply(b.count, r, done)
		if err == nil && b.kind == Page && !sameShares(shares, s.shares) {
			from.shared = append(from.shared, string(b.id))
		}
		m.bytes += s.bytes - before
		s.token = max(s.token, b.token)
		if err == nil && s.bytes > before {
			err = m.boundLocked(b.id, s)
		}
		if err == nil && r.verify != nil {
			c.batches[i].records = b.records[:len(b.records)-verifyHead-len(r.verify)] // nothing to be kept
			err = m.verifyLocked(from, &b, s, r.verify)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mayLocked reports whether a user may write a store.
func (m *Mirror) mayLocked(name []byte, s *store) bool {
	if string(name) == s.user || string(name) == s.former {
		return true
	}
	if u := m.users[string(name)]; u != nil && u.heir == s.user {
		return true
	}
	return m.gone.users[string(name)].heir == s.user
}

func (m *Mirror) boundLocked(id []byte, s *store) error {
	switch {
	case m.limits.Store > 0 && s.bytes > m.limits.Store:
		return fmt.Errorf("%w: store %q has %d bytes, of %d", ErrCorrupt, id, s.bytes, m.limits.Store)
	case m.limits.All > 0 && m.bytes > m.limits.All:
		return fmt.Errorf("%w: all stores have %d bytes, of %d", ErrCorrupt, m.bytes, m.limits.All)
	}
	return nil
}

// Snapshot is a store as records, and the generation of its user.
func (m *Mirror) Snapshot(ref Ref) (records []byte, generation uint64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stores[ref]
	if s == nil {
		return nil, 0, fmt.Errorf("store %q: %w", ref.ID, ErrNoStore)
	}
	return s.snapshot(), m.users[s.user].generation, nil
}

// Restore makes a store of a snapshot, and of what was done to it since, whole or not at all.
func (m *Mirror) Restore(name string, ref Ref, snapshot []byte, since ...[]byte) error {
	s := &store{user: name, root: newDict()}
	var done undo
	err := s.apply(-1, new(reader).begin(snapshot), &done)
	for _, records := range since {
		if err == nil {
			done.reset()
			err = s.apply(-1, new(reader).begin(records), &done)
		}
	}
	if err != nil {
		return fmt.Errorf("restore store %q: %w", ref.ID, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stores[ref] != nil {
		return fmt.Errorf("store %q: %w", ref.ID, ErrExists)
	}
	m.stores[ref] = s
	m.userLocked(name).stores[ref] = struct{}{}
	m.bytes += s.bytes
	m.restoredLocked(ref, s)
	if m.journal != nil {
		m.tellLocked(Changed{Ref: ref, What: Whole, Records: s.snapshot()})
	}
	return nil
}
