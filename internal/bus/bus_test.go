package bus

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestAnEventReachesAllWhoSubscribedItsTopicAndEachOfThemOnce(t *testing.T) {
	b := newBus(t)
	all := listen(t, b, Options{}, ">", "invoice.*", "invoice.paid")
	invoices := listen(t, b, Options{}, "invoice.*")
	orders := listen(t, b, Options{}, "order.>")
	direct := listen(t, b, Options{Quick: quick}, "invoice.paid")
	if n := publish(t, b, "invoice.paid"); n != 3 {
		t.Errorf("%d took it", n)
	}
	if n := publish(t, b, "order.line.added"); n != 2 {
		t.Errorf("%d took it", n)
	}
	if n := publish(t, b, "order"); n != 1 {
		t.Errorf("%d took it", n)
	}
	if got := topics(all.wait(t, 3)); got != "invoice.paid order.line.added order" {
		t.Errorf("heard %s", got)
	}
	if got := topics(invoices.wait(t, 1)); got != "invoice.paid" {
		t.Errorf("heard %s", got)
	}
	if got := topics(orders.wait(t, 1)); got != "order.line.added" {
		t.Errorf("heard %s", got)
	}
	if got := topics(direct.wait(t, 1)); got != "invoice.paid" {
		t.Errorf("heard %s", got)
	}
}

func quick() bool { return true }

func topics(events []*Event) string {
	var list []string
	for _, e := range events {
		list = append(list, e.Topic)
	}
	return strings.Join(list, " ")
}

func TestWhoUnsubscribesOrLeavesHearsNoMore(t *testing.T) {
	b := newBus(t)
	e := listen(t, b, Options{}, "a", "b")
	other := listen(t, b, Options{}, "a")
	e.Unsubscribe("a")
	e.Unsubscribe("never")
	if n := publish(t, b, "a"); n != 1 {
		t.Errorf("%d took it", n)
	}
	publish(t, b, "b")
	e.wait(t, 1)
	e.Leave()
	e.Leave()
	if n := publish(t, b, "b"); n != 0 {
		t.Errorf("%d took it", n)
	}
	mustFail(t, e.Subscribe("c"), ErrLeft)
	e.Unsubscribe("b")
	other.Leave()
	if st := b.Status(); st.Subscribers != 0 || st.Subscriptions != 0 || !b.root.empty() {
		t.Errorf("left behind: %+v", st)
	}
}

