package identity

import (
	"bytes"
	"cmp"
	"crypto/subtle"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// grace is how long the token of before a login or logout is remembered. It opens nothing
// any more; but a request that was under way meanwhile must not get a connection of its
// own, whose cookie would take the place of the new one in the browser.
const grace = 10 * time.Second

// connection is one browser of a user.
type connection struct {
	id   string
	made time.Time
	seen atomic.Int64 // Unix nanoseconds

	// Guarded by registry.mu.
	user, flag string
	version    uint32    // of its token
	token      []byte    // the newest, when it was made or believed since the start
	rotated    time.Time // when it became this version
}

// registry is all connections.
type registry struct {
	opts    *Options
	stale   atomic.Uint64
	changes changes

	mu     sync.RWMutex // guards the rest, and of each connection what says so
	byID   map[string]*connection
	logins map[string]int // connections by user
	timer  *time.Timer    // nil: there is nothing to look for
	closed bool
	count  Status
}

func (r *registry) init(o *Options) {
	r.opts, r.changes.tell = o, o.Changed
	r.byID, r.logins = map[string]*connection{}, map[string]int{}
}

// found is what a request's token leads to; the zero found: nowhere.
type found struct {
	id, user string
	version  uint32
	stale    bool // it is the token of before a login or logout: nothing else is said
	old      bool // it is signed with the key of before
}

// recall gives the connection whose newest token this is, if it was seen before: to compare
// costs a tenth of a signature.
func (r *registry) recall(value []byte) found {
	n := len(value) - macLength - 1
	if n < idLength {
		return found{}
	}
	r.mu.RLock()
	c := r.byID[string(value[n-idLength:n])]
	if c == nil || subtle.ConstantTimeCompare(c.token, value) != 1 {
		r.mu.RUnlock()
		return found{}
	}
	out := found{id: c.id, user: c.user, version: c.version}
	r.mu.RUnlock()
	return r.inUse(c, out)
}

// remember is told of the newest token of a connection.
func (r *registry) remember(id string, version uint32, token []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.byID[id]; c != nil && c.version == version {
		c.token = bytes.Clone(token)
	}
}

// inUse gives what was found unless it was idle for too long.
func (r *registry) inUse(c *connection, f found) found {
	now := time.Now()
	if r.overdue(c, f.user == "", now) && !r.opts.Live(c.id) {
		return found{}
	}
	c.see(now)
	return f
}

// find gives the connection of a token.
func (r *registry) find(t token) found {
	r.mu.RLock()
	c := r.byID[t.connection]
	if c == nil {
		r.mu.RUnlock()
		return found{}
	}
	out, rotated := found{id: c.id, user: c.user, version: c.version, old: t.old}, c.rotated
	r.mu.RUnlock()
	if t.version != out.version {
		r.stale.Add(1)
		return found{stale: t.version == out.version-1 && time.Since(rotated) < grace}
	}
	return r.inUse(c, out)
}

// current says whether the token that led there is still the newest.
func (r *registry) current(f found) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	c := r.byID[f.id]
	return c != nil && c.version == f.version
}

// carried gives the connection of a session.
func (r *registry) carried(id string) found {
	r.mu.RLock()
	defer r.mu.RUnlock()
	c := r.byID[id]
	if c == nil {
		return found{}
	}
	c.see(time.Now())
	return found{id: c.id, user: c.user, version: c.version}
}

// see notes that the connection is in use, to the second: most requests write nothing
// that another processor reads.
func (c *connection) see(now time.Time) {
	if n := now.UnixNano(); n-c.seen.Load() > int64(time.Second) {
		c.seen.Store(n)
	}
}

func (r *registry) ttl(guest bool) time.Duration {
	if guest {
		return r.opts.GuestTTL
	}
	return r.opts.TTL
}

// overdue says that it was idle for too long.
func (r *registry) overdue(c *connection, guest bool, now time.Time) bool {
	return now.UnixNano()-c.seen.Load() > int64(r.ttl(guest))
}

// create makes a connection of this user, or of a guest.
func (r *registry) create(user, flag string) (*connection, error) {
	if err := r.makeRoom(); err != nil {
		return nil, err
	}
	c := &connection{id: NewID(), made: time.Now(), user: user, flag: flag}
	c.seen.Store(c.made.UnixNano())
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrStopping
	}
	r.count.Made++
	if user != "" {
		r.count.Logins++
	}
	r.enterLocked(c)
	return c, nil
}

func (r *registry) enterLocked(c *connection) {
	r.byID[c.id] = c
	if c.user != "" {
		r.logins[c.user]++
	}
	if r.timer == nil {
		r.timer = time.AfterFunc(r.period(), r.sweep)
	}
}

// change gives a connection to another user, and another version to its token. It does
// neither when the one who asks came with a token that is no longer the newest.
func (r *registry) change(f found, page, user, flag string) (before string, ok bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.byID[f.id]
	switch {
	case r.closed:
		return "", false, ErrStopping
	case c == nil || c.version != f.version:
		return "", false, nil
	}
	before = c.user
	if before == user {
		if flag != "" {
			c.flag = flag
		}
		return before, true, nil
	}
	r.logoutLocked(c)
	c.user, c.flag = user, flag
	if user != "" {
		r.logins[user]++
		r.count.Logins++
	} else {
		r.count.Logouts++
	}
	c.version++
	c.token = nil
	c.rotated = time.Now()
	r.changes.note(Change{c.id, before, user, page})
	return before, true, nil
}

