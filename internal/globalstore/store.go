// Package globalstore keeps the one dictionary that all workers of a host share: paths of keys,
// leaves that it does not read, counters, and keys that end by themselves.
// Before it: the verbs and the admin interface, as the root package registers them. After it:
// the links, over which every worker keeps a copy (protocol/link.md, section 15).
// Not here: stores of pages, connections and users (mirror), what a value means to Python.
package globalstore

import (
	"container/heap"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/guado-server/guado/internal/clock"
)

// Limits bound what is kept; what makes the store smaller is never refused.
type Limits struct {
	Store int64 // bytes of the account (protocol/store.md, section 5)
	Value int64 // bytes of one value as JSON, before anything is made of it
}

// Options of a store.
type Options struct {
	Limits func() Limits // asked for at each write
	Clock  *clock.Clock  // nil: one of its own
	Log    *slog.Logger
	// Touched is told of the id of each node that was changed, made or taken away: who keeps them
	// asks [Store.Describe]. It is called under the store's locks and must not wait; nil: nobody
	// wants to know.
	Touched func(id string)
}

// What can be wrong with a write; nothing of it has been done.
var (
	ErrFull      = errors.New("the global store is full (global.limit)")
	ErrTooBig    = errors.New("the value is larger than one of the global store may be (global.value)")
	ErrNotDict   = errors.New("a key on the way holds a value, and can have none below it; delete it first")
	ErrNoCounter = errors.New("the path holds something else than a whole number")
	ErrClosed    = errors.New("the host is stopping")
)

// Replica is a worker's link. Global does not wait.
type Replica interface {
	Global(update []byte) error
}

// Store is the global store. Its methods may be called from any goroutine.
type Store struct {
	o Options

	// order is held while a write is made and queued to all replicas: memory operations, and
	// the wake-ups of workers. It guards replicas.
	order    sync.Mutex
	replicas map[Replica]struct{}

	mu      sync.RWMutex // guards the rest, and all nodes; taken under order where something is changed
	root    *node
	bytes   int64
	leaves  int
	number  uint64 // of the last update
	serial  uint64 // of the node that was made last
	expired uint64
	ends    ends
	timer   *clock.Timer // of the first of ends
	armed   *end         // for which it goes off; nil: it does not
	closed  bool
}

// New makes an empty store. [Store.Close] must be called.
func New(o Options) *Store {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = clock.New()
	}
	s := &Store{o: o, replicas: map[Replica]struct{}{}, root: newDict()}
	s.timer = o.Clock.AfterFunc(s.expire)
	return s
}

// Close ends the store's timer and refuses writes from then on.
func (s *Store) Close() {
	s.order.Lock()
	defer s.order.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.armLocked()
}

// Join sends a replica all that there is, and from then on every update.
func (s *Store) Join(r Replica) error {
	s.order.Lock()
	defer s.order.Unlock()
	s.mu.RLock()
	text := s.snapshotLocked()
	s.mu.RUnlock()
	if err := r.Global(text); err != nil {
		return err
	}
	s.replicas[r] = struct{}{}
	return nil
}

// Leave takes a replica away: its link has ended.
func (s *Store) Leave(r Replica) {
	s.order.Lock()
	defer s.order.Unlock()
	delete(s.replicas, r)
}

// Path is where something is: its keys, the root's first.
type Path []string

// Bounds of a path; those of protocol/store.md, section 2.
const (
	mostKeys = 32
	mostKey  = 512
)

// Get gives the value at a path as JSON; false: there is none.
func (s *Store) Get(p Path) (value []byte, number uint64, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n := s.findLocked(p)
	if n == nil {
		return nil, s.number, false
	}
	return n.json(nil), s.number, true
}

func (s *Store) findLocked(p Path) *node {
	n := s.root
	for _, key := range p {
		if n = n.below[key]; n == nil {
			return nil
		}
	}
	return n
}

// Set puts a value at a path, in place of whatever is there. ttl: it ends after that time; 0:
// it stays.
func (s *Store) Set(p Path, v Value, ttl time.Duration) (number uint64, err error) {
	err = s.write(func(e *edit) error { return e.put(p, v, ttl, true) }, &number)
	return number, err
}

// Delete takes a path away with all below it; the empty path: everything. false: there was
// nothing.
func (s *Store) Delete(p Path) (was bool, number uint64, err error) {
	err = s.write(func(e *edit) error {
		was = e.remove(p)
		return nil
	}, &number)
	return was, number, err
}

// Compare puts a value at a path if the one there is `before`. A nil one is none: then there
// must be nothing, or nothing is left.
func (s *Store) Compare(p Path, before, after *Value, ttl time.Duration) (done bool, number uint64, err error) {
	err = s.write(func(e *edit) error {
		n := s.findLocked(p)
		switch {
		case before == nil && n != nil, before != nil && (n == nil || !n.equals(before)):
			return nil
		case after == nil:
			e.remove(p)
		default:
			if err := e.put(p, *after, ttl, true); err != nil {
				return err
			}
		}
		done = true
		return nil
	}, &number)
	return done, number, err
}

// Default puts a value at a path where there is none, and gives the one that is there then.
func (s *Store) Default(p Path, v Value, ttl time.Duration) (made bool, value []byte, number uint64, err error) {
	err = s.write(func(e *edit) error {
		if n := s.findLocked(p); n != nil {
			value = n.json(nil)
			return nil
		}
		if err := e.put(p, v, ttl, true); err != nil {
			return err
		}
		made, value = true, s.findLocked(p).json(nil)
		return nil
	}, &number)
	return made, value, number, err
}

