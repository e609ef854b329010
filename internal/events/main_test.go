package events

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/guado-server/guado/internal/bus"
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/pages"
	"github.com/guado-server/guado/internal/push"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 60 * time.Second

// rig is the events of a host with pages. What stands for the worker answers turns.
type rig struct {
	*Events
	t     *testing.T
	pages *pages.Pages

	mu     sync.Mutex
	limits Limits
	turns  []string                 // as "event Till p1 invoice.paid 7"
	answer func(turn) (int, string) // nil: all is well
	gate   chan struct{}            // turns wait until it is closed; nil: they do not
	begun  chan struct{}            // a turn has begun
	sent   map[string][]string      // messages, by page
	news   chan struct{}
}

// turn is what the worker is asked.
type turn struct {
	Do, Page, Class, Topic string
	Data                   json.RawMessage
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{
		t: t, limits: Limits{Queue: 1024, Bytes: 1 << 20, Overflow: bus.DropOldest}, sent: map[string][]string{},
		news: make(chan struct{}, 1), begun: make(chan struct{}, 1),
	}
	number := 0
	r.pages = pages.New(pages.Options{
		App: func(app string) exchange.Handler {
			return exchange.HandlerFunc(func(x *exchange.Exchange) { r.work(app, x) })
		},
		Turns:  func() exchange.Handler { return r.pages.Step(nil) },
		Ended:  func(page string) { r.Forget(page) },
		Settle: func(string) {},
		NewID:  func() string { number++; return fmt.Sprintf("p%d", number) },
	})
	r.Events = New(Options{Pages: r.pages, Limits: func() Limits { return r.limits }})
	t.Cleanup(func() {
		r.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		r.pages.Stop(ctx)
		r.pages.Close()
	})
	return r
}

// work is a turn on a worker.
func (r *rig) work(app string, x *exchange.Exchange) {
	if x.Turn == nil {
		r.t.Error("the hidden application got what is no turn")
		return
	}
	c := turn{x.Turn.Do.String(), x.Turn.Page, x.Turn.Class, x.Turn.Topic, x.Turn.Data}
	select {
	case r.begun <- struct{}{}:
	default:
	}
	r.mu.Lock()
	gate, answer := r.gate, r.answer
	r.mu.Unlock()
	if gate != nil && c.Do != "open" {
		<-gate
	}
	who := c.Class + " " + c.Page
	if c.Do == "on" {
		who = app
	}
	status, text := 200, "{}"
	if answer != nil {
		status, text = answer(c)
	}
	r.mu.Lock()
	if c.Do == "event" || c.Do == "on" {
		r.turns = append(r.turns, fmt.Sprintf("%s %s %s %s", c.Do, who, c.Topic, c.Data))
	}
	r.mu.Unlock()
	r.tell()
	if err := x.Answer.Head(exchange.Head{Status: status, Length: int64(len(text))}); err != nil {
		r.t.Error(err)
	}
	if _, err := x.Answer.Write([]byte(text)); err != nil {
		r.t.Error(err)
	}
}

func (r *rig) tell() {
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// open opens a page of a user, and connects its client.
func (r *rig) open(class, user string) string {
	r.t.Helper()
	id, err := r.pages.Open(pages.Opening{Connection: "c", User: user, App: "shop", Class: class})
	if err != nil {
		r.t.Fatal(err)
	}
	hello := push.Hello{Version: push.Version, Page: id, Client: "client"}
	if _, refusal := r.pages.Hub().Attach(hello, "c", &client{r, id}); refusal != nil {
		r.t.Fatal(refusal)
	}
	return id
}

// client keeps the messages that a page's client gets.
type client struct {
	rig  *rig
	page string
}

func (c *client) Send(frame []byte) (int, error) {
	var f struct{ M json.RawMessage }
	if json.Unmarshal(frame, &f) == nil && f.M != nil {
		c.rig.mu.Lock()
		c.rig.sent[c.page] = append(c.rig.sent[c.page], string(f.M))
		c.rig.mu.Unlock()
		c.rig.tell()
	}
	return 0, nil
}

func (c *client) Close(push.Code) {}

// subscribe fails the test when it fails.
func (r *rig) subscribe(page string, topics ...string) {
	r.t.Helper()
	for _, topic := range topics {
		if err := r.Subscribe(page, topic); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *rig) publish(topic string, data string) Reached {
	r.t.Helper()
	got, err := r.Publish("test", topic, json.RawMessage(data))
	if err != nil {
		r.t.Fatal(err)
	}
	return got
}

// await waits until what is so.
func (r *rig) await(what string, is func() bool) {
	r.t.Helper()
	late := time.After(patience)
	for {
		r.mu.Lock()
		done := is()
		r.mu.Unlock()
		if done {
			return
		}
		select {
		case <-r.news:
		case <-late:
			r.mu.Lock()
			defer r.mu.Unlock()
			r.t.Fatalf("not so: %s; turns %q, messages %q", what, r.turns, r.sent)
		}
	}
}

func (r *rig) awaitTurns(want ...string) {
	r.t.Helper()
	r.await("turns "+strings.Join(want, ", "), func() bool { return slices.Equal(r.turns, want) })
}

func (r *rig) awaitMessages(page string, want ...string) {
	r.t.Helper()
	r.await("messages "+strings.Join(want, ", "), func() bool { return slices.Equal(r.sent[page], want) })
}
