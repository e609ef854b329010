package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/guado-server/guado/internal/statefile"
)

// file is the file of connections. Its first record says when it was written.
var file = statefile.Kind{Name: "guado-connections", Version: 1, Line: 4 << 10}

type savedAt struct {
	Saved time.Time `json:"saved"`
}

type savedConnection struct {
	ID      string    `json:"id"`
	User    string    `json:"user,omitempty"`
	Flag    string    `json:"flag,omitempty"`
	Version uint32    `json:"version"`
	Made    time.Time `json:"made"`
	Seen    time.Time `json:"seen"`
}

// Save writes all connections into the state folder, at once and whole or not at all. It is
// the last thing before the end: nothing changes any more.
func (s *Server) Save() error {
	r := &s.registry
	r.stop()
	r.mu.RLock()
	defer r.mu.RUnlock()
	path := filepath.Join(s.opts.Dir, connectionsFile)
	err := file.Write(path, 1+len(r.byID), func(yield func(any) bool) {
		if !yield(savedAt{time.Now().UTC()}) {
			return
		}
		for _, c := range r.byID {
			if !yield(savedConnection{
				ID: c.id, User: c.user, Flag: c.flag, Version: c.version,
				Made: c.made.UTC(), Seen: time.Unix(0, c.seen.Load()).UTC(),
			}) {
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
// that cannot be used is put aside.
func (s *Server) Restore() error {
	var at savedAt
	var list []savedConnection
	err := file.Take(filepath.Join(s.opts.Dir, connectionsFile), func(line []byte) error {
		if at.Saved.IsZero() {
			if err := json.Unmarshal(line, &at); err != nil || at.Saved.IsZero() {
				return errors.Join(errors.New("the first record does not say when it was written"), err)
			}
			return nil
		}
		c, err := readConnection(line)
		list = append(list, c)
		return err
	})
	if err != nil {
		return fmt.Errorf("restore connections: %w; users must log in again", err)
	}
	away := time.Since(at.Saved) // of the server, which is not held against its users
	r := &s.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range list {
		c := &connection{id: k.ID, made: k.Made, user: k.User, flag: k.Flag, version: k.Version}
		c.seen.Store(k.Seen.Add(max(away, 0)).UnixNano())
		r.enterLocked(c)
	}
	return nil
}

func readConnection(line []byte) (c savedConnection, err error) {
	if err := json.Unmarshal(line, &c); err != nil {
		return c, err
	}
	if base, _, err := ParseID(c.ID); err != nil || base != c.ID || c.User != "" && !isUser(c.User) {
		return c, fmt.Errorf("connection %q of user %q", c.ID, c.User)
	}
	return c, nil
}
