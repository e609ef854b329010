package identity

import (
	"bytes"
	"cmp"
	"crypto/subtle"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guado-server/guado/internal/clock"
	"github.com/guado-server/guado/internal/item"
)

// grace is how long the token of before a login or logout is remembered. It opens nothing
// any more; but a request that was under way meanwhile must not get a connection of its
// own, whose cookie would take the place of the new one in the browser.
const grace = 10 * time.Second

// connection is one browser of a user.
type connection struct {
	id   string
	made time.Time
	seen atomic.Int64 // by the server's clock

	// Guarded by registry.mu.
	user       *user // nil: a guest
	next, prev *connection
	flag       string
	meta       item.Meta
	given      bool      // the application has made it: no cookie leads to it
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
	users  map[string]*user
	alone  int          // users without connections
	timer  *clock.Timer // nil: there is nothing to look for
	closed bool
	count  Status

	sweeping sync.WaitGroup // the timer's call
}

func (r *registry) init(o *Options) {
	r.opts = o
	r.changes.tell = func(n news) {
		if n.ended != nil {
			o.Ended(*n.ended)
			return
		}
		o.Changed(n.change)
	}
	r.byID, r.users = map[string]*connection{}, map[string]*user{}
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
	out := found{id: c.id, user: c.name(), version: c.version}
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
	now := r.opts.Clock.Now()
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
	out, rotated := found{id: c.id, user: c.name(), version: c.version, old: t.old}, c.rotated
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
	c.see(r.opts.Clock.Now())
	return found{id: c.id, user: c.name(), version: c.version}
}

// see notes that the connection is in use, to the second: most requests write nothing
// that another processor reads.
func (c *connection) see(now time.Duration) {
	if n := int64(now); n-c.seen.Load() > int64(time.Second) {
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
func (r *registry) overdue(c *connection, guest bool, now time.Duration) bool {
	return int64(now)-c.seen.Load() > int64(r.ttl(guest))
}

// create makes a connection of this user, or of a guest; with an id, one to which no cookie
// leads.
func (r *registry) create(id, user, flag string, meta item.Meta) (*connection, error) {
	c := &connection{id: id, made: time.Now(), flag: flag, meta: meta, given: id != ""}
	if id == "" {
		c.id = NewID()
	}
	c.seen.Store(int64(r.opts.Clock.Now()))
	for {
		if err := r.makeRoom(); err != nil {
			return nil, err
		}
		// Others that come at once may have taken the room meanwhile.
		if entered, err := r.enter(c, user); err != nil {
			return nil, err
		} else if entered {
			return c, nil
		}
	}
}

// enter takes a connection in; false: there is no room.
func (r *registry) enter(c *connection, user string) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false, ErrStopping
	}
	if r.byID[c.id] != nil {
		return false, ErrExists
	}
	if len(r.byID) >= r.opts.MaxConnections {
		return false, nil
	}
	r.count.Made++
	if user != "" {
		r.count.Logins++
	}
	r.enterLocked(c, user)
	return true, nil
}

func (r *registry) enterLocked(c *connection, user string) {
	r.byID[c.id] = c
	r.joinLocked(c, user)
	r.wakeLocked()
	r.opts.Touched(item.Connection, c.id)
}

