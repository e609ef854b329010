package guado

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/guado-server/guado/internal/bus"
	"github.com/guado-server/guado/internal/calls"
	"github.com/guado-server/guado/internal/events"
	"github.com/guado-server/guado/internal/identity"
	"github.com/guado-server/guado/internal/observe"
	"github.com/guado-server/guado/internal/push"
)

// EventStatus is how the events of a host are.
type EventStatus struct {
	bus.Status
	Tables events.TableStatus `json:"tables"` // of changes of database tables
}

// openEvents makes what a server has of events, where it has pages. All configurations have
// it in common.
func (h *host) openEvents() {
	if h.config.Server.Phase < phasePush || h.events != nil {
		return
	}
	h.events = events.New(events.Options{
		Pages: h.pages, Log: h.log,
		Limits: func() events.Limits {
			c := &h.now().config.Events
			return events.Limits{Queue: c.Queue, Bytes: int(c.QueueBytes.Bytes()), Overflow: bus.Overflow(c.Overflow)}
		},
	})
	h.openTables()
	h.topics = pageTopics{ended: h.events.Forget, subscribe: h.restoreTopics, of: h.events.Topics}
	h.calls.Handle("publish", h.callPublish)
	h.calls.Handle("page.subscribe", func(_ context.Context, _ calls.Caller, data []byte) (any, error) {
		return h.subscribe(data, h.events.Subscribe)
	})
	h.calls.Handle("page.unsubscribe", func(_ context.Context, _ calls.Caller, data []byte) (any, error) {
		return h.subscribe(data, func(page, topic string) error {
			h.events.Unsubscribe(page, topic)
			return nil
		})
	})
	h.calls.Handle("worker.declares", func(_ context.Context, c calls.Caller, data []byte) (any, error) {
		var what struct {
			Topics []events.Topic `json:"topics"`
		}
		if err := calls.Decode(data, &what); err != nil {
			return nil, err
		}
		return nil, eventError(h.events.Declare(c.Worker, c.Group, what.Topics))
	})
	h.calls.HandleEnd(func(c calls.Caller) { h.events.WorkerEnded(c.Worker) })
}

func (h *host) callPublish(_ context.Context, c calls.Caller, data []byte) (any, error) {
	var what struct {
		Topic string          `json:"topic"`
		Data  json.RawMessage `json:"data"`
	}
	if err := calls.Decode(data, &what); err != nil {
		return nil, err
	}
	reached, err := h.events.Publish(c.Slot, what.Topic, what.Data)
	return reached, eventError(err)
}

func (h *host) subscribe(data []byte, do func(page, topic string) error) (any, error) {
	var what struct {
		Page  string `json:"page"`
		Topic string `json:"topic"`
	}
	if err := calls.Decode(data, &what); err != nil {
		return nil, err
	}
	page := identity.Base(what.Page)
	err := do(page, what.Topic)
	h.kept.touch(kindPage, page)
	return nil, eventError(err)
}

// eventError gives errors about events the codes of link.md.
func eventError(err error) error {
	var topic *bus.TopicError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &topic):
		return calls.Errorf(http.StatusBadRequest, "bad_topic", "%v", err)
	case errors.Is(err, events.ErrNotJSON):
		return calls.Errorf(http.StatusBadRequest, "bad_data", "%v", err)
	case errors.Is(err, events.ErrTooBig), errors.Is(err, push.ErrTooBig):
		return calls.Errorf(http.StatusRequestEntityTooLarge, "too_big", "%v", err)
	case errors.Is(err, events.ErrNoPage), errors.Is(err, bus.ErrLeft):
		return calls.Errorf(http.StatusNotFound, "no_page", "%v", events.ErrNoPage)
	case errors.Is(err, bus.ErrTooMany):
		return calls.Errorf(http.StatusConflict, "too_many_topics", "%v", err)
	case errors.Is(err, bus.ErrClosed):
		return calls.Errorf(http.StatusServiceUnavailable, "stopping", "the host is stopping")
	}
	return err
}

// restoreTopics has a page of before the stop subscribe again.
func (h *host) restoreTopics(page, topic string) {
	if err := h.events.Subscribe(page, topic); err != nil {
		h.log.Warn("topic of a page of before", "page", page, "topic", topic, "error", err.Error())
	}
}

// eventsPatience is how long a stop waits for events that were published before it.
const eventsPatience = 2 * time.Second

// endEvents lets what was published before the stop reach those who have subscribed it.
func (h *host) endEvents(graceful context.Context) {
	if h.events == nil {
		return
	}
	h.tables.Flush()
	ctx, cancel := context.WithTimeout(graceful, eventsPatience)
	defer cancel()
	if h.events.Idle(ctx) != nil {
		h.log.Warn("events are lost: they were not taken before the stop", "events", h.events.Status().Queued)
	}
}

func (h *host) closeEvents() {
	if h.events != nil {
		h.tables.Close()
		h.events.Close()
	}
}

// keepTopics forgets the functions of applications that there are no more.
func (h *host) keepTopics() {
	if h.events == nil {
		return
	}
	names := make([]string, 0, len(h.config.Apps))
	for i := range h.config.Apps {
		names = append(names, h.config.Apps[i].Name)
	}
	h.events.Keep(names)
}

func (h *host) eventStatus() *EventStatus {
	if !h.pushes() {
		return nil
	}
	return &EventStatus{h.events.Status(), h.tables.Status()}
}

func (h *host) eventFigures() *observe.Events {
	st := h.eventStatus()
	if st == nil {
		return nil
	}
	dropped := make(map[string]uint64, len(st.Dropped))
	for overflow, n := range st.Dropped {
		dropped[string(overflow)] = n
	}
	return &observe.Events{
		Subscribers: st.Subscribers, Subscriptions: st.Subscriptions, Queued: st.Queued,
		Published: st.Published, Delivered: st.Delivered, Failed: st.Failed, Dropped: dropped,
	}
}
