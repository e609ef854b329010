package identity

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/guado-server/guado/internal/item"
	"github.com/guado-server/guado/internal/statefile"
)

// file is the file of connections. Its first record says when it was written.
var file = statefile.Kind{Name: "guado-connections", Version: 1}

type savedAt struct {
	Saved time.Time `json:"saved"`
}

// saved is a connection, or a user where it has no id.
type saved struct {
	ID      string          `json:"id,omitempty"`
	User    string          `json:"user,omitempty"`
	Flag    string          `json:"flag,omitempty"`
	Version uint32          `json:"version,omitempty"`
	Given   bool            `json:"given,omitempty"`
	Made    time.Time       `json:"made"`
	Seen    time.Time       `json:"seen"`
	Address netip.Addr      `json:"address,omitzero"`
	Agent   string          `json:"agent,omitempty"`
	Fields  json.RawMessage `json:"fields,omitempty"`
}

func (v *saved) meta() item.Meta {
	return item.Meta{Address: v.Address, Agent: item.NewAgent([]byte(v.Agent)), Fields: v.Fields}
}

// Save writes all connections into the state folder, at once and whole or not at all. It is
// the last thing before the end: nothing changes any more.
func (s *Server) Save() error {
	s.registry.stop()
	return s.Copy()
}

// Copy writes them while they are in use.
func (s *Server) Copy() error {
	r := &s.registry
	r.mu.RLock()
	defer r.mu.RUnlock()
	path := filepath.Join(s.opts.Dir, connectionsFile)
	err := file.Write(path, 1+len(r.users)+len(r.byID), func(yield func(any) bool) {
		if !yield(savedAt{time.Now().UTC()}) {
			return
		}
		for _, u := range r.users {
			if !yield(s.savedUser(u)) {
				return
			}
		}
		for _, c := range r.byID {
			if !yield(s.savedConnection(c)) {
				return
			}
		}
	})
	if err != nil {
		return fmt.Errorf("save connections to %s: %w; users must log in again after the start", path, err)
	}
	return nil
}

// Restore takes the connections that Save has written and removes the file: read again
// after a crash it would bring back who has logged out meanwhile. No file is no error. One
// that is damaged is put aside; connections of which it is whole are there all the same.
func (s *Server) Restore() error {
	var at savedAt
	var list []saved
	err := file.Take(filepath.Join(s.opts.Dir, connectionsFile), func(line []byte) error {
		var when savedAt
		if json.Unmarshal(line, &when) == nil && !when.Saved.IsZero() {
			at = when
			return nil
		}
		c, err := readConnection(line)
		if err == nil {
			list = append(list, c)
		}
		return err
	})
	if statefile.Lossy(err) {
		s.load(list, at.Saved)
	}
	if err != nil {
		return fmt.Errorf("restore connections: %w; users whose connection is gone must log in again", err)
	}
	return nil
}

func (s *Server) savedUser(u *user) saved {
	return saved{
		User: u.name, Made: u.made.UTC(), Seen: s.wall(int64(u.idle)),
		Address: u.meta.Address, Agent: u.meta.Agent, Fields: u.meta.Fields,
	}
}

func (s *Server) savedConnection(c *connection) saved {
	return saved{
		ID: c.id, User: c.name(), Flag: c.flag, Version: c.version, Given: c.given,
		Made: c.made.UTC(), Seen: s.wall(c.seen.Load()),
		Address: c.meta.Address, Agent: c.meta.Agent, Fields: c.meta.Fields,
	}
}

// Describe gives a connection or a user as [Server.Load] takes it; false: there is none.
func (s *Server) Describe(kind item.Kind, id string) (data []byte, ok bool) {
	r := &s.registry
	r.mu.RLock()
	var v saved
	if kind == item.User {
		u := r.users[id]
		if ok = u != nil; ok {
			v = s.savedUser(u)
		}
	} else {
		c := r.byID[id]
		if ok = c != nil; ok {
			v = s.savedConnection(c)
		}
	}
	r.mu.RUnlock()
	if !ok {
		return nil, false
	}
	data, err := json.Marshal(v)
	if err != nil {
		s.opts.Log.Error("a connection or user cannot be written", "id", id, "error", err)
	}
	return data, err == nil
}

// Load takes back what Describe gave until this time, before anybody is asked about; the zero
// time: nobody knows when they were seen last. Those that cannot be read are left out, and
// counted.
func (s *Server) Load(all [][]byte, at time.Time) (lost int) {
	list := make([]saved, 0, len(all))
	for _, data := range all {
		c, err := readConnection(data)
		if err != nil {
			s.opts.Log.Error("a connection or user of before", "error", err)
			lost++
			continue
		}
		list = append(list, c)
	}
	s.load(list, at)
	return lost
}

// load enters connections and users. The time that the server was away is not held against
// them.
func (s *Server) load(list []saved, at time.Time) {
	r := &s.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	since := func(seen time.Time) time.Duration {
		if at.IsZero() {
			return s.opts.Clock.Now()
		}
		return s.opts.Clock.Now() - max(at.Sub(seen), 0)
	}
	for i := range list {
		k := &list[i]
		if k.ID == "" {
			u := r.userLocked(k.User)
			u.made, u.idle, u.meta = k.Made, since(k.Seen), k.meta()
			continue
		}
		c := &connection{id: k.ID, made: k.Made, flag: k.Flag, version: k.Version, given: k.Given, meta: k.meta()}
		c.seen.Store(int64(since(k.Seen)))
		r.enterLocked(c, k.User)
	}
}

func readConnection(line []byte) (c saved, err error) {
	if err := json.Unmarshal(line, &c); err != nil {
		return c, err
	}
	if c.ID == "" && isUser(c.User) {
		return c, nil
	}
	if base, _, err := ParseID(c.ID); err != nil || base != c.ID || c.User != "" && !isUser(c.User) {
		return c, fmt.Errorf("connection %q of user %q", c.ID, c.User)
	}
	return c, nil
}