// wakeLocked sees to it that somebody looks for what is idle.
func (r *registry) wakeLocked() {
	if r.timer == nil {
		r.timer = r.opts.Clock.AfterFunc(r.sweep)
		r.timer.Reset(r.period())
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
	if before = c.name(); before == user {
		if flag != "" {
			c.flag = flag
			r.opts.Touched(item.Connection, c.id)
		}
		return before, true, nil
	}
	r.becomeLocked(c, user, flag)
	r.changes.note(news{change: Change{c.id, before, user, page, false}})
	return before, true, nil
}

// becomeLocked gives a connection to another user, and its token another version.
func (r *registry) becomeLocked(c *connection, user, flag string) {
	r.leaveLocked(c)
	r.joinLocked(c, user)
	c.flag = flag
	if user != "" {
		r.count.Logins++
	} else {
		r.count.Logouts++
	}
	c.version++
	c.token = nil
	c.rotated = time.Now()
	r.opts.Touched(item.Connection, c.id)
}

// endLocked forgets a connection.
func (r *registry) endLocked(c *connection, why item.Why) {
	r.changes.note(news{ended: &item.Ended{Kind: item.Connection, ID: c.id, User: c.name(), Why: why}})
	r.leaveLocked(c)
	delete(r.byID, c.id)
	r.opts.Touched(item.Connection, c.id)
}

// period is that of the look at all connections. One look for all of them, in place of a
// timer for each, may let one live a quarter longer.
func (r *registry) period() time.Duration { return max(r.opts.GuestTTL/4, time.Second) }

// sweep forgets the connections that were idle for too long, and then users.
func (r *registry) sweep() {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return
	}
	r.sweeping.Add(1)
	defer r.sweeping.Done()
	r.mu.Unlock()
	now := r.opts.Clock.Now()
	for _, c := range r.pick(func(c *connection) bool { return r.overdue(c, c.user == nil, now) }) {
		if r.opts.Live(c.id) {
			c.see(now)
			continue
		}
		r.mu.Lock()
		if r.byID[c.id] == c && r.overdue(c, c.user == nil, now) {
			r.endLocked(c, item.Expired)
			r.count.Expired++
		}
		r.mu.Unlock()
	}
	r.mu.Lock()
	r.expireUsersLocked(now)
	switch {
	case r.closed:
	case len(r.byID) == 0 && len(r.users) == 0:
		// A map keeps the room of all that ever were in it.
		r.byID, r.users, r.timer = map[string]*connection{}, map[string]*user{}, nil
	default:
		r.timer.Reset(r.period())
	}
	r.mu.Unlock()
	r.changes.tellAll()
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
	list := r.pick(func(c *connection) bool { return (c.user == nil) == guests })
	slices.SortFunc(list, func(a, b *connection) int { return cmp.Compare(a.seen.Load(), b.seen.Load()) })
	for _, c := range list {
		if gone == most {
			break
		}
		if r.opts.Live(c.id) {
			continue
		}
		r.mu.Lock()
		if r.byID[c.id] == c && (c.user == nil) == guests {
			r.endLocked(c, item.Full)
			r.count.Evicted++
			gone++
		}
		r.mu.Unlock()
	}
	return gone
}

// viewLocked is a connection as others see it.
func (r *registry) viewLocked(c *connection) Connection {
	return Connection{
		ID: c.id, User: c.name(), Flag: c.flag, Since: c.made, Seen: r.opts.Clock.Wall(time.Duration(c.seen.Load())),
		Address: c.meta.Address, Agent: c.meta.Agent, Fields: c.meta.Fields,
	}
}

func (r *registry) get(id string) (Connection, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if c := r.byID[id]; c != nil {
		return r.viewLocked(c), true
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
	return r.viewLocked(k), true, nil
}

func (r *registry) all() []Connection {
	r.mu.RLock()
	list := make([]Connection, 0, len(r.byID))
	for _, c := range r.byID {
		list = append(list, r.viewLocked(c))
	}
	r.mu.RUnlock()
	slices.SortFunc(list, func(a, b Connection) int {
		return cmp.Or(b.Seen.Compare(a.Seen), cmp.Compare(a.ID, b.ID))
	})
	return list
}

func (r *registry) status() Status {
	r.mu.RLock()
	defer r.mu.RUnlock()
	st := r.count
	st.Connections, st.Users = len(r.byID), len(r.users)-r.alone
	st.Guests = st.Connections
	for _, u := range r.users {
		st.Guests -= u.connections
	}
	return st
}

// stop ends the timer and waits for its call; nothing changes any more.
func (r *registry) stop() {
	r.mu.Lock()
	r.closed = true
	if r.timer != nil {
		r.timer.Stop()
	}
	r.mu.Unlock()
	r.sweeping.Wait()
}
