package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/guado-server/guado/internal/bus"
	"github.com/guado-server/guado/internal/pages"
	"github.com/guado-server/guado/internal/push"
)

func TestAClassWithAHandlerHearsEventsItselfAndOtherPagesClientsDo(t *testing.T) {
	r := newRig(t)
	r.pages.Declare([]pages.Class{{Name: "Till", App: "shop", Events: true}, {Name: "Window", App: "shop"}})
	till, window, plain := r.open("Till", ""), r.open("Window", ""), r.open("", "")
	for _, page := range []string{till, window, plain} {
		r.subscribe(page, "invoice.*", "*.paid") // both match, and it hears once
	}
	if got := r.publish("invoice.paid", "7"); got != (Reached{Pages: 3}) {
		t.Errorf("%+v", got)
	}
	r.awaitTurns("event Till p1 invoice.paid 7")
	for _, page := range []string{window, plain} {
		r.awaitMessages(page, `{"topic":"invoice.paid","data":7}`)
	}
	r.Unsubscribe(plain, "invoice.*")
	if got := r.publish("invoice.sent", "null"); got != (Reached{Pages: 2}) {
		t.Errorf("%+v", got)
	}
}

func TestAClassOfWhichNobodyKnowsYetIsAskedAndItsClientToldWhereItHearsNothing(t *testing.T) {
	r := newRig(t)
	r.answer = func(c turn) (int, string) {
		if c.Do == "event" {
			return 400, `{"code":"no_handler","message":"this page hears no events"}`
		}
		return 200, "{}"
	}
	page := r.open("Late", "")
	r.subscribe(page, "a")
	r.publish("a", "1")
	r.awaitMessages(page, `{"topic":"a","data":1}`)
	r.awaitTurns("event Late p1 a 1")
}

func TestPagesHearWhatTheirTopicMeansOnceWhetherTheyHaveSubscribedOrNot(t *testing.T) {
	r := newRig(t)
	r.pages.Declare([]pages.Class{{Name: "Till", App: "shop", Events: true}})
	hers, till, his := r.open("", "anna.rossi"), r.open("Till", "anna.rossi"), r.open("", "")
	r.subscribe(hers, "user.>", "system.*")
	for topic, want := range map[string]int{
		"user.anna.rossi.notify": 2, "system.broadcast": 3, "user.anna.notify": 1, "user.notify": 1, "user..notify": -1,
	} {
		got, err := r.Publish("test", topic, nil)
		if err == nil && got.Pages != want || (err != nil) != (want < 0) {
			t.Errorf("%s: %+v %v", topic, got, err)
		}
	}
	r.await("all is heard", func() bool { return len(r.sent[hers]) == 4 && len(r.turns) == 2 && len(r.sent[his]) == 1 })
	if len(r.sent[till]) != 0 {
		t.Errorf("the client of a class that hears itself got %q", r.sent[till])
	}
}

