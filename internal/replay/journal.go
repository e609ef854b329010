package replay

import (
	"encoding/json"
	"fmt"
)

// Kept is a request that was done, as a log keeps it.
type Kept struct {
	ID   string // of the key
	Data []byte // nil: it is forgotten
}

// Journal sets who is told of every request that was done and is forgotten, but for those that
// went with a commit by [exchange.Once]. It is called under a lock and must not wait.
func (s *Store) Journal(tell func(Kept)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.journal = tell
}

// Rewrite has the journal told of a request as it is now.
func (s *Store) Rewrite(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(key) != len(id{}) || s.journal == nil {
		return
	}
	if e := s.entries[id([]byte(key))]; e != nil && (e.at != nil || e.sealed != nil) {
		s.tellLocked(e)
	} else {
		s.journal(Kept{ID: key})
	}
}

// Recover takes back what the journal was told.
func (s *Store) Recover(data []byte) error {
	var one Saved
	if err := json.Unmarshal(data, &one); err != nil {
		return fmt.Errorf("an answer of before: %w", err)
	}
	return s.Restore(one)
}

// Lose remembers that a request was done whose answer cannot be read any more: one that comes
// again under its key, the ID of what the journal was told, is refused.
func (s *Store) Lose(key string) error {
	return s.Restore(Saved{Key: []byte(key), Left: s.opts.TTL, Why: whyLost})
}

// seal notes how a request is to be remembered from the commit on that is being applied, and
// gives it for the log; nil: nobody keeps one.
func (s *Store) seal(e *entry, f finger, a *Answer, why string) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journal == nil || s.entries[e.id] != e {
		return nil
	}
	e.sealed = &Saved{Key: e.id[:], Left: s.opts.TTL, Finger: f, Answer: a, Why: why}
	e.logged = true
	return kept(e.sealed)
}

func kept(one *Saved) Kept {
	data, err := json.Marshal(one)
	if err != nil {
		panic(err) // it has nothing that JSON has not
	}
	return Kept{string(one.Key), data}
}

func (s *Store) tellLocked(e *entry) {
	if s.journal == nil {
		return
	}
	one := e.sealed
	if one == nil || e.at != nil {
		one = &Saved{Key: e.id[:], Left: s.opts.TTL - (s.opts.Clock.Now() - e.since), Finger: e.finger, Answer: e.answer, Why: e.why}
	}
	e.logged = true
	s.journal(kept(one))
}

func (s *Store) untellLocked(e *entry) {
	if s.journal != nil {
		s.journal(Kept{ID: string(e.id[:])})
	}
}
