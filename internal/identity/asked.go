package identity

import (
	"errors"
	"sync"
	"sync/atomic"
)

// A login is asked for while a request runs, and comes with the request's commit: a worker that
// is killed before it has logged nobody in, and the answer of its request sets no cookie.

// login is one that is to come.
type login struct{ user, flag string }

// askedFor are the users that logins are to come of.
type askedFor struct {
	any atomic.Int64 // how many logins

	mu    sync.Mutex // guards users; taken under that of a visit
	users map[string]int
}

func (a *askedFor) add(user string, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.any.Add(int64(n))
	if a.users == nil {
		a.users = map[string]int{}
	}
	if a.users[user] += n; a.users[user] == 0 {
		delete(a.users, user)
	}
}

// Asked reports whether a request that is under way logs in as this user. Its code may use
// what is the user's already.
func (s *Server) Asked(user string) bool {
	if s.asked.any.Load() == 0 {
		return false
	}
	s.asked.mu.Lock()
	defer s.asked.mu.Unlock()
	return s.asked.users[user] > 0
}

// askLocked notes a login, and tells who is logged in then.
func (v *visit) askLocked(user, flag string) (Connection, error) {
	if err := v.mayLocked(user, flag); err != nil {
		return Connection{}, err
	}
	var c Connection
	there := false
	if v.conn.id != "" {
		var err error
		c, there, err = v.server.registry.seenBy(v.conn)
		// Who came with a token of before must not touch what is another's by now.
		there = there && err == nil
	}
	if !there {
		made, err := v.createLocked("", "")
		if err != nil {
			return Connection{}, err
		}
		c = made
	}
	v.takeLocked()
	v.ask = &login{user, flag}
	v.server.asked.add(user, 1)
	c.User, c.Flag = user, flag
	return c, nil
}

// takeLocked gives the login that was asked for, which is no longer to come; nil: there is none.
func (v *visit) takeLocked() *login {
	ask := v.ask
	if ask != nil {
		v.ask = nil
		v.server.asked.add(ask.user, -1)
	}
	return ask
}

// Committed does what an exchange has asked for: what its application has changed is real now,
// and its answer has not left. It is called by who reads that, and does not wait for a worker.
func (s *Server) Committed(key uint64) {
	if s.asked.any.Load() == 0 {
		return
	}
	v := s.visits.find(key)
	if v == nil {
		return
	}
	v.mu.Lock()
	did := v.key == key && v.doLocked()
	v.mu.Unlock()
	if did {
		s.registry.changes.tellAll()
	}
}

// doLocked logs in who was asked for; false: nobody was, or the head has left.
func (v *visit) doLocked() bool {
	if v.ask == nil || v.sent {
		return false
	}
	ask := v.ask
	if _, err := v.loginLocked(ask.user, ask.flag); err != nil && !errors.Is(err, ErrStopping) {
		v.server.opts.Log.Error("who has logged in is not logged in", "app", v.x.App, "request_id", v.x.ID, "user", ask.user, "error", err)
	}
	v.takeLocked() // behind it: who asks knows the user all the time
	return true
}
