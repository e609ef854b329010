package replay

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/guado-server/guado/internal/statefile"
)

// file is that of answers in server.state_dir; a line is an answer.
var file = statefile.Kind{Name: "guado-answers", Version: 1}

const fileName = "answers"

// Saved is a request that was done, as it is kept over a stop.
type Saved struct {
	Key    []byte        `json:"key"`
	Left   time.Duration `json:"left"` // of its time
	Finger finger        `json:"finger"`
	Answer *Answer       `json:"answer,omitempty"`
	Why    string        `json:"why,omitempty"`
}

// Snapshot is all requests that were done, those first that were answered first. Those under
// way are none of them, but for those of which some is kept.
func (s *Store) Snapshot() []Saved {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireLocked()
	out := make([]Saved, 0, len(s.entries))
	for at := s.done.Front(); at != nil; at = at.Next() {
		e := at.Value.(*entry)
		out = append(out, Saved{e.id[:], s.opts.TTL - (s.opts.Clock.Now() - e.since), e.finger, e.answer, e.why})
	}
	for _, e := range s.entries {
		if e.at == nil && e.committed {
			out = append(out, Saved{Key: e.id[:], Left: s.opts.TTL, Why: whyLost})
		}
	}
	return out
}

// Restore takes one of them back.
func (s *Store) Restore(one Saved) error {
	if len(one.Key) != sha256.Size || one.Answer == nil && one.Why != whyLong && one.Why != whyLost || one.Left > s.opts.TTL || one.Left < 0 {
		return fmt.Errorf("an answer of before, under the key %.8x, is none", one.Key)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &entry{id: id(one.Key), since: s.opts.Clock.Now() - (s.opts.TTL - one.Left), finger: one.Finger, answer: one.Answer, why: one.Why}
	e.bytes = e.answer.size()
	if old := s.entries[e.id]; old != nil {
		if old.at == nil {
			return nil // it is under way again
		}
		s.forgetLocked(old)
	}
	s.entries[e.id] = e
	e.at = s.done.PushBack(e)
	s.bytes += e.bytes
	s.tellLocked(e)
	s.boundLocked()
	return nil
}

// Save writes them into a file of a folder; nothing, where there are none.
func (s *Store) Save(dir string) error {
	all := s.Snapshot()
	if len(all) == 0 {
		return nil
	}
	path := filepath.Join(dir, fileName)
	err := file.Write(path, len(all), func(yield func(any) bool) {
		for i := range all {
			if !yield(&all[i]) {
				return
			}
		}
	})
	if err != nil {
		return fmt.Errorf("save answers to %s: %w; requests that come again after the start are done again", path, err)
	}
	return nil
}

// Load takes back what Save has written, and removes the file. No file is no error.
func (s *Store) Load(dir string) error {
	path := filepath.Join(dir, fileName)
	var all []Saved
	err := file.Take(path, func(line []byte) error {
		var one Saved
		if err := json.Unmarshal(line, &one); err != nil {
			return err
		}
		all = append(all, one)
		return nil
	})
	for i := range all {
		if !statefile.Lossy(err) {
			break
		}
		err = errors.Join(err, s.Restore(all[i]))
	}
	if err != nil {
		return fmt.Errorf("restore answers: %w; requests that come again are done again", err)
	}
	return nil
}