func (r *registry) logoutLocked(c *connection) {
	if c.user == "" {
		return
	}
	if r.logins[c.user]--; r.logins[c.user] == 0 {
		delete(r.logins, c.user)
	}
}

func (r *registry) removeLocked(c *connection) {
	r.logoutLocked(c)
	delete(r.byID, c.id)
}

// period is that of the look at all connections. One look for all of them, in place of a
// timer for each, may let one live a quarter longer.
func (r *registry) period() time.Duration { return max(r.opts.GuestTTL/4, time.Second) }

// sweep forgets the connections that were idle for too long.
func (r *registry) sweep() {
	now := time.Now()
	for _, c := range r.pick(func(c *connection) bool { return r.overdue(c, c.user == "", now) }) {
		if r.opts.Live(c.id) {
			c.see(now)
			continue
		}
		r.mu.Lock()
		if r.byID[c.id] == c && r.overdue(c, c.user == "", now) {
			r.removeLocked(c)
			r.count.Expired++
		}
		r.mu.Unlock()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
	case len(r.byID) == 0:
		// A map keeps the room of all that ever were in it.
		r.byID, r.logins, r.timer = map[string]*connection{}, map[string]int{}, nil
	default:
		r.timer.Reset(r.period())
	}
}

// pick gives the connections for which this is true.
func (r *registry) pick(is func(c *connection) bool) (list []*connection) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, c := range r.byID {
		if is(c) {
			list = append(list, c)
		}
	}
	return list
}

// makeRoom forgets some connections when there are as many as may be: those idle longest,
// guests first. Several at once, because it looks at all of them.
func (r *registry) makeRoom() error {
	r.mu.RLock()
	full := len(r.byID) >= r.opts.MaxConnections
	r.mu.RUnlock()
	if !full {
		return nil
	}
	leave := max(1, r.opts.MaxConnections/64)
	for _, guests := range []bool{true, false} {
		if r.evict(guests, leave) > 0 {
			return nil
		}
	}
	return ErrFull
}

// evict forgets some of the guests, or of the others, that were idle longest and have no
// pages, and tells how many.
func (r *registry) evict(guests bool, most int) (gone int) {
	list := r.pick(func(c *connection) bool { return (c.user == "") == guests })
	slices.SortFunc(list, func(a, b *connection) int { return cmp.Compare(a.seen.Load(), b.seen.Load()) })
	for _, c := range list {
		if gone == most {
			break
		}
		if r.opts.Live(c.id) {
			continue
		}
		r.mu.Lock()
		if r.byID[c.id] == c && (c.user == "") == guests {
			r.removeLocked(c)
			r.count.Evicted++
			gone++
		}
		r.mu.Unlock()
	}
	return gone
}

// view is a connection as others see it.
func (c *connection) view() Connection {
	return Connection{ID: c.id, User: c.user, Flag: c.flag, Since: c.made, Seen: time.Unix(0, c.seen.Load())}
}

func (r *registry) get(id string) (Connection, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if c := r.byID[id]; c != nil {
		return c.view(), true
	}
	return Connection{}, false
}

// seenBy is the connection for one who came with this token; [ErrUnderWay] once it has
// another.
func (r *registry) seenBy(f found) (c Connection, there bool, err error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	k := r.byID[f.id]
	switch {
	case k == nil:
		return c, false, nil
	case k.version != f.version:
		return c, true, ErrUnderWay
	}
	return k.view(), true, nil
}

func (r *registry) all() []Connection {
	r.mu.RLock()
	list := make([]Connection, 0, len(r.byID))
	for _, c := range r.byID {
		list = append(list, c.view())
	}
	r.mu.RUnlock()
	slices.SortFunc(list, func(a, b Connection) int {
		return cmp.Or(b.Seen.Compare(a.Seen), cmp.Compare(a.ID, b.ID))
	})
	return list
}

func (r *registry) users() []User {
	byName := map[string]*User{}
	for _, c := range r.all() { // those seen last first: their flag is the newest
		if c.User == "" {
			continue
		}
		u := byName[c.User]
		if u == nil {
			u = &User{Name: c.User, Flag: c.Flag, Seen: c.Seen}
			byName[c.User] = u
		}
		u.Connections++
	}
	list := make([]User, 0, len(byName))
	for _, u := range byName {
		list = append(list, *u)
	}
	slices.SortFunc(list, func(a, b User) int { return cmp.Or(b.Seen.Compare(a.Seen), cmp.Compare(a.Name, b.Name)) })
	return list
}

func (r *registry) status() Status {
	r.mu.RLock()
	defer r.mu.RUnlock()
	st := r.count
	st.Connections, st.Users = len(r.byID), len(r.logins)
	st.Guests = st.Connections
	for _, n := range r.logins {
		st.Guests -= n
	}
	return st
}

// stop ends the timer; nothing changes any more.
func (r *registry) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.timer != nil {
		r.timer.Stop()
	}
}
