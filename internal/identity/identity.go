// Package identity tells who sends a request: the browser (a connection, known by its
// cookie), its user, and the page that the request is of.
// Before it: what guards a mount. After it: the pool of the application.
// Not here: sessions of pages (push), who may do what (the application).
package identity

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/guado-server/guado/internal/clock"
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/item"
)

// Errors that callers tell apart.
var (
	// ErrOver: the exchange is answered, or there never was one with this number.
	ErrOver = errors.New("the request is over")
	// ErrHeadSent: the head of the answer has left, and with it the place of the cookie.
	ErrHeadSent = errors.New("the head of the answer has left; a cookie can no longer be set")
	// ErrUnderWay: the request came with the cookie of before a login or logout, which opens
	// nothing any more, and the new one is on its way to the browser.
	ErrUnderWay = errors.New("the browser is being logged in or out by another request; try again")
	// ErrFull: all connections that may be remembered have open pages.
	ErrFull = errors.New("as many connections as identity.max_connections allows have open pages")
	// ErrUser: what should be the name of a user is none.
	ErrUser = errors.New("the name of a user must be 1 to 255 bytes of text in UTF-8 without control characters, without spaces at its ends")
	// ErrStopping: nothing changes any more.
	ErrStopping = errors.New("the server is stopping")
)

// Options of a [Server].
type Options struct {
	Dir            string // of the keys and of what a graceful stop writes; it is made
	Log            *slog.Logger
	MaxConnections int           // default 100,000
	TTL            time.Duration // of connections of users without requests and pages; default 2 h
	GuestTTL       time.Duration // of those of guests; default 30 min
	Cookie         Cookie
	// UserHeader or UserCookie is where a trusted proxy says who the user is.
	UserHeader string
	UserCookie string
	// Changed is told when a connection got another user. It is called without locks, one
	// change after the other.
	Changed func(c Change)
	// Ended is told when a connection or a user has ended, in one row with Changed.
	Ended func(e item.Ended)
	// Owner tells whose a page is; nil: there are no pages.
	Owner func(page string) (connection string, ok bool)
	// Live tells whether a connection has pages, and so is in use; nil: there are none.
	Live func(connection string) bool
	// Met is told that a request of a page has come; nil: nobody wants to know.
	Met   func(page string)
	Clock *clock.Clock // nil: one of its own
	// Touched is told that a connection, or a user, has changed, was made or has ended: who
	// keeps them asks [Server.Describe]. It is called under a lock and must not wait; nil: nobody
	// wants to know.
	Touched func(kind item.Kind, id string)
	// Unasked is told of a login that was asked for and did not come: its request failed.
	Unasked func(user string)
}

// Cookie is that of a connection.
type Cookie struct {
	Name   string // without prefix; default "guado"
	Domain string // empty: the host of the request alone
}

// Server knows the connections of a host. Its methods may be called from any goroutine.
type Server struct {
	opts     Options
	names    cookieNames
	keys     *keyring
	registry registry
	visits   visits
	asked    askedFor
	unlock   func()
}

// New opens the state folder and makes the keys when there are none. [Server.Close] must
// be called.
func New(o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = 100_000
	}
	if o.TTL == 0 {
		o.TTL = 2 * time.Hour
	}
	if o.GuestTTL == 0 {
		o.GuestTTL = min(30*time.Minute, o.TTL)
	}
	if o.Cookie.Name == "" {
		o.Cookie.Name = "guado"
	}
	o.Cookie.Domain = strings.ToLower(o.Cookie.Domain)
	if o.Owner == nil {
		o.Owner = func(string) (string, bool) { return "", false }
	}
	if o.Live == nil {
		o.Live = func(string) bool { return false }
	}
	if o.Changed == nil {
		o.Changed = func(Change) {}
	}
	if o.Ended == nil {
		o.Ended = func(item.Ended) {}
	}
	if o.Met == nil {
		o.Met = func(string) {}
	}
	if o.Touched == nil {
		o.Touched = func(item.Kind, string) {}
	}
	if o.Unasked == nil {
		o.Unasked = func(string) {}
	}
	if o.Clock == nil {
		o.Clock = clock.New()
	}
	unlock, err := Lock(o.Dir)
	if err != nil {
		return nil, err
	}
	keys, err := openKeys(o.Dir, o.Log)
	if err != nil {
		unlock()
		return nil, err
	}
	s := &Server{opts: o, names: namesOf(o.Cookie), keys: keys, unlock: unlock}
	s.registry.init(&s.opts)
	s.visits.init()
	return s, nil
}

