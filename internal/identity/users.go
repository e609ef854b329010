package identity

import (
	"cmp"
	"slices"
	"time"

	"github.com/guado-server/guado/internal/item"
)

// user is who is logged in, or was: it is remembered for a while when its last connection
// has ended. The registry's lock guards it.
type user struct {
	name        string
	made        time.Time
	idle        time.Duration // by the server's clock: when it was seen last, while it has no connection
	first       *connection   // of a list
	connections int
	meta        item.Meta
}

// name is the user of a connection; empty: a guest.
func (c *connection) name() string {
	if c.user == nil {
		return ""
	}
	return c.user.name
}

// userLocked gives a user, who is made if there is none of this name.
func (r *registry) userLocked(name string) *user {
	u := r.users[name]
	if u == nil {
		u = &user{name: name, made: time.Now(), idle: r.opts.Clock.Now()}
		r.users[name] = u
		r.alone++
		r.roomForUsersLocked(u)
		r.wakeLocked()
		r.opts.Touched(item.User, name)
	}
	return u
}

// joinLocked gives a connection its user.
func (r *registry) joinLocked(c *connection, name string) {
	if name == "" {
		return
	}
	u := r.userLocked(name)
	c.user, c.next, c.prev = u, u.first, nil
	if u.first != nil {
		u.first.prev = c
	}
	u.first = c
	if u.connections++; u.connections == 1 {
		r.alone--
	}
}

// leaveLocked makes a guest's of a connection.
func (r *registry) leaveLocked(c *connection) {
	u := c.user
	if u == nil {
		return
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		u.first = c.next
	}
	c.user, c.next, c.prev = nil, nil, nil
	if u.connections--; u.connections == 0 {
		u.idle = max(u.idle, time.Duration(c.seen.Load()))
		r.alone++
	}
}

// endUserLocked forgets a user without connections.
func (r *registry) endUserLocked(u *user, why item.Why) {
	r.changes.note(news{ended: &item.Ended{Kind: item.User, ID: u.name, User: u.name, Why: why}})
	delete(r.users, u.name)
	r.alone--
	r.opts.Touched(item.User, u.name)
}

// expireUsersLocked forgets those who were away for as long as a connection may be idle.
func (r *registry) expireUsersLocked(now time.Duration) {
	if r.alone == 0 {
		return
	}
	for _, u := range r.users {
		if u.connections == 0 && now-u.idle > r.opts.TTL {
			r.endUserLocked(u, item.Expired)
		}
	}
}

// roomForUsersLocked forgets some of those without connections when there are as many of
// them as there may be connections: those who are away longest. but stays.
func (r *registry) roomForUsersLocked(but *user) {
	if r.alone <= r.opts.MaxConnections {
		return
	}
	var away []*user
	for _, u := range r.users {
		if u.connections == 0 && u != but {
			away = append(away, u)
		}
	}
	slices.SortFunc(away, func(a, b *user) int { return cmp.Compare(a.idle, b.idle) })
	for _, u := range away[:min(len(away), max(1, r.opts.MaxConnections/64))] {
		r.endUserLocked(u, item.Full)
		r.count.Evicted++
	}
}

// viewUserLocked is a user as others see it. Its flag is that of the connection seen last.
func (r *registry) viewUserLocked(u *user) User {
	out := User{
		Name: u.name, Connections: u.connections, Since: u.made, Seen: r.opts.Clock.Wall(u.idle),
		Address: u.meta.Address, Agent: u.meta.Agent, Fields: u.meta.Fields,
	}
	var last *connection
	for c := u.first; c != nil; c = c.next {
		if last == nil || c.seen.Load() > last.seen.Load() {
			last = c
		}
	}
	if last != nil {
		out.Flag, out.Seen = last.flag, r.opts.Clock.Wall(time.Duration(last.seen.Load()))
	}
	return out
}

func (r *registry) allUsers() []User {
	r.mu.RLock()
	list := make([]User, 0, len(r.users))
	for _, u := range r.users {
		list = append(list, r.viewUserLocked(u))
	}
	r.mu.RUnlock()
	slices.SortFunc(list, func(a, b User) int { return cmp.Or(b.Seen.Compare(a.Seen), cmp.Compare(a.Name, b.Name)) })
	return list
}
