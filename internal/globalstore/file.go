package globalstore

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/guado-server/guado/internal/statefile"
)

// fileKind is what a graceful stop leaves. A value may be as large as a call.
var fileKind = statefile.Kind{Name: "guado-global", Version: 1}

// saved is one line: the number of the last update, then each leaf, dict that is empty, and
// dict with an end.
type saved struct {
	Number uint64          `json:"number,omitempty"`
	Path   Path            `json:"path,omitempty"`
	Value  json.RawMessage `json:"value,omitempty"` // none: a dict
	TTL    int64           `json:"ttl_ms,omitempty"`
}

func file(dir string) string { return filepath.Join(dir, "global") }

// Save writes all that there is into a folder. What ends by itself has then as much time as it
// has now: a stop takes none of it.
func (s *Store) Save(dir string) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	lines := []saved{{Number: s.number}}
	s.root.save(&lines, nil, s.o.Clock.Now())
	err := fileKind.Write(file(dir), len(lines), func(yield func(any) bool) {
		for i := range lines {
			if !yield(&lines[i]) {
				return
			}
		}
	})
	if err != nil {
		return fmt.Errorf("the global store: %w", err)
	}
	return nil
}

func (n *node) save(lines *[]saved, p Path, now time.Duration) {
	for _, c := range n.children() {
		at := append(slices.Clone(p), c.key)
		line := saved{Path: at, Value: c.leaf}
		if c.end != nil {
			line.TTL = max(1, (c.end.at - now).Milliseconds())
		}
		if !c.isDict() || len(c.below) == 0 || c.end != nil {
			*lines = append(*lines, line)
		}
		c.save(lines, at, now)
	}
}

// Restore takes what a stop has left in a folder, before anybody has joined or written. It
// tells how many leaves that was.
func (s *Store) Restore(dir string) (leaves int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := &Store{o: s.o, root: newDict()}
	err = fileKind.Take(file(dir), func(text []byte) error {
		var line saved
		if err := json.Unmarshal(text, &line); err != nil {
			return err
		}
		return next.load(&line)
	})
	if err != nil {
		err = fmt.Errorf("the global store: %w", err)
	}
	if !statefile.Lossy(err) {
		return 0, err
	}
	s.root, s.bytes, s.leaves, s.number, s.serial, s.ends = next.root, next.bytes, next.leaves, next.number, next.serial, next.ends
	s.armLocked()
	return s.leaves, err
}

func (s *Store) load(line *saved) error {
	if line.Path == nil {
		s.number = line.Number
		return nil
	}
	if err := line.Path.Check(); err != nil {
		return err
	}
	v := Value{dict: true}
	if line.Value != nil {
		var err error
		if v.leaf, err = exact(line.Value); err != nil {
			return err
		}
		v.dict = false
	}
	e := &edit{s: s}
	return e.put(line.Path, v, time.Duration(line.TTL)*time.Millisecond, true)
}
