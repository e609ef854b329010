package identity

import (
	"errors"
	"fmt"
	"time"

	"github.com/guado-server/guado/internal/item"
)

// Errors of what an application says of connections and users.
var (
	ErrExists = errors.New("there is one with this id already")
	ErrNone   = errors.New("there is no such item")
	// ErrCookie: a browser has a cookie of the connection, which a login must replace.
	ErrCookie = errors.New("a browser has this connection's cookie: log in or out within its request, by guado.connection().login(...) or .logout()")
)

// Given names the connections that the application has made, to which no cookie leads.
func (s *Server) Given() []string {
	r := &s.registry
	r.mu.RLock()
	defer r.mu.RUnlock()
	var ids []string
	for id, c := range r.byID {
		if c.given {
			ids = append(ids, id)
		}
	}
	return ids
}

// Create makes a connection with an id of the application's own, to which no cookie leads.
func (s *Server) Create(id, user string, meta item.Meta) (Connection, error) {
	if base, _, err := ParseID(id); id != "" && (err != nil || base != id) {
		return Connection{}, ErrID
	}
	if user != "" && !isUser(user) {
		return Connection{}, fmt.Errorf("%w, not %.300q", ErrUser, user)
	}
	if id == "" {
		id = NewID()
	}
	r := &s.registry
	c, err := r.create(id, user, "", meta)
	r.changes.tellAll()
	if err != nil {
		return Connection{}, err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.viewLocked(c), nil
}

// CreateUser makes a user without connections.
func (s *Server) CreateUser(name string, meta item.Meta) (User, error) {
	if !isUser(name) {
		return User{}, fmt.Errorf("%w, not %.300q", ErrUser, name)
	}
	r := &s.registry
	defer r.changes.tellAll()
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return User{}, ErrStopping
	case r.users[name] != nil:
		return User{}, ErrExists
	}
	u := r.userLocked(name)
	u.meta = meta
	return r.viewUserLocked(u), nil
}

// Drop forgets a connection. Pages of it are the caller's to end. False: there is none.
func (s *Server) Drop(id string, why item.Why) bool {
	r := &s.registry
	defer r.changes.tellAll()
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.byID[id]
	if c == nil || r.closed {
		return false
	}
	r.endLocked(c, why)
	return true
}

// DropUser forgets a user; false: there is none, or it has connections.
func (s *Server) DropUser(name string, why item.Why) bool {
	r := &s.registry
	defer r.changes.tellAll()
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.users[name]
	if u == nil || u.connections > 0 || r.closed {
		return false
	}
	r.endUserLocked(u, why)
	return true
}

// FindUser gives a user by its name.
func (s *Server) FindUser(name string) (User, bool) {
	r := &s.registry
	r.mu.RLock()
	defer r.mu.RUnlock()
	if u := r.users[name]; u != nil {
		return r.viewUserLocked(u), true
	}
	return User{}, false
}

// ConnectionsOf gives the connections of a user.
func (s *Server) ConnectionsOf(name string) []Connection {
	r := &s.registry
	r.mu.RLock()
	defer r.mu.RUnlock()
	u := r.users[name]
	if u == nil {
		return nil
	}
	list := make([]Connection, 0, u.connections)
	for c := u.first; c != nil; c = c.next {
		list = append(list, r.viewLocked(c))
	}
	return list
}

// Count tells how many connections and users there are.
func (s *Server) Count() (connections, users int) {
	r := &s.registry
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.byID), len(r.users)
}

// TouchItem says that a connection is in use.
func (s *Server) TouchItem(id string) bool {
	r := &s.registry
	r.mu.RLock()
	defer r.mu.RUnlock()
	c := r.byID[id]
	if c != nil {
		c.see(r.opts.Clock.Now())
	}
	return c != nil
}

// TouchUser says that a user is in use; those with connections are anyway.
func (s *Server) TouchUser(name string) bool {
	r := &s.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.users[name]
	if u != nil && u.connections == 0 {
		u.idle = r.opts.Clock.Now()
	}
	return u != nil
}

// Update changes what a connection says of itself.
func (s *Server) Update(id string, change func(m *item.Meta) error) error {
	r := &s.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.byID[id]; c != nil {
		r.opts.Touched(item.Connection, id)
		return change(&c.meta)
	}
	return ErrNone
}

// UpdateUser changes what a user says of itself.
func (s *Server) UpdateUser(name string, change func(m *item.Meta) error) error {
	r := &s.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if u := r.users[name]; u != nil {
		r.opts.Touched(item.User, name)
		return change(&u.meta)
	}
	return ErrNone
}

// Assign gives a connection that the application has made to another user. Its pages go
// with it, whoever had it before.
func (s *Server) Assign(id, name string) error {
	if name != "" && !isUser(name) {
		return fmt.Errorf("%w, not %.300q", ErrUser, name)
	}
	r := &s.registry
	defer r.changes.tellAll()
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.byID[id]
	switch {
	case r.closed:
		return ErrStopping
	case c == nil:
		return ErrNone
	case c.name() == name:
		return nil
	case !c.given:
		return ErrCookie
	}
	before := c.name()
	r.becomeLocked(c, name, c.flag)
	r.changes.note(news{change: Change{id, before, name, "", true}})
	return nil
}

// wall is how a time is written that must be read after a restart.
func (s *Server) wall(at int64) time.Time { return s.opts.Clock.Wall(time.Duration(at)).UTC() }
