package events

import (
	"context"
	"errors"

	"github.com/guado-server/guado/internal/bus"
	"github.com/guado-server/guado/internal/push"
)

// page is the id of a page that subscribes.
type page string

// codeNoHandler is what a worker says of a class that does not handle events.
const codeNoHandler = "no_handler"

// Subscribe gives a page the events of a topic, or of a pattern of topics.
func (e *Events) Subscribe(id, pattern string) error {
	if err := bus.CheckPattern(pattern); err != nil {
		return err
	}
	seat, err := e.seat(id)
	if err != nil {
		return err
	}
	return seat.Subscribe(pattern)
}

// Unsubscribe takes a topic away. A page that has not subscribed it, or is not there, is
// none the worse.
func (e *Events) Unsubscribe(id, pattern string) {
	e.mu.Lock()
	seat := e.pages[id]
	e.mu.Unlock()
	if seat != nil {
		seat.Unsubscribe(pattern)
	}
}

// Topics are what a page has subscribed.
func (e *Events) Topics(id string) []string {
	e.mu.Lock()
	seat := e.pages[id]
	e.mu.Unlock()
	if seat == nil {
		return nil
	}
	return seat.Patterns()
}

// Of tells what a page has subscribed, and how that goes; nil: nothing.
func (e *Events) Of(id string) *bus.SubscriberStatus {
	e.mu.Lock()
	seat := e.pages[id]
	e.mu.Unlock()
	if seat == nil {
		return nil
	}
	st := seat.Status()
	return &st
}

// Forget takes away what a page has subscribed: it has ended.
func (e *Events) Forget(id string) {
	e.mu.Lock()
	seat := e.pages[id]
	delete(e.pages, id)
	e.mu.Unlock()
	if seat != nil {
		seat.Leave()
	}
}

// seat is a page's place on the bus.
func (e *Events) seat(id string) (*bus.Subscriber, error) {
	seat, err := e.sit(id)
	if err == nil && e.opts.Pages.Hub().Page(id) == nil { // looked at last, because it may end meanwhile
		e.Forget(id)
		err = ErrNoPage
	}
	return seat, err
}

func (e *Events) sit(id string) (*bus.Subscriber, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if seat := e.pages[id]; seat != nil {
		return seat, nil
	}
	limits := e.opts.Limits()
	seat, err := e.bus.Join(bus.Options{
		Name: "page " + id, Queue: limits.Queue, Bytes: limits.Bytes, Overflow: limits.Overflow, Value: page(id),
		Deliver: func(ctx context.Context, event *bus.Event) error { return e.toPage(ctx, id, event) },
		Quick:   func() bool { return !e.opts.Pages.Listens(id) },
		Closed:  func() { e.cut(id) },
	})
	if err == nil {
		e.pages[id] = seat
	}
	return seat, err
}

// cut ends a page that did not keep up with its events: better none than one that has
// missed some and does not know.
func (e *Events) cut(id string) {
	e.Forget(id)
	if s := e.opts.Pages.Hub().Page(id); s != nil {
		s.End(push.CodeEvicted)
	}
}

// toPage has the page's class handle an event, or tells the client.
func (e *Events) toPage(ctx context.Context, id string, event *bus.Event) error {
	s := e.opts.Pages.Hub().Page(id)
	if s == nil {
		return bus.ErrGone
	}
	if e.opts.Pages.Listens(id) {
		err := e.opts.Pages.Event(ctx, id, event.Topic, event.Data)
		var said *push.ReplyError
		if !errors.As(err, &said) || said.Code != codeNoHandler {
			return err
		}
	}
	return tell(s, event)
}