func TestWhatCannotBePublishedOrSubscribedSaysWhy(t *testing.T) {
	r := newRig(t)
	page := r.open("", "")
	most := r.pages.Hub().Options().Message
	var topic *bus.TopicError
	for name, c := range map[string]struct {
		topic, data string
		is          func(error) bool
	}{
		"no topic":   {"a..b", "1", func(err error) bool { return errors.As(err, &topic) }},
		"a pattern":  {"a.*", "1", func(err error) bool { return errors.As(err, &topic) }},
		"no JSON":    {"a", "{", func(err error) bool { return errors.Is(err, ErrNotJSON) }},
		"not UTF-8":  {"a", "\"\xff\"", func(err error) bool { return errors.Is(err, ErrNotJSON) }},
		"too long":   {"a", `"` + strings.Repeat("x", most) + `"`, func(err error) bool { return errors.Is(err, ErrTooBig) }},
		"just right": {strings.Repeat("a", 256), `"` + strings.Repeat("x", most-envelope-2) + `"`, func(err error) bool { return err == nil }},
	} {
		if name == "just right" {
			r.subscribe(page, ">")
		}
		if _, err := r.Publish("test", c.topic, json.RawMessage(c.data)); !c.is(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.await("the longest event came", func() bool { return len(r.sent[page]) == 1 })
	if err := r.Subscribe(page, "a..b"); !errors.As(err, &topic) {
		t.Errorf("subscribe: %v", err)
	}
	if err := r.Subscribe("unknown", "a"); !errors.Is(err, ErrNoPage) || len(r.Events.pages) != 1 {
		t.Errorf("subscribe: %v, %d pages", err, len(r.Events.pages))
	}
}

func TestAPageThatEndsHasUnsubscribed(t *testing.T) {
	r := newRig(t)
	page := r.open("", "")
	r.subscribe(page, "a", "b.*")
	if got := fmt.Sprint(r.Topics(page)); got != "[a b.*]" {
		t.Errorf("topics %s", got)
	}
	r.pages.End(page)
	if got := r.publish("a", "1"); got.Pages != 0 {
		t.Errorf("%+v", got)
	}
	if st := r.Status(); st.Subscribers != 0 || st.Subscriptions != 0 || r.Topics(page) != nil {
		t.Errorf("%+v, topics %v", st, r.Topics(page))
	}
	r.Unsubscribe(page, "a")
}

func TestAPageThatDoesNotKeepUpEndsWhereTheServerSaysSo(t *testing.T) {
	r := newRig(t)
	r.limits = Limits{Queue: 2, Bytes: 1 << 20, Overflow: bus.Cut}
	r.pages.Declare([]pages.Class{{Name: "Till", App: "shop", Events: true}})
	page := r.open("Till", "")
	r.subscribe(page, "a")
	r.mu.Lock()
	r.gate = make(chan struct{})
	r.mu.Unlock()
	for range 10 {
		r.publish("a", "1")
	}
	if r.pages.Hub().Page(page) != nil {
		t.Error("the page goes on")
	}
	if st := r.Status(); st.Dropped[bus.Cut] == 0 || st.Subscribers != 0 {
		t.Errorf("%+v", st)
	}
	close(r.gate)
}

func topicsOf(app string, topics ...string) (list []Topic) {
	for _, topic := range topics {
		list = append(list, Topic{app, topic})
	}
	return list
}

func TestFunctionsHearAnEventOnceForAllWorkersOfTheirApplication(t *testing.T) {
	r := newRig(t)
	for worker := range uint64(3) {
		if err := r.Declare(worker, "shops", append(topicsOf("shop", "invoice.*", "invoice.paid"), topicsOf("bar", "*.paid")...)); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.publish("invoice.paid", "1"); got != (Reached{Workers: 2}) {
		t.Errorf("%+v", got)
	}
	if got := r.publish("invoice.sent", "2"); got != (Reached{Workers: 1}) {
		t.Errorf("%+v", got)
	}
	r.await("three turns", func() bool { return len(r.turns) == 3 })
	r.mu.Lock()
	defer r.mu.Unlock()
	if all := strings.Join(r.turns, ", "); strings.Count(all, "on bar invoice.paid 1") != 1 || !strings.Contains(all, "on shop invoice.sent 2") {
		t.Errorf("turns %s", all)
	}
}

func TestWhatTheLastWorkerHadIsWantedUntilTheNextOneHasSaidWhatItHas(t *testing.T) {
	r := newRig(t)
	declare := func(worker uint64, topics ...string) {
		t.Helper()
		if err := r.Declare(worker, "shops", topicsOf("shop", topics...)); err != nil {
			t.Fatal(err)
		}
	}
	reaches := func(topic string, want int) {
		t.Helper()
		if got := r.publish(topic, "1"); got.Workers != want {
			t.Errorf("%s reaches %d applications", topic, got.Workers)
		}
	}
	declare(1, "a", "b")
	declare(2, "b", "c")
	r.WorkerEnded(1)
	reaches("a", 0)
	reaches("c", 1)
	r.WorkerEnded(2)
	reaches("b", 1)
	reaches("c", 1)
	declare(3, "a") // a new release
	reaches("a", 1)
	reaches("b", 0)
	declare(3, "a", "d") // it has more
	reaches("d", 1)
	r.WorkerEnded(7) // of another group
	declare(4)       // of a release without functions
	reaches("a", 1)
	r.WorkerEnded(3)
	reaches("a", 0)
	if st := r.Status(); st.Subscribers != 0 || st.Subscriptions != 0 {
		t.Errorf("%+v", st)
	}
	declare(5, "a")
	if err := r.Declare(6, "bars", topicsOf("bar", "a")); err != nil {
		t.Fatal(err)
	}
	r.Keep([]string{"bar"})
	reaches("a", 1)
	if err := r.Declare(7, "cellars", topicsOf("bar", "a")); err != nil { // a reload moves it
		t.Fatal(err)
	}
	r.WorkerEnded(6)
	r.Keep([]string{"bar", "other"})
	reaches("a", 1)
	var flaw *bus.TopicError
	if err := r.Declare(8, "bars", topicsOf("bar", "a..b")); !errors.As(err, &flaw) {
		t.Errorf("%v", err)
	}
}

func TestAFunctionThatFailsIsCountedAndTheNextEventComes(t *testing.T) {
	r := newRig(t)
	r.answer = func(c turn) (int, string) {
		if c.Topic == "bad" {
			return 500, `{"code":"failed","message":"a function that hears this event has failed"}`
		}
		return 200, "{}"
	}
	if err := r.Declare(1, "shops", topicsOf("shop", ">")); err != nil {
		t.Fatal(err)
	}
	r.publish("bad", "1")
	r.publish("good", "2")
	r.awaitTurns("on shop bad 1", "on shop good 2")
	if err := r.Idle(t.Context()); err != nil {
		t.Error(err)
	}
	if st := r.Status(); st.Failed != 1 || st.Delivered != 1 {
		t.Errorf("%+v", st)
	}
}

func TestAfterTheEndNobodyPublishesOrSubscribes(t *testing.T) {
	r := newRig(t)
	page := r.open("", "")
	r.Close()
	if _, err := r.Publish("test", "a", nil); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("%v", err)
	}
	if err := r.Subscribe(page, "a"); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("%v", err)
	}
	if err := r.Declare(1, "shops", topicsOf("shop", "a")); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("%v", err)
	}
}

