package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
)

// Overflow says what happens to a subscriber whose queue is full.
type Overflow string

// The policies.
const (
	DropOldest Overflow = "drop_oldest" // the event that has waited longest is lost
	DropNewest Overflow = "drop_newest" // the event that comes is lost
	Cut        Overflow = "close"       // it leaves, and is told so
)

// maxPatterns bounds the patterns of one subscriber.
const maxPatterns = 256

// Options of a subscriber.
type Options struct {
	Name     string // for the log
	Queue    int    // events that may wait
	Bytes    int    // and of their data
	Overflow Overflow
	// Deliver gets the events one after the other, but for what Quick allows. It may take
	// its time; ctx ends with the bus. ErrGone makes the subscriber leave.
	Deliver func(ctx context.Context, e *Event) error
	// Quick reports whether Deliver does not wait now: then, and while nothing is queued,
	// Publish itself calls it, several at once if several publish. It may be nil.
	Quick func() bool
	// Closed is told, without waiting, when Overflow made it leave; it may be nil.
	Closed func()
	Value  any // of who joins
}

// Subscriber gets events. While none waits it is no more than its patterns: no goroutine,
// no buffer.
type Subscriber struct {
	Options
	bus *Bus

	patterns []string // guarded by Bus.mu, as is left
	left     bool

	mu        sync.Mutex // guards the rest
	queue     []*Event
	bytes     int
	running   bool // a goroutine delivers
	shutDown  bool
	told      bool // that it is behind
	failing   bool // the last delivery failed
	delivered uint64
	dropped   uint64
}

// Join adds a subscriber, which has no patterns yet.
func (b *Bus) Join(o Options) (*Subscriber, error) {
	s := &Subscriber{Options: o, bus: b}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	b.all.add(s)
	return s, nil
}

// Subscribe adds a pattern; one that it has already changes nothing.
func (s *Subscriber) Subscribe(pattern string) error {
	if err := CheckPattern(pattern); err != nil {
		return err
	}
	b := s.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return ErrClosed
	case s.left:
		return ErrLeft
	case slices.Contains(s.patterns, pattern):
		return nil
	case len(s.patterns) >= maxPatterns:
		return fmt.Errorf("%w: %s has %d already", ErrTooMany, s.Name, maxPatterns)
	}
	s.patterns = append(s.patterns, pattern)
	b.root.insert(pattern, s)
	b.total++
	return nil
}

// Unsubscribe takes a pattern away; one that it does not have changes nothing. An event
// that was published before may still come.
func (s *Subscriber) Unsubscribe(pattern string) {
	b := s.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(s.patterns, pattern)
	if i < 0 || s.left {
		return
	}
	s.patterns = slices.Delete(s.patterns, i, i+1)
	b.root.remove(pattern, s)
	b.total--
}

// Patterns are those that are subscribed, in the order in which they were.
func (s *Subscriber) Patterns() []string {
	s.bus.mu.RLock()
	defer s.bus.mu.RUnlock()
	return slices.Clone(s.patterns)
}

// Leave ends the subscriber. What waits for it is dropped; a delivery under way goes on.
func (s *Subscriber) Leave() {
	b := s.bus
	b.mu.Lock()
	if !s.left {
		s.left = true
		for _, pattern := range s.patterns {
			b.root.remove(pattern, s)
		}
		b.total -= len(s.patterns)
		b.all.remove(s)
	}
	b.mu.Unlock()
	s.shut()
}

// shut drops what waits, and takes nothing any more.
func (s *Subscriber) shut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shutLocked()
}

func (s *Subscriber) shutLocked() {
	s.shutDown = true
	s.bus.count.queued.Add(-int64(len(s.queue)))
	s.queue, s.bytes = nil, 0
}