// Close ends the timer and lets another server have the folder.
func (s *Server) Close() {
	s.registry.stop()
	s.unlock()
}

// Connection is one browser of a user.
type Connection struct {
	ID    string    `json:"connection"`
	User  string    `json:"user,omitempty"` // empty: a guest
	Flag  string    `json:"flag,omitempty"`
	Since time.Time `json:"since"`
	Seen  time.Time `json:"seen"`

	Address netip.Addr      `json:"address,omitzero"`
	Agent   string          `json:"user_agent,omitempty"`
	Fields  json.RawMessage `json:"fields,omitempty"` // the application's own
}

// User is who is logged in.
type User struct {
	Name        string    `json:"user"`
	Flag        string    `json:"flag,omitempty"`
	Connections int       `json:"connections"`
	Since       time.Time `json:"since"`
	Seen        time.Time `json:"seen"`

	Address netip.Addr      `json:"address,omitzero"`
	Agent   string          `json:"user_agent,omitempty"`
	Fields  json.RawMessage `json:"fields,omitempty"` // the application's own
}

// Find gives a connection by its id.
func (s *Server) Find(id string) (Connection, bool) { return s.registry.get(id) }

// Connections gives all, those seen last first.
func (s *Server) Connections() []Connection { return s.registry.all() }

// Users gives all who are logged in, or were a while ago, those seen last first.
func (s *Server) Users() []User { return s.registry.allUsers() }

// Known tells whose cookie an exchange brings that no step has looked at; ok is false
// without one, and where a trusted proxy names another user than that of the cookie.
func (s *Server) Known(x *exchange.Exchange) (connection, user string, ok bool) {
	f := s.find(x)
	if x.Proxied && f.id != "" {
		if name, said := s.named(x); said && name != f.user {
			return "", "", false
		}
	}
	return f.id, f.user, f.id != ""
}

// Still tells, whenever it is asked, whether the cookie that an exchange brought opens what
// it opened when the exchange came: from the next login or logout on it does not.
func (s *Server) Still(x *exchange.Exchange) func() bool {
	f := s.find(x)
	return func() bool { return s.registry.current(f) }
}

// UnderWay says that an exchange which is not [Server.Known] brings the cookie of before a
// login or logout that has just been: its browser will have the new one in a moment.
func (s *Server) UnderWay(x *exchange.Exchange) bool { return s.find(x).stale }

// Touch gives the connection of an exchange that no step has looked at, and makes one
// when there is none. cookie, unless it is empty, goes into the answer.
func (s *Server) Touch(x *exchange.Exchange) (c Connection, cookie exchange.Field, err error) {
	v := s.begin(x)
	defer s.end(v)
	if p := v.recognize(x); p != nil {
		return Connection{}, exchange.Field{}, p
	}
	if c, err = s.handle(v).Touch(); err != nil {
		return c, cookie, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return c, v.cookieLocked(), nil
}

// Visit gives the exchange under way with this number; nil: there is none.
func (s *Server) Visit(key uint64) *Visit {
	if s.visits.find(key) == nil {
		return nil
	}
	return &Visit{server: s, key: key}
}

// Status is what operators see at a glance.
type Status struct {
	Connections int    `json:"connections"`
	Guests      int    `json:"guests"`
	Users       int    `json:"users"`
	Made        uint64 `json:"made"` // ever
	Logins      uint64 `json:"logins"`
	Logouts     uint64 `json:"logouts"`
	Expired     uint64 `json:"expired"`
	Evicted     uint64 `json:"evicted"` // because there were too many
	Forged      uint64 `json:"forged"`  // cookies with a wrong signature
	Stale       uint64 `json:"stale"`   // requests with a cookie of before a login or logout
}

// Status tells how it is now.
func (s *Server) Status() Status {
	st := s.registry.status()
	st.Forged, st.Stale = s.keys.forged.Load(), s.registry.stale.Load()
	return st
}