// TestTheOrderOfAPublisherIsKeptWhateverIsLost has several publishers at once, among
// subscribers who come and go: everybody hears each publisher's events in their order,
// and what it did not hear is counted.
func TestTheOrderOfAPublisherIsKeptWhateverIsLost(t *testing.T) {
	const publishers, events = 4, 2000
	b := newBus(t)
	ears := []*ear{
		listen(t, b, Options{Name: "all"}, ">", "n.*"),
		listen(t, b, Options{Name: "oldest", Queue: 3, Overflow: DropOldest}, "n.*"),
		listen(t, b, Options{Name: "newest", Queue: 3, Overflow: DropNewest}, "n.>"),
		listen(t, b, Options{Name: "bytes", Bytes: 20, Overflow: DropOldest}, "*.1", "*.2", "*.3", "*.0"),
		listen(t, b, Options{Name: "quick", Quick: quick}, "n.>"),
	}
	var wait sync.WaitGroup
	for range 2 {
		wait.Go(func() {
			for range 300 {
				g, err := b.Join(Options{Queue: 2, Bytes: 1000, Deliver: func(context.Context, *Event) error { return nil }})
				if err != nil || g.Subscribe("n.*") != nil {
					t.Error(err)
					return
				}
				g.Leave()
			}
		})
	}
	for p := range publishers {
		wait.Go(func() {
			for n := range events {
				_, err := b.Publish(&Event{Publisher: fmt.Sprint(p), Topic: fmt.Sprintf("n.%d", p), Data: fmt.Append(nil, n)})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	for _, e := range ears {
		lost := int(e.Status().Dropped) // nothing is published any more
		heard := e.wait(t, publishers*events-lost)
		last := map[string]int{}
		for _, event := range heard {
			var n int
			if _, err := fmt.Sscan(string(event.Data), &n); err != nil {
				t.Fatal(err)
			}
			if before, any := last[event.Publisher]; any && n <= before {
				t.Fatalf("%s: %d of publisher %s came after %d", e.Name, n, event.Publisher, before)
			}
			last[event.Publisher] = n
		}
		if len(heard)+lost != publishers*events {
			t.Errorf("%s: %d heard and %d lost, of %d", e.Name, len(heard), lost, publishers*events)
		}
		if (e.Name == "all" || e.Name == "quick") && lost != 0 {
			t.Errorf("%s lost %d", e.Name, lost)
		}
	}
}

func TestAQueueThatIsFullDoesAsItsPolicySays(t *testing.T) {
	for _, c := range []struct {
		policy Overflow
		bytes  int
		heard  string // of 0 to 5, where 0 is under way
		took   int
	}{
		{DropOldest, 0, "n.0 n.3 n.4 n.5", 6},
		{DropNewest, 0, "n.0 n.1 n.2 n.3", 4},
		{DropOldest, 5, "n.0 n.4 n.5", 6}, // of two bytes each
		{DropNewest, 5, "n.0 n.1 n.2", 3},
	} {
		b := newBus(t)
		e := gated()
		e.join(t, b, Options{Queue: 3, Bytes: c.bytes, Overflow: c.policy}, "n.*")
		took := publish(t, b, "n.0")
		<-e.begun
		for n := 1; n < 6; n++ {
			took += publish(t, b, fmt.Sprintf("n.%d", n))
		}
		close(e.gate)
		want := strings.Count(c.heard, " ") + 1
		if got := topics(e.wait(t, want)); got != c.heard || took != c.took {
			t.Errorf("%s, %d bytes: heard %s, took %d", c.policy, c.bytes, got, took)
		}
		if st := b.Status(); st.Dropped[c.policy] != uint64(6-want) || st.Queued != 0 {
			t.Errorf("%s: %+v", c.policy, st)
		}
	}
}

func TestWhoIsCutLeavesIsToldAndTheOthersGoOn(t *testing.T) {
	b := newBus(t)
	told := make(chan struct{})
	e := gated()
	e.join(t, b, Options{Queue: 1, Overflow: Cut, Closed: func() { close(told) }}, "n")
	other := listen(t, b, Options{}, "n")
	publish(t, b, "n")
	<-e.begun
	publish(t, b, "n")
	if n := publish(t, b, "n"); n != 1 {
		t.Errorf("%d took it", n)
	}
	<-told
	if n := publish(t, b, "n"); n != 1 {
		t.Errorf("%d took it", n)
	}
	close(e.gate)
	other.wait(t, 4)
	if st := b.Status(); st.Dropped[Cut] != 2 || st.Subscribers != 1 || st.Queued != 0 {
		t.Errorf("%+v", st)
	}
}

func TestAnEventLargerThanAllThatMayWaitGoesAlone(t *testing.T) {
	b := newBus(t)
	e := listen(t, b, Options{Bytes: 10, Overflow: DropNewest}, "n")
	if _, err := b.Publish(&Event{Topic: "n", Data: make([]byte, 1000)}); err != nil {
		t.Fatal(err)
	}
	e.wait(t, 1)
}

func TestThatEventsAreLostIsLoggedOnceUntilTheSubscriberCatchesUp(t *testing.T) {
	var lines logged
	b := New(slog.New(slog.NewTextHandler(&lines, nil)))
	defer b.Close()
	e := gated()
	e.join(t, b, Options{Name: "page x", Queue: 1, Overflow: DropOldest}, "n")
	for range 10 {
		publish(t, b, "n")
	}
	if n := lines.count("page x"); n != 1 {
		t.Errorf("%d lines", n)
	}
	close(e.gate)
}

type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

func TestASubscriberWhoIsGoneLeavesAndOneThatFailsIsCounted(t *testing.T) {
	b := newBus(t)
	answers := []error{fmt.Errorf("no luck"), fmt.Errorf("the page: %w", ErrGone)}
	s, err := b.Join(Options{Quick: quick, Deliver: func(context.Context, *Event) error {
		first := answers[0]
		answers = answers[1:]
		return first
	}})
	if err != nil || s.Subscribe("n") != nil {
		t.Fatal(err)
	}
	publish(t, b, "n")
	publish(t, b, "n")
	if n := publish(t, b, "n"); n != 0 {
		t.Errorf("%d took it", n)
	}
	if st := b.Status(); st.Failed != 1 || st.Delivered != 0 || st.Subscribers != 0 {
		t.Errorf("%+v", st)
	}
}

func TestWhoIsQuickForATimeKeepsTheOrder(t *testing.T) {
	const events = 3000
	b := newBus(t)
	var changes atomic.Int64
	e := listen(t, b, Options{Quick: func() bool { return changes.Add(1)%7 < 4 }}, "n.*")
	for n := range events {
		if _, err := b.Publish(&Event{Topic: "n.1", Data: fmt.Append(nil, n)}); err != nil {
			t.Fatal(err)
		}
	}
	for n, event := range e.wait(t, events) {
		if string(event.Data) != fmt.Sprint(n) {
			t.Fatalf("%s came as number %d", event.Data, n)
		}
	}
}

func TestABusIsIdleOnceAllIsDelivered(t *testing.T) {
	b := newBus(t)
	if err := b.Idle(t.Context()); err != nil {
		t.Error(err)
	}
	e := gated()
	e.join(t, b, Options{}, "n")
	publish(t, b, "n")
	publish(t, b, "n")
	ended, end := context.WithCancel(t.Context())
	end()
	mustFail(t, b.Idle(ended), context.Canceled)
	close(e.gate)
	if err := b.Idle(t.Context()); err != nil || len(e.wait(t, 2)) != 2 {
		t.Error(err)
	}
}

func TestAnEventCanBeOfferedToOneWhoSubscribedNothing(t *testing.T) {
	b := newBus(t)
	e := listen(t, b, Options{})
	if !b.Offer(e.Subscriber, &Event{Topic: "user.anna.notify"}) {
		t.Error("it was not taken")
	}
	e.wait(t, 1)
	e.Leave()
	if b.Offer(e.Subscriber, &Event{Topic: "x"}) {
		t.Error("one that has left took it")
	}
}

func TestASubscriberTakesABoundedNumberOfPatterns(t *testing.T) {
	b := newBus(t)
	e := listen(t, b, Options{})
	for n := range maxPatterns {
		if err := e.Subscribe(fmt.Sprintf("n.%d", n)); err != nil {
			t.Fatal(err)
		}
	}
	mustFail(t, e.Subscribe("one.more"), ErrTooMany)
	if err := e.Subscribe("n.7"); err != nil {
		t.Error(err)
	}
	if n := len(e.Patterns()); n != maxPatterns {
		t.Errorf("%d patterns", n)
	}
}

func TestClosingEndsDeliveriesUnderWayAndDropsTheRest(t *testing.T) {
	b := New(nil)
	e := gated() // never opened
	e.join(t, b, Options{}, "n")
	for range 100 {
		publish(t, b, "n")
	}
	b.Close()
	b.Close()
	if len(e.heard) != 0 {
		t.Errorf("%d were heard", len(e.heard))
	}
	_, err := b.Publish(&Event{Topic: "n"})
	mustFail(t, err, ErrClosed)
	mustFail(t, e.Subscribe("m"), ErrClosed)
	_, err = b.Join(Options{})
	mustFail(t, err, ErrClosed)
	if b.Offer(e.Subscriber, &Event{Topic: "n"}) {
		t.Error("a closed bus took it")
	}
	if st := b.Status(); st.Queued != 0 {
		t.Errorf("%+v", st)
	}
}

func TestClosingWhileEverybodyIsAtWorkLeavesNothing(t *testing.T) {
	for seed := range uint64(20) {
		b := New(nil)
		var wait sync.WaitGroup
		busy := make(chan struct{}, 1)
		for i := range 4 {
			random := rand.New(rand.NewPCG(seed, uint64(i)))
			wait.Go(func() {
				for n := 0; ; n++ {
					if n == 20 {
						select {
						case busy <- struct{}{}:
						default:
						}
					}
					s, err := b.Join(Options{Queue: 2, Bytes: 100, Overflow: []Overflow{DropOldest, DropNewest, Cut}[random.IntN(3)],
						Quick: func() bool { return i%2 == 0 }, Deliver: func(context.Context, *Event) error { return nil }})
					if err != nil {
						return
					}
					_ = s.Subscribe("a.*") // the bus may be closed
					for range random.IntN(20) {
						_, _ = b.Publish(&Event{Topic: "a.b", Data: []byte("1")}) // likewise
					}
					if random.IntN(2) == 0 {
						s.Leave()
					}
				}
			})
		}
		<-busy
		b.Close()
		wait.Wait()
		if st := b.Status(); st.Queued != 0 || st.Subscribers != 0 || st.Subscriptions != 0 {
			t.Fatalf("seed %d: %+v", seed, st)
		}
	}
}

func TestAnIdleSubscriberHasNoGoroutine(t *testing.T) {
	b := newBus(t)
	before := runtime.NumGoroutine()
	for n := range 1000 {
		e := listen(t, b, Options{}, "a", fmt.Sprintf("b.%d", n))
		e.Status()
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines more", after-before)
	}
}

// BenchmarkPublish among many subscriptions that do not match: the index, not a scan.
func BenchmarkPublish(b *testing.B) {
	for _, others := range []int{0, 100, 100000} {
		b.Run(fmt.Sprintf("%d others", others), func(b *testing.B) {
			bus := New(nil)
			defer bus.Close()
			quiet := Options{Quick: quick, Deliver: func(context.Context, *Event) error { return nil }}
			for n := range others + 1 {
				s, err := bus.Join(quiet)
				if err != nil || s.Subscribe(fmt.Sprintf("user.%d.notify", n)) != nil {
					b.Fatal(err)
				}
			}
			e := &Event{Topic: "user.0.notify", Data: []byte("{}")}
			for b.Loop() {
				if took, err := bus.Publish(e); err != nil || len(took) != 1 {
					b.Fatal(err)
				}
			}
		})
	}
}