// take delivers an event at once where that is quick, or queues it, or does with it what
// Overflow says. Bus.wait counts the caller.
func (s *Subscriber) take(e *Event) bool {
	if s.Quick != nil && s.Quick() && s.idle() {
		return s.deliver(e)
	}
	s.mu.Lock()
	if s.shutDown {
		s.mu.Unlock()
		return false
	}
	full := s.fullLocked(e)
	tell := full && !s.told
	s.told = s.told || full
	took := !full || s.overflowLocked(e)
	start := false
	if took {
		s.queue = append(s.queue, e)
		s.bytes += len(e.Data)
		s.bus.count.queued.Add(1)
		start = !s.running
		s.running = true
	}
	cut := s.shutDown
	s.mu.Unlock()
	if start {
		s.bus.busy.add()
		s.bus.wait.Go(s.run)
	}
	if tell {
		s.bus.log.Warn("events are lost: they come faster than the subscriber takes them", "subscriber", s.Name,
			"topic", e.Topic, "queue", s.Queue, "overflow", s.Overflow)
	}
	if cut {
		s.Leave()
		if s.Closed != nil {
			s.Closed()
		}
	}
	return took
}

// idle reports whether what is delivered now overtakes nothing.
func (s *Subscriber) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.running && !s.shutDown
}

// fullLocked: one event that is larger than all that may wait goes alone.
func (s *Subscriber) fullLocked(e *Event) bool {
	return len(s.queue) > 0 && (len(s.queue) >= s.Queue || s.bytes+len(e.Data) > s.Bytes)
}

// overflowLocked applies the policy to a queue that is full for an event; true: there is
// room for it now.
func (s *Subscriber) overflowLocked(e *Event) bool {
	c := &s.bus.count
	switch s.Overflow {
	case DropNewest:
		s.dropped++
		c.newest.Add(1)
		return false
	case Cut:
		n := uint64(len(s.queue)) + 1
		s.dropped += n
		c.cut.Add(n)
		s.shutLocked()
		return false
	}
	for s.fullLocked(e) {
		s.popLocked()
		s.dropped++
		c.oldest.Add(1)
	}
	return true
}

func (s *Subscriber) popLocked() *Event {
	e := s.queue[0]
	s.queue[0] = nil
	s.queue = s.queue[1:]
	s.bytes -= len(e.Data)
	s.bus.count.queued.Add(-1)
	return e
}

// run delivers what waits, and ends when nothing does.
func (s *Subscriber) run() {
	defer s.bus.busy.done()
	for {
		s.mu.Lock()
		if len(s.queue) == 0 {
			s.running, s.told, s.queue = false, false, nil
			s.mu.Unlock()
			return
		}
		e := s.popLocked()
		s.mu.Unlock()
		s.deliver(e)
	}
}

func (s *Subscriber) deliver(e *Event) bool {
	err := s.Deliver(s.bus.ctx, e)
	c := &s.bus.count
	s.mu.Lock()
	again := s.failing
	s.failing = err != nil
	if err == nil {
		s.delivered++
	}
	s.mu.Unlock()
	switch {
	case err == nil:
		c.delivered.Add(1)
	case errors.Is(err, ErrGone):
		s.Leave()
	default:
		c.failed.Add(1)
		level := slog.LevelWarn
		if again || s.bus.ctx.Err() != nil { // one that fails may do so for each event
			level = slog.LevelDebug
		}
		s.bus.log.Log(s.bus.ctx, level, "an event was not taken", "subscriber", s.Name, "topic", e.Topic, "error", err.Error())
	}
	return err == nil
}

// SubscriberStatus is a subscriber, as operators see it.
type SubscriberStatus struct {
	Topics    []string `json:"topics"`
	Queued    int      `json:"queued"`
	Delivered uint64   `json:"delivered"`
	Dropped   uint64   `json:"dropped"`
}

// Status tells how the subscriber is now.
func (s *Subscriber) Status() SubscriberStatus {
	out := SubscriberStatus{Topics: s.Patterns()}
	s.mu.Lock()
	defer s.mu.Unlock()
	out.Queued, out.Delivered, out.Dropped = len(s.queue), s.delivered, s.dropped
	return out
}
