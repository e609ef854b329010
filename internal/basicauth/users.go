package basicauth

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// lookEvery is how often the file is looked at, at most, and only when somebody asks.
const lookEvery = time.Second

// users is an htpasswd file: lines of NAME:HASH. Only bcrypt is taken; what else the
// format has seen (crypt, MD5, SHA-1) can be guessed too fast.
type users struct {
	path string
	log  *slog.Logger

	mu     sync.Mutex // guards the rest, and is held while the file is read
	hashes map[string][]byte
	nobody []byte // the hash that unknown names are checked against
	seen   stamp
	looked time.Time
}

// stamp tells versions of the file apart.
type stamp struct {
	time time.Time
	size int64
}

func stampOf(info fs.FileInfo) stamp { return stamp{info.ModTime(), info.Size()} }

func openUsers(path string, log *slog.Logger) (*users, error) {
	u := &users{path: path, log: log, looked: time.Now()}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("password file: %w", err)
	}
	u.seen = stampOf(info)
	return u, u.read()
}

// find gives the hash of a name, or one that no password has; it reads the file again
// when it has changed.
func (u *users) find(name string) (hash []byte, known bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now := time.Now(); now.Sub(u.looked) >= lookEvery {
		u.looked = now
		u.look()
	}
	if hash, known = u.hashes[name]; known {
		return hash, true
	}
	return u.nobody, false
}

// look reads the file if it is another one. What cannot be used leaves the old users in
// force: an editor that is just writing must not lock everybody out.
func (u *users) look() {
	info, err := os.Stat(u.path)
	if err == nil {
		if stampOf(info) == u.seen {
			return
		}
		u.seen = stampOf(info)
		err = u.read()
	} else if u.seen == (stamp{}) {
		return // said before
	} else {
		u.seen = stamp{}
	}
	if err != nil {
		u.log.Error("the password file cannot be used; the users of before stay", "file", u.path, "error", err)
	}
}

func (u *users) read() error {
	text, err := os.ReadFile(u.path)
	if err != nil {
		return fmt.Errorf("password file: %w", err)
	}
	hashes, nobody, err := load(text)
	if err != nil {
		return fmt.Errorf("password file %s: %w", u.path, err)
	}
	u.hashes, u.nobody = hashes, nobody
	return nil
}

// load also makes the hash that unknown names are checked against; it costs as much as
// those of the file.
func load(text []byte) (hashes map[string][]byte, nobody []byte, err error) {
	hashes, cost, err := parse(text)
	if err == nil {
		nobody, err = bcrypt.GenerateFromPassword([]byte(rand.Text()), cost)
	}
	return hashes, nobody, err
}

// parse also gives the cost that the hashes have; of several the highest.
func parse(text []byte) (hashes map[string][]byte, cost int, err error) {
	hashes = map[string][]byte{}
	number := 0
	for line := range bytes.Lines(text) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		name, rest, ok := strings.Cut(string(line), ":")
		if !ok || name == "" {
			return nil, 0, fmt.Errorf("line %d is not NAME:HASH", number)
		}
		hash, _, _ := strings.Cut(rest, ":")
		own, err := bcrypt.Cost([]byte(hash))
		switch {
		case err != nil:
			return nil, 0, fmt.Errorf("line %d: the hash of %q is not bcrypt's; make it with: htpasswd -B", number, name)
		case hashes[name] != nil:
			return nil, 0, fmt.Errorf("line %d: %q is there twice", number, name)
		}
		hashes[name] = []byte(hash)
		cost = max(cost, own)
	}
	if len(hashes) == 0 {
		return nil, 0, errors.New("it names no user, so nobody could come in")
	}
	return hashes, cost, nil
}
