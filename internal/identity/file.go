package identity

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// saved is the file of connections: a line of JSON, and a line with its checksum.
type saved struct {
	Format      string            `json:"format"`
	Version     int               `json:"version"`
	Saved       time.Time         `json:"saved"`
	Connections []savedConnection `json:"connections"`
}

type savedConnection struct {
	ID      string    `json:"id"`
	User    string    `json:"user,omitempty"`
	Flag    string    `json:"flag,omitempty"`
	Version uint32    `json:"version"`
	Made    time.Time `json:"made"`
	Seen    time.Time `json:"seen"`
}

const (
	savedFormat  = "guado-connections"
	savedVersion = 1
)

var errDamaged = errors.New("the file of connections is damaged")

// Save writes all connections into the state folder, at once and whole or not at all. It is
// the last thing before the end: nothing changes any more.
func (s *Server) Save() error {
	r := &s.registry
	r.stop()
	out := saved{Format: savedFormat, Version: savedVersion, Saved: time.Now().UTC(), Connections: []savedConnection{}}
	r.mu.RLock()
	for _, c := range r.byID {
		out.Connections = append(out.Connections, savedConnection{
			ID: c.id, User: c.user, Flag: c.flag, Version: c.version,
			Made: c.made.UTC(), Seen: time.Unix(0, c.seen.Load()).UTC(),
		})
	}
	r.mu.RUnlock()
	text, err := json.Marshal(out)
	if err != nil {
		return fmt.Errorf("save connections: %w", err)
	}
	sum := sha256.Sum256(text)
	path := filepath.Join(s.opts.Dir, connectionsFile)
	if err := writeFile(path, func(f *os.File) error {
		_, err := fmt.Fprintf(f, "%s\nsha256 %s\n", text, hex.EncodeToString(sum[:]))
		return err
	}); err != nil {
		return fmt.Errorf("save connections to %s: %w; users must log in again after the start", path, err)
	}
	return nil
}

// Restore takes the connections that Save has written and removes the file: read again
// after a crash it would bring back who has logged out meanwhile. No file is no error. A
// damaged one is put aside under a name ending in ".damaged".
func (s *Server) Restore() error {
	path := filepath.Join(s.opts.Dir, connectionsFile)
	in, err := readConnections(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		// Whatever is wrong with it, it must not be read at another start.
		return fmt.Errorf("restore connections: %w; %s is put aside, and users must log in again", errors.Join(err, os.Rename(path, path+".damaged")), path)
	}
	if err := errors.Join(os.Remove(path), syncFolder(s.opts.Dir)); err != nil {
		return fmt.Errorf("restore connections: the file must be removed first: %w", err)
	}
	away := time.Since(in.Saved) // of the server, which is not held against its users
	r := &s.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range in.Connections {
		c := &connection{id: k.ID, made: k.Made, user: k.User, flag: k.Flag, version: k.Version}
		c.seen.Store(k.Seen.Add(max(away, 0)).UnixNano())
		r.enterLocked(c)
	}
	return nil
}

// readConnections checks the whole file before it gives anything of it.
func readConnections(path string) (*saved, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	line, rest, _ := bytes.Cut(text, []byte{'\n'})
	sum := sha256.Sum256(line)
	end, _, err := bufio.NewReader(bytes.NewReader(rest)).ReadLine()
	if err != nil || string(end) != "sha256 "+hex.EncodeToString(sum[:]) {
		return nil, fmt.Errorf("%w: its checksum is wrong", errDamaged)
	}
	in := &saved{}
	if err := json.Unmarshal(line, in); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if in.Format != savedFormat || in.Version != savedVersion {
		return nil, fmt.Errorf("it is %s of version %d; this Guado reads version %d", in.Format, in.Version, savedVersion)
	}
	for _, c := range in.Connections {
		if base, _, err := ParseID(c.ID); err != nil || base != c.ID || c.User != "" && !isUser(c.User) {
			return nil, fmt.Errorf("%w: connection %q of user %q", errDamaged, c.ID, c.User)
		}
	}
	return in, nil
}
