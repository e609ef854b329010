package events

import (
	"context"
	"fmt"
	"slices"

	"github.com/guado-server/guado/internal/bus"
)

// audience is the functions of one application, which every worker of its group has. They
// get each event once, whichever worker runs them.
type audience struct {
	*bus.Subscriber
	group  string
	topics map[uint64][]string // by worker
	// last is what the last worker had. Until the next one says what it has, events wait
	// for it.
	last []string
}

// Topic is one that a function of an application is for.
type Topic struct {
	App   string `json:"app"`
	Topic string `json:"topic"`
}

// Declare takes note of the topics that a worker of a group has functions for, in place of
// what it declared before.
func (e *Events) Declare(worker uint64, group string, topics []Topic) error {
	has := map[string][]string{}
	for _, t := range topics {
		if err := bus.CheckPattern(t.Topic); err != nil {
			return fmt.Errorf("application %s: %w", t.App, err)
		}
		has[t.App] = append(has[t.App], t.Topic)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for app := range has {
		if e.apps[app] == nil {
			if err := e.newAudience(app, group); err != nil {
				return err
			}
		}
		e.apps[app].group = group // a reload may have given it to another one
	}
	for app, a := range e.apps {
		if a.group != group {
			continue
		}
		a.topics[worker], a.last = has[app], nil // also where it has none
		if err := e.settle(app, a); err != nil {
			return err
		}
	}
	return nil
}

func (e *Events) newAudience(app, group string) error {
	limits := e.opts.Limits()
	if limits.Overflow == bus.Cut { // an application does not end
		limits.Overflow = bus.DropOldest
	}
	s, err := e.bus.Join(bus.Options{
		Name: "application " + app, Queue: limits.Queue, Bytes: limits.Bytes, Overflow: limits.Overflow,
		Deliver: func(ctx context.Context, event *bus.Event) error {
			return e.opts.Pages.On(ctx, app, event.Topic, event.Data)
		},
	})
	if err == nil {
		e.apps[app] = &audience{Subscriber: s, group: group, topics: map[uint64][]string{}}
	}
	return err
}

// settle subscribes what the workers of an application have functions for, and nothing
// else. e.mu is held.
func (e *Events) settle(app string, a *audience) error {
	want := slices.Clone(a.last)
	for _, list := range a.topics {
		want = append(want, list...)
	}
	if len(want) == 0 {
		delete(e.apps, app)
		a.Leave()
		return nil
	}
	for _, pattern := range a.Patterns() {
		if !slices.Contains(want, pattern) {
			a.Unsubscribe(pattern)
		}
	}
	for _, pattern := range want {
		if err := a.Subscribe(pattern); err != nil {
			return err
		}
	}
	return nil
}

// WorkerEnded forgets what a worker declared, unless it was the last one that had the
// application: then that is still wanted until the next one has said what it has.
func (e *Events) WorkerEnded(worker uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for app, a := range e.apps {
		list, had := a.topics[worker]
		if !had {
			continue
		}
		delete(a.topics, worker)
		if len(a.topics) == 0 {
			a.last = list
		}
		if err := e.settle(app, a); err != nil { // less is never too much
			e.opts.Log.Error("topics of an application", "app", app, "error", err.Error())
		}
	}
}

// Keep forgets all applications but these.
func (e *Events) Keep(apps []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for app, a := range e.apps {
		if !slices.Contains(apps, app) {
			delete(e.apps, app)
			a.Leave()
		}
	}
}
