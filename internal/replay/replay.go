// Package replay sees to it that a request is done once, however often its client sends it: it
// keeps the answer under the Idempotency-Key that the request had, and gives it again.
// Before it: identity, which says whose the request is. After it: the application; the reader
// of its link, which says what of it is real.
// Not here: messages of pages, whose numbers the session counts (internal/push).
package replay

import (
	"container/list"
	"crypto/sha256"
	"log/slog"
	"sync"
	"time"

	"github.com/guado-server/guado/internal/clock"
	"github.com/guado-server/guado/internal/exchange"
)

// Options bound what is kept.
type Options struct {
	TTL    time.Duration // from the answer on
	Count  int           // keys; over it the oldest are forgotten
	Bytes  int64         // of answers; over it the oldest are dropped, and their keys stay
	Answer int64         // the longest one, its fields included
	Clock  *clock.Clock
	Log    *slog.Logger

	// Wait returns when all that was done so far is kept; nil: nobody keeps it beyond the host.
	Wait func() error
	// Decode reads the payload of an answer, as [exchange.Once] has it.
	Decode func(payload []byte, fields []exchange.Field) (exchange.Head, []byte, error)
}

// Store is the keys that were used, and the answers. Its methods may be called from any
// goroutine.
type Store struct {
	opts Options

	mu      sync.Mutex // guards all below; held for memory operations only
	entries map[id]*entry
	done    *list.List // of *entry, those first that were answered first
	bytes   int64
	count   Status
	journal func(Kept) // nil: nobody keeps one
}

// id is a key and all that it is bound to.
type id [sha256.Size]byte

// entry is a request that is under way, or was done. Guarded by Store.mu.
type entry struct {
	id        id
	committed bool          // some of what it did is kept
	at        *list.Element // nil: it is under way
	since     time.Duration // it was answered
	finger    finger
	answer    *Answer // nil: it is not kept, for
	why       string  // this reason
	bytes     int64
	sealed    *Saved // it goes to the log with the commit that is being applied
	logged    bool   // the log has it as it is
}

// Why there is no answer.
const (
	whyLong = "long" // it was done, and its answer was too long
	whyLost = "lost" // it was done, or some of it, and its answer is not known
)

// Status is how the keys are.
type Status struct {
	Keys     int    `json:"keys"`     // that were used and are remembered
	Running  int    `json:"running"`  // of them: requests under way
	Bytes    int64  `json:"bytes"`    // of answers
	Answered uint64 `json:"answered"` // requests with a key that were done
	Replayed uint64 `json:"replayed"` // that got the answer of before
	Busy     uint64 `json:"busy"`     // that were refused: the first one was under way
	Other    uint64 `json:"other"`    // that were refused: they were other requests than the first
	Bad      uint64 `json:"bad"`      // that were refused: no key, or none that could be
	Without  uint64 `json:"without"`  // that were refused: there is no answer
	NotKept  uint64 `json:"not_kept"` // answers that were too long
	Lost     uint64 `json:"lost"`     // requests that were done, or some of it, and had no answer
	Released uint64 `json:"released"` // requests of which nothing was done
	Dropped  uint64 `json:"dropped"`  // keys and answers that went before their time, for want of room
}

// New makes a store that is empty.
func New(o Options) *Store {
	return &Store{opts: o, entries: map[id]*entry{}, done: list.New()}
}

// Status tells how it is now.
func (s *Store) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireLocked()
	st := s.count
	st.Keys, st.Bytes = len(s.entries), s.bytes
	for _, e := range s.entries {
		if e.at == nil {
			st.Running++
		}
	}
	return st
}

// counted adds to what is counted.
func (s *Store) counted(add func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	add(&s.count)
}

// begin gives the entry of a key; first: it was not there, and is the caller's.
func (s *Store) begin(key id) (e *entry, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireLocked()
	if e = s.entries[key]; e != nil {
		return e, false
	}
	e = &entry{id: key}
	s.entries[key] = e
	return e, true
}

// told is what a request hears that is not the first one.
type told struct {
	running bool
	finger  finger
	answer  *Answer
	why     string
}

func (s *Store) told(e *entry) told {
	s.mu.Lock()
	defer s.mu.Unlock()
	return told{e.at == nil, e.finger, e.answer, e.why}
}

// keep remembers how a request was answered. What was told of it before counts less, unless
// that was an answer of the application's own.
func (s *Store) keep(e *entry, f finger, a *Answer, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[e.id] != e {
		return
	}
	if e.at == nil {
		s.count.Answered++
		e.since = s.opts.Clock.Now()
		e.at = s.done.PushBack(e)
	} else if a == nil || e.answer != nil && e.answer.Code == "" {
		e.finger = f // more of its body may have been read since
		return
	}
	s.bytes -= e.bytes
	e.finger, e.answer, e.why, e.bytes = f, a, why, a.size()
	s.bytes += e.bytes
	if e.logged = e.logged && e.sealed != nil && e.sealed.Answer.size() == e.bytes && e.sealed.Why == why; !e.logged {
		s.tellLocked(e)
	}
	e.sealed = nil
	switch why {
	case whyLong:
		s.count.NotKept++
	case whyLost:
		s.count.Lost++
	}
	s.boundLocked()
}

// release forgets a key: nothing was done, and the next request that has it is the first one.
func (s *Store) release(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[e.id] == e && e.at == nil {
		if e.logged {
			s.untellLocked(e)
		}
		delete(s.entries, e.id)
		s.count.Released++
	}
}

// commit notes that it was done, or some of it.
func (s *Store) commit(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.committed = true
}

func (s *Store) committed(e *entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.committed
}

// expireLocked forgets those whose time is over.
func (s *Store) expireLocked() {
	now := s.opts.Clock.Now()
	for at := s.done.Front(); at != nil && now-at.Value.(*entry).since >= s.opts.TTL; at = s.done.Front() {
		s.forgetLocked(at.Value.(*entry))
	}
}

func (s *Store) forgetLocked(e *entry) {
	s.done.Remove(e.at)
	s.bytes -= e.bytes
	delete(s.entries, e.id)
	s.untellLocked(e)
}

// boundLocked makes room. An answer goes before its key does: who has the key of a request
// that was done must never do it again.
func (s *Store) boundLocked() {
	for s.done.Len() > s.opts.Count {
		s.forgetLocked(s.done.Front().Value.(*entry))
		s.count.Dropped++
	}
	for at := s.done.Front(); at != nil && s.bytes > s.opts.Bytes; at = at.Next() {
		e := at.Value.(*entry)
		if e.answer == nil {
			continue
		}
		s.bytes -= e.bytes
		e.answer, e.why, e.bytes = nil, whyLong, 0
		s.count.Dropped++
		s.tellLocked(e)
	}
}