// Add adds to the whole number at a path, which is 0 where there is none, and gives the sum.
// ttl counts from the first addition: later ones do not make it longer.
func (s *Store) Add(p Path, by string, ttl time.Duration) (sum []byte, number uint64, err error) {
	err = s.write(func(e *edit) error {
		n := s.findLocked(p)
		before := []byte("0")
		if n != nil {
			if n.isDict() {
				return ErrNoCounter
			}
			before = n.leaf
		}
		if sum, err = addNumbers(before, []byte(by)); err != nil {
			return err
		}
		return e.put(p, Value{leaf: sum}, ttl, n == nil)
	}, &number)
	return sum, number, err
}

// write makes one change and queues it to every replica before it returns.
func (s *Store) write(change func(*edit) error, number *uint64) error {
	s.order.Lock()
	defer s.order.Unlock()
	s.mu.Lock()
	e := &edit{s: s, limits: s.o.Limits()}
	err := ErrClosed
	if !s.closed {
		err = change(e)
	}
	text := e.updateLocked()
	*number = s.number
	s.armLocked()
	s.mu.Unlock()
	s.tell(text)
	return err
}

// tell queues an update to all replicas. order is held.
func (s *Store) tell(update []byte) {
	if update == nil {
		return
	}
	for r := range s.replicas {
		if r.Global(update) != nil { // its link has ended, or ends now
			delete(s.replicas, r)
		}
	}
}

// edit is one change on its way. s.mu is held.
type edit struct {
	s       *Store
	limits  Limits
	records []byte
}

// updateLocked numbers what was changed; nil: nothing was.
func (e *edit) updateLocked() []byte {
	if e.records == nil {
		return nil
	}
	e.s.number++
	return append(head(updateKind, e.s.number), e.records...)
}

// put makes a value of what is at a path. renew: its end is that of ttl; else it keeps its own.
func (e *edit) put(p Path, v Value, ttl time.Duration, renew bool) error {
	s := e.s
	if e.limits.Value > 0 && v.size > e.limits.Value {
		return fmt.Errorf("%w: it has %d bytes", ErrTooBig, v.size)
	}
	if err := v.fits(p); err != nil {
		return err
	}
	at, missing, err := s.wayLocked(p)
	if err != nil {
		return err
	}
	key := p[len(p)-1]
	var old *node
	if len(missing) == 0 {
		old = at.below[key]
	}
	more := v.cost(key) - old.cost()
	for _, k := range missing {
		more += costOf(k)
	}
	if e.limits.Store > 0 && more > 0 && s.bytes+more > e.limits.Store {
		return fmt.Errorf("%w: it has %d bytes, and this needs %d more", ErrFull, s.bytes, more)
	}
	s.bytes += more
	s.touchedLocked(old, p)
	if s.o.Touched != nil && len(p) > 1 {
		s.o.Touched(p[:len(p)-1].id()) // it may have been empty
	}
	for i, k := range missing {
		at = s.plantLocked(at, k, Value{dict: true})
		if s.o.Touched != nil && i == 0 && len(p) > len(missing)+1 {
			s.o.Touched(p[:len(p)-len(missing)-1].id())
		}
	}
	n := s.plantLocked(at, key, v)
	if old != nil {
		n.serial = old.serial // its place among its sisters
		if !renew && old.end != nil {
			n.end, old.end = old.end, nil
			n.end.node = n
		}
		s.forgetLocked(old)
	}
	if renew && ttl > 0 {
		s.endLocked(n, ttl)
	}
	e.records = n.records(e.records, p)
	s.touchedLocked(n, p)
	return nil
}

// wayLocked finds the dict that has, or is to have, the last key of a path, and the keys of
// dicts that are missing before it.
func (s *Store) wayLocked(p Path) (at *node, missing []string, err error) {
	at = s.root
	for i, key := range p[:len(p)-1] {
		next := at.below[key]
		if next == nil {
			return at, p[i : len(p)-1], nil
		}
		if !next.isDict() {
			return nil, nil, fmt.Errorf("%w: %q", ErrNotDict, key)
		}
		at = next
	}
	return at, nil, nil
}

// plantLocked makes a value the node at a key.
func (s *Store) plantLocked(up *node, key string, v Value) *node {
	s.serial++
	n := &node{up: up, key: key, serial: s.serial, leaf: v.leaf}
	if v.dict {
		n.below = make(map[string]*node, len(v.below))
		for _, c := range v.below {
			s.plantLocked(n, c.key, c.value)
		}
	} else {
		s.leaves++
	}
	up.below[key] = n
	return n
}

// remove takes a path away; false: there is nothing.
func (e *edit) remove(p Path) bool {
	s := e.s
	if len(p) == 0 {
		if len(s.root.below) == 0 {
			return false
		}
		s.touchedLocked(s.root, nil)
		s.forgetLocked(s.root)
		s.root, s.bytes = newDict(), 0
		e.records = appendPath(append(e.records, opClear), nil)
		return true
	}
	n := s.findLocked(p)
	if n == nil {
		return false
	}
	s.bytes -= n.cost()
	s.touchedLocked(n, p)
	if s.o.Touched != nil && len(p) > 1 {
		s.o.Touched(p[:len(p)-1].id()) // it may be empty now
	}
	s.forgetLocked(n)
	delete(n.up.below, n.key)
	e.records = appendPath(append(e.records, opDelete), p)
	return true
}

// forgetLocked counts leaves that are gone and takes back their ends.
func (s *Store) forgetLocked(n *node) {
	if n.end != nil {
		heap.Remove(&s.ends, n.end.index)
		n.end = nil
	}
	if !n.isDict() {
		s.leaves--
		return
	}
	for _, c := range n.below {
		s.forgetLocked(c)
	}
}
