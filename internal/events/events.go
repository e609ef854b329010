// Package events gives what is published to those who have subscribed it: pages, by their
// class's handler or as a message to their client, and the functions of applications.
// Before it: the assembly, which brings what workers, programs and operators publish.
// After it: bus, which knows topics and keeps queues; pages, which runs handlers.
// Not here: what a pattern means (bus), turns (pages), frames (push).
package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/guado-server/guado/internal/bus"
	"github.com/guado-server/guado/internal/push"
)

// Topics with a meaning of their own, beside those of applications: pages get them without
// having subscribed.
const (
	// Broadcast reaches all pages.
	Broadcast = "system.broadcast"
	// userTopic and notifyTopic are around the name of a user whose pages get it.
	userTopic   = "user."
	notifyTopic = ".notify"
)

// Pages are the pages and page classes of a host.
type Pages interface {
	Hub() *push.Hub
	// Listens reports whether a page's class handles events.
	Listens(page string) bool
	// Event has the class handle one, in the page's turn, and waits for its end.
	Event(ctx context.Context, page, topic string, data json.RawMessage) error
	// On has the functions of an application handle one, and waits for their end.
	On(ctx context.Context, app, topic string, data json.RawMessage) error
}

// Limits are what may wait for one page, or one application.
type Limits struct {
	Queue    int
	Bytes    int
	Overflow bus.Overflow
}

// Options of a host's events.
type Options struct {
	Pages Pages
	// Limits are asked for each time that somebody begins to subscribe.
	Limits func() Limits
	Log    *slog.Logger
}

// Events are those of a host. Its methods may be called from any goroutine.
type Events struct {
	opts Options
	bus  *bus.Bus

	mu    sync.Mutex // guards the rest
	pages map[string]*bus.Subscriber
	apps  map[string]*audience
}

// Errors of this package, beside those of bus.
var (
	ErrNoPage  = errors.New("there is no such page")
	ErrNotJSON = errors.New("the data of an event is JSON in UTF-8")
	ErrTooBig  = errors.New("the data of the event is too long")
)

// New makes the events of a host. [Events.Close] must be called.
func New(o Options) *Events {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Events{opts: o, bus: bus.New(o.Log), pages: map[string]*bus.Subscriber{}, apps: map[string]*audience{}}
}

// Close ends deliveries under way; what waits is lost.
func (e *Events) Close() { e.bus.Close() }

// Idle returns when nothing waits to be delivered, or ctx ends.
func (e *Events) Idle(ctx context.Context) error { return e.bus.Idle(ctx) }

// Status tells how events are.
func (e *Events) Status() bus.Status { return e.bus.Status() }

// Reached counts who took an event.
type Reached struct {
	Pages   int `json:"pages"`
	Workers int `json:"workers"` // applications whose functions get it, each on one worker
}

// envelope is what a message to a client needs beside the data.
const envelope = 1 << 10

// Publish gives an event to all who have subscribed its topic, and to the pages that its
// topic means. It waits for none of them.
func (e *Events) Publish(publisher, topic string, data json.RawMessage) (Reached, error) {
	most := e.opts.Pages.Hub().Options().Message - envelope
	switch {
	case len(data) == 0:
		data = json.RawMessage("null")
	case len(data) > most:
		return Reached{}, fmt.Errorf("%w: %d bytes of JSON, where push.message allows %d", ErrTooBig, len(data), most)
	case !json.Valid(data) || !utf8.Valid(data):
		return Reached{}, ErrNotJSON
	}
	event := &bus.Event{Publisher: publisher, Topic: topic, Data: data}
	event.Note = sync.OnceValues(func() (push.Payload, error) { return e.message(topic, data) })
	took, err := e.bus.Publish(event)
	if err != nil {
		return Reached{}, err
	}
	var out Reached
	for _, s := range took {
		if _, is := s.Value.(page); is {
			out.Pages++
		} else {
			out.Workers++
		}
	}
	out.Pages += e.offerAll(e.meant(topic), took, event)
	return out, nil
}

// offerAll gives an event to the pages that its topic means, but for those that took it
// because they have subscribed it. It tells how many took it now.
func (e *Events) offerAll(meant []*push.Session, took []*bus.Subscriber, event *bus.Event) (n int) {
	if len(meant) == 0 {
		return 0
	}
	had := make(map[page]bool, len(took))
	for _, s := range took {
		if id, is := s.Value.(page); is {
			had[id] = true
		}
	}
	for _, s := range meant {
		if !had[page(s.Page())] && e.offer(s, event) {
			n++
		}
	}
	return n
}

// meant are the pages that get a topic without having subscribed it.
func (e *Events) meant(topic string) []*push.Session {
	if topic == Broadcast {
		return e.opts.Pages.Hub().Sessions()
	}
	if user, ok := strings.CutPrefix(topic, userTopic); ok {
		if user, ok = strings.CutSuffix(user, notifyTopic); ok && user != "" {
			return e.opts.Pages.Hub().User(user)
		}
	}
	return nil
}

// offer gives an event to a page that has not subscribed it. One whose class does not
// handle events needs no queue for that.
func (e *Events) offer(s *push.Session, event *bus.Event) bool {
	if !e.opts.Pages.Listens(s.Page()) {
		return tell(s, event) == nil
	}
	seat, err := e.seat(s.Page())
	return err == nil && e.bus.Offer(seat, event)
}

// message is an event as a page's client gets it.
func (e *Events) message(topic string, data json.RawMessage) (push.Payload, error) {
	text, err := json.Marshal(struct {
		Topic string          `json:"topic"`
		Data  json.RawMessage `json:"data"`
	}{topic, data})
	if err != nil {
		return push.Payload{}, fmt.Errorf("an event as a message: %w", err)
	}
	return e.opts.Pages.Hub().NewMessage(text, false)
}

// tell pushes an event to a page's client. All pages share the bytes.
func tell(s *push.Session, event *bus.Event) error {
	p, err := event.Note.(func() (push.Payload, error))()
	if err == nil {
		_, err = s.Push(p)
	}
	if errors.Is(err, push.ErrEnded) {
		return bus.ErrGone
	}
	return err
}
