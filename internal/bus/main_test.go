package bus

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const limit = 60 * time.Second

func newBus(t *testing.T) *Bus {
	t.Helper()
	b := New(nil)
	t.Cleanup(b.Close)
	return b
}

// ear keeps what it hears.
type ear struct {
	*Subscriber
	mu     sync.Mutex
	heard  []*Event
	signal chan struct{}
	gate   chan struct{} // closed: it goes on; nil: there is none
	begun  chan struct{} // it has come to the gate
}

// gated hears nothing until its gate is opened.
func gated() *ear {
	return &ear{signal: make(chan struct{}, 1), gate: make(chan struct{}), begun: make(chan struct{}, 1)}
}

// listen joins with the options and subscribes patterns.
func listen(t *testing.T, b *Bus, o Options, patterns ...string) *ear {
	t.Helper()
	e := &ear{signal: make(chan struct{}, 1)}
	return e.join(t, b, o, patterns...)
}

func (e *ear) join(t *testing.T, b *Bus, o Options, patterns ...string) *ear {
	t.Helper()
	if o.Queue == 0 {
		o.Queue = 1 << 20
	}
	if o.Bytes == 0 {
		o.Bytes = 1 << 30
	}
	o.Deliver = func(ctx context.Context, event *Event) error {
		if e.gate != nil {
			select {
			case e.begun <- struct{}{}:
			default:
			}
			select {
			case <-e.gate:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		e.mu.Lock()
		e.heard = append(e.heard, event)
		e.mu.Unlock()
		select {
		case e.signal <- struct{}{}:
		default:
		}
		return nil
	}
	var err error
	if e.Subscriber, err = b.Join(o); err != nil {
		t.Fatal(err)
	}
	for _, p := range patterns {
		if err := e.Subscribe(p); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// wait gives what was heard once that is n events.
func (e *ear) wait(t *testing.T, n int) []*Event {
	t.Helper()
	late := time.After(limit)
	for {
		e.mu.Lock()
		heard := e.heard
		e.mu.Unlock()
		if len(heard) >= n {
			return heard
		}
		select {
		case <-e.signal:
		case <-late:
			t.Fatalf("%d events of %d came", len(heard), n)
		}
	}
}

func publish(t *testing.T, b *Bus, topic string) int {
	t.Helper()
	took, err := b.Publish(&Event{Publisher: "test", Topic: topic, Data: []byte("{}")})
	if err != nil {
		t.Fatal(err)
	}
	return len(took)
}

func mustFail(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, not %v", err, want)
	}
}
