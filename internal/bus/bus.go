// Package bus carries events inside one host: whoever publishes one names its topic, and
// all who have subscribed a pattern that the topic matches get it, each at its own pace.
// Before it: the assembly, which brings what applications, programs and operators publish.
// After it: the assembly again, whose functions give events to pages and applications.
// Not here: pages, workers, topics with a meaning of their own, other machines.
package bus

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
)

// Event is one event. It is shared by all who get it, and nobody changes it.
type Event struct {
	Publisher string // "p01", "program tasks", "admin"
	Topic     string
	Data      []byte // JSON
	// Note is for who publishes and who delivers: what is made once for all of them.
	Note any
}

// Bus knows who has subscribed what.
//
// Events of one publisher, that is of calls of Publish that come one after the other,
// reach each subscriber in the order of those calls. Those of different publishers have
// no order, and may reach two subscribers in different ones.
type Bus struct {
	log   *slog.Logger
	wait  sync.WaitGroup // calls of Publish, and goroutines that deliver
	ctx   context.Context
	end   context.CancelFunc
	count counters
	busy  busy

	mu     sync.RWMutex // guards the rest, and patterns and left of each subscriber; nothing is taken under it
	root   node
	all    subscribers
	total  int // subscriptions
	closed bool
}

// Errors of this package.
var (
	ErrClosed  = errors.New("the bus is closed")
	ErrLeft    = errors.New("the subscriber has left")
	ErrTooMany = errors.New("too many patterns are subscribed")
	// ErrGone is what a [Subscriber]'s Deliver returns when there is nobody any more.
	ErrGone = errors.New("the subscriber is gone")
)

// New makes a bus. [Bus.Close] must be called.
func New(log *slog.Logger) *Bus {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	b := &Bus{log: log, all: subscribers{}}
	b.ctx, b.end = context.WithCancel(context.Background())
	return b
}

// Publish gives an event to all who have subscribed its topic, each of them once, and
// tells who took it. It waits for nobody.
func (b *Bus) Publish(e *Event) (took []*Subscriber, err error) {
	if err := CheckTopic(e.Topic); err != nil {
		return nil, err
	}
	to, err := b.find(e.Topic)
	if err != nil {
		return nil, err
	}
	defer b.wait.Done()
	b.count.published.Add(1)
	took = to[:0]
	for _, s := range to {
		if s.take(e) {
			took = append(took, s)
		}
	}
	return took, nil
}

// find looks up who gets a topic. Unless it fails, b.wait counts the caller.
func (b *Bus) find(topic string) (to []*Subscriber, err error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed {
		return nil, ErrClosed
	}
	b.wait.Add(1)
	var seen subscribers // of those who may be met twice
	b.root.match(topic, func(s *Subscriber) {
		if len(s.patterns) > 1 {
			if _, again := seen[s]; again {
				return
			}
			seen.add(s)
		}
		to = append(to, s)
	})
	return to, nil
}

// Offer gives an event to one subscriber, whatever it has subscribed, and tells whether
// it took it.
func (b *Bus) Offer(s *Subscriber, e *Event) bool {
	b.mu.RLock()
	if b.closed {
		b.mu.RUnlock()
		return false
	}
	b.wait.Add(1)
	b.mu.RUnlock()
	defer b.wait.Done()
	return s.take(e)
}

// Idle returns when nothing waits to be delivered, or ctx ends.
func (b *Bus) Idle(ctx context.Context) error {
	over := b.busy.over()
	select {
	case <-over:
		return nil
	default: // though ctx may have ended
	}
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// busy counts the subscribers who have something to do.
type busy struct {
	mu  sync.Mutex // guards the rest
	n   int
	end chan struct{} // closed when there is none
}

func (b *busy) add() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n++; b.n == 1 {
		b.end = make(chan struct{})
	}
}

func (b *busy) done() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n--; b.n == 0 {
		close(b.end)
	}
}

func (b *busy) over() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n > 0 {
		return b.end
	}
	over := make(chan struct{})
	close(over)
	return over
}

// Close ends the bus: what waits is dropped, and deliveries under way are told to end and
// waited for.
func (b *Bus) Close() {
	b.mu.Lock()
	b.closed = true
	all := b.all
	b.all, b.root, b.total = subscribers{}, node{}, 0
	for s := range all {
		s.left = true
	}
	b.mu.Unlock()
	b.end()
	for s := range all {
		s.shut()
	}
	b.wait.Wait()
}

// counters of a bus.
type counters struct {
	published, delivered, failed, oldest, newest, cut atomic.Uint64
	queued                                            atomic.Int64
}

// Status is a bus, as operators see it.
type Status struct {
	Subscribers   int    `json:"subscribers"`
	Subscriptions int    `json:"subscriptions"`
	Queued        int64  `json:"queued"` // events that wait
	Published     uint64 `json:"published"`
	Delivered     uint64 `json:"delivered"` // an event counts once for each who got it
	Failed        uint64 `json:"failed"`    // deliveries that ended with an error
	// Events that were not delivered, by the policy of their subscriber.
	Dropped map[Overflow]uint64 `json:"dropped"`
}

// Status tells how the bus is now.
func (b *Bus) Status() Status {
	c := &b.count
	b.mu.RLock()
	defer b.mu.RUnlock()
	return Status{
		Subscribers: len(b.all), Subscriptions: b.total, Queued: c.queued.Load(),
		Published: c.published.Load(), Delivered: c.delivered.Load(), Failed: c.failed.Load(),
		Dropped: map[Overflow]uint64{DropOldest: c.oldest.Load(), DropNewest: c.newest.Load(), Cut: c.cut.Load()},
	}
}