var _ Pages = (*pages.Pages)(nil)

var _ push.Transport = (*client)(nil)

// BenchmarkPublish to pages whose clients are there.
func BenchmarkPublish(b *testing.B) {
	for _, c := range []struct {
		pages int
		topic string
	}{{1, "board.moves"}, {2000, "board.moves"}, {2000, Broadcast}} {
		b.Run(fmt.Sprintf("%s to %d pages", c.topic, c.pages), func(b *testing.B) {
			p := pages.New(pages.Options{Push: push.Options{NewPages: 1 << 20}})
			e := New(Options{Pages: p, Limits: func() Limits { return Limits{Queue: 1024, Bytes: 1 << 20} }})
			defer p.Close()
			defer e.Close()
			for n := range c.pages {
				connection := fmt.Sprint(n)
				id, err := p.Open(pages.Opening{Connection: connection})
				if err != nil {
					b.Fatal(err)
				}
				if _, refusal := p.Hub().Attach(push.Hello{Version: push.Version, Page: id, Client: "x"}, connection, nobody{}); refusal != nil {
					b.Fatal(refusal)
				}
				if err := e.Subscribe(id, "board.*"); err != nil {
					b.Fatal(err)
				}
			}
			data := json.RawMessage(`{"from":"e2","to":"e4"}`)
			for b.Loop() {
				if got, err := e.Publish("p01", c.topic, data); err != nil || got.Pages != c.pages {
					b.Fatal(got, err)
				}
			}
		})
	}
}

// nobody is a client that takes everything.
type nobody struct{}

func (nobody) Send([]byte) (int, error) { return 0, nil }
func (nobody) Close(push.Code)          {}
