package push

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"
)

func TestPagesAreFoundByUserAndConnectionAlsoAfterALogin(t *testing.T) {
	h := New(Options{}, &told{})
	defer h.Close()
	guest := Owner{User: "guest", Connection: "k1"}
	var all []*Session
	for i := range 5 {
		all = append(all, opened(t, h, fmt.Sprint("p", i), guest))
	}
	opened(t, h, "other", Owner{User: "ben", Connection: "k2"})
	if _, err := h.Open("p1", guest); !errors.Is(err, ErrExists) {
		t.Errorf("a second page of one id: %v", err)
	}
	for i, s := range all {
		h.Relabel(s, Owner{User: "ada", Connection: "k1"})
		if a, b, c := len(h.User("guest")), len(h.User("ada")), len(h.Connection("k1")); a != 4-i || b != i+1 || c != 5 {
			t.Fatalf("after %d of 5: guest %d, ada %d, connection %d", i+1, a, b, c)
		}
	}
	for _, i := range []int{2, 0, 4, 1, 3} { // the middle, both ends
		all[i].End(CodeIdentity)
	}
	if len(h.users) != 1 || len(h.connections) != 1 || len(h.pages) != 1 {
		t.Errorf("left over: %v %v %v", h.users, h.connections, h.pages)
	}
}

func TestPagesWhoseClientNeverCameTakeABoundedRoom(t *testing.T) {
	seen := &told{}
	h := New(Options{NewPages: 10}, seen)
	defer h.Close()
	opened(t, h, "p", Owner{})
	joined(t, h, Hello{Page: "p", Client: "c"})
	for i := range 1000 {
		opened(t, h, fmt.Sprint("robot", i), Owner{User: fmt.Sprint(i), Connection: fmt.Sprint(i)})
	}
	if n := len(h.Sessions()); n != 11 || h.Page("p") == nil || h.Page("robot999") == nil {
		t.Errorf("%d pages", n)
	}
	if len(h.users) != 10 || len(h.connections) != 10 || h.wheel.count != 11 {
		t.Errorf("%d users, %d connections, %d in the wheel", len(h.users), len(h.connections), h.wheel.count)
	}
}

func TestAUserWithTooManyPagesLosesTheOneThatIsAwayLongest(t *testing.T) {
	inBubble(t, Options{UserPages: 3}, func(t *testing.T, h *Hub, _ *told) {
		open := func(page string) (*Attachment, *wire) {
			opened(t, h, page, Owner{User: "ada"})
			pass(time.Second)
			return joined(t, h, Hello{Page: page, Client: "c"})
		}
		_, first := open("first")
		away, _ := open("away")
		open("third")
		opened(t, h, "p", Owner{User: "ben"})
		away.Lost()
		pass(time.Second)
		open("fourth")
		if h.Page("away") != nil || len(h.User("ada")) != 3 {
			t.Error("the page without a client was not the one to go")
		}
		open("fifth")
		if h.Page("first") != nil || len(first.codes) != 1 || first.codes[0] != CodeEvicted {
			t.Errorf("of pages with a client the oldest goes, and is told: %v", first.codes)
		}
		if h.Page("p") == nil {
			t.Error("another user's page went")
		}
	})
}

func TestAGuestHasNoMorePagesInOneBrowserThanAUser(t *testing.T) {
	inBubble(t, Options{UserPages: 3}, func(t *testing.T, h *Hub, _ *told) {
		for i := range 100 {
			page := fmt.Sprint("p", i)
			opened(t, h, page, Owner{Connection: "guest"})
			a, refusal := h.Attach(Hello{Page: page, Client: "c"}, "guest", &wire{})
			if refusal != nil {
				t.Fatal(refusal)
			}
			a.Lost()
			opened(t, h, "other"+page, Owner{Connection: page})
			pass(time.Second)
		}
		if n := len(h.Connection("guest")); n != 3 || h.Page("p99") == nil {
			t.Errorf("%d pages", n)
		}
		if h.Page("otherp99") == nil || h.Page("otherp50") == nil {
			t.Error("pages of other guests went")
		}
	})
}

func TestPagesOfAllTakeABoundedRoom(t *testing.T) {
	inBubble(t, Options{Pages: 100, Beat: time.Hour, Away: time.Hour}, func(t *testing.T, h *Hub, _ *told) {
		open := func(page string) *Attachment {
			opened(t, h, page, Owner{Connection: page})
			a, refusal := h.Attach(Hello{Page: page, Client: "c"}, page, &wire{})
			if refusal != nil {
				t.Fatal(refusal)
			}
			return a
		}
		stays := open("stays")
		for i := range 90 {
			open(fmt.Sprint("away", i)).Lost()
			pass(time.Second)
		}
		for i := range 9 {
			opened(t, h, fmt.Sprint("robot", i), Owner{Connection: "robots"})
		}
		open("new")
		if len(h.Connection("robots")) != 8 || h.Page("away0") == nil {
			t.Error("pages whose client never came do not go first")
		}
		for i := range 1000 {
			open(fmt.Sprint("more", i)).Lost()
			pass(time.Second)
			if n := len(h.Sessions()); n > 100 {
				t.Fatalf("%d pages", n)
			}
		}
		if h.Page("away89") != nil || h.Page("more999") == nil {
			t.Error("those that are away longest do not go first")
		}
		if h.Page("stays") == nil || stays.Session().attached == nil {
			t.Error("a page with a client went")
		}
	})
}

func TestABroadcastIsEncodedOnceAndReachesEverybody(t *testing.T) {
	h := New(Options{}, &told{})
	defer h.Close()
	var wires []*wire
	for i := range 50 {
		opened(t, h, fmt.Sprint("p", i), Owner{})
		if i%2 == 0 {
			_, w := joined(t, h, Hello{Page: fmt.Sprint("p", i), Client: "c"})
			greeted(t, w)
			wires = append(wires, w)
		}
	}
	p, err := h.NewMessage([]byte(`"all"`), false)
	if err != nil {
		t.Fatal(err)
	}
	if out := Push(p, h.Sessions()); out != (Sent{50, 25}) {
		t.Errorf("%+v", out)
	}
	for _, w := range wires {
		sameJSON(t, w.take(), map[string]any{"n": 1, "m": "all"})
	}
	for _, s := range h.Sessions() {
		if &s.tail.entries[0].body[0] != &p.body[0] {
			t.Fatal("a session has a copy")
		}
	}
}

func TestTheWindowGrowsWithTheClientsAndIsAnnounced(t *testing.T) {
	h := New(Options{Rate: 10}, &told{})
	defer h.Close()
	opened(t, h, "p", Owner{})
	_, w := joined(t, h, Hello{Page: "p", Client: "c"})
	if g := greeted(t, w); g.Window != 1000 {
		t.Errorf("one page: %d", g.Window)
	}
	for i := range 49 {
		opened(t, h, fmt.Sprint("p", i), Owner{})
	}
	if n := h.window(); n != 5000 {
		t.Errorf("50 pages: %d", n)
	}
	h.Announce(20 * time.Second)
	sameJSON(t, w.take(), map[string]any{"t": "window", "ms": 20000})
}

func TestAHubThatStopsLetsClientsGoAndTakesNoNewOnes(t *testing.T) {
	h := New(Options{}, &told{})
	s := opened(t, h, "p", Owner{})
	_, w := joined(t, h, Hello{Page: "p", Client: "c"})
	h.Detach(CodeRestart)
	if len(w.codes) != 1 || w.codes[0] != CodeRestart {
		t.Errorf("closed with %v", w.codes)
	}
	if _, r := h.Attach(Hello{Page: "p", Client: "c"}, "", &wire{}); r == nil || r.Code != CodeRestart {
		t.Errorf("a new one: %v", r)
	}
	if out := pushed(t, s, 1); out.Connected || s.Status().Tail != 1 {
		t.Error("what is pushed meanwhile is not kept")
	}
	if _, err := h.Open("q", Owner{}); !errors.Is(err, ErrStopping) {
		t.Errorf("a new page: %v", err)
	}
	h.Close()
}

// TestEverythingAtOnce is for the race detector, and for locks in a wrong order.
func TestEverythingAtOnce(t *testing.T) {
	seen := &told{}
	h := New(Options{Beat: time.Millisecond, TailBytes: 2000}, seen)
	seen.answer = func(s *Session, m Message) error {
		if m.Request {
			_ = s.Reply(m.Ref, m.Data) // the page may have ended
		}
		return nil
	}
	var all sync.WaitGroup
	for i := range 8 {
		page := fmt.Sprint("p", i%4)
		all.Go(func() {
			for n := range 200 {
				s := h.Page(page)
				if s == nil {
					s, _ = h.Open(page, Owner{User: "u"})
				}
				if s == nil {
					continue // the other one was faster
				}
				a, refusal := h.Attach(Hello{Page: page, Client: "c"}, "", &wire{})
				if refusal == nil {
					for c := range 5 {
						a.Receive(fmt.Appendf(nil, `{"c":%d,"q":0}`, c+1))
					}
				}
				switch n % 5 {
				case 0:
					p, _ := h.NewMessage([]byte("1"), false)
					Push(p, h.User("u"))
				case 1:
					h.Status()
					s.Status()
				case 2:
					h.Relabel(s, Owner{User: fmt.Sprint("u", n%2)})
				case 3:
					s.End(CodeEnded)
				case 4:
					h.Announce(time.Second)
				}
			}
		})
	}
	all.Wait()
	h.Close()
}

// idleMemory is what a session takes to which nothing happens, with all its places in
// the hub.
func idleMemory(t testing.TB) float64 {
	const n = 10000
	h := New(Options{}, &told{})
	defer h.Close()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range n {
		if _, err := h.Open(fmt.Sprintf("%022d", i), Owner{User: fmt.Sprint("user", i/3), Connection: fmt.Sprintf("%022d", i/3)}); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	return (float64(after.HeapAlloc) - float64(before.HeapAlloc)) / n
}

func TestAnIdleSessionTakesLessThanAKibibyte(t *testing.T) {
	if got := idleMemory(t); got > 1024 {
		t.Errorf("%.0f bytes", got)
	}
}

// BenchmarkIdle tells the memory of a session to which nothing happens.
func BenchmarkIdle(b *testing.B) {
	worst := 0.0
	for b.Loop() {
		worst = max(worst, idleMemory(b))
	}
	b.ReportMetric(worst, "B/session")
}

type nowhere struct{}

func (nowhere) Send([]byte) (int, error) { return 0, nil }

func (nowhere) Close(Code) {}

// BenchmarkBroadcast tells the time to number, keep and hand over a message of 100 bytes
// for one session among 2,000.
func BenchmarkBroadcast(b *testing.B) {
	const n = 2000
	h := New(Options{}, &told{})
	defer h.Close()
	all := make([]*Attachment, 0, n)
	for i := range n {
		page := fmt.Sprint(i)
		opened(b, h, page, Owner{})
		a, refusal := h.Attach(Hello{Page: page, Client: "c"}, "", nowhere{})
		if refusal != nil {
			b.Fatal(refusal)
		}
		all = append(all, a)
	}
	data := marshal(b, string(make([]byte, 16))+"x")
	b.ReportAllocs()
	count := uint64(0)
	for b.Loop() {
		count++
		p, err := h.NewMessage(data, false)
		if err != nil {
			b.Fatal(err)
		}
		Push(p, h.Sessions())
		if count%16 == 0 {
			for _, a := range all {
				a.Receive(fmt.Appendf(nil, `{"a":%d}`, count))
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/session")
}

// BenchmarkRequest tells the time of a request and its reply.
func BenchmarkRequest(b *testing.B) {
	seen := &echo{}
	h := New(Options{}, seen)
	defer h.Close()
	opened(b, h, "p", Owner{})
	a, refusal := h.Attach(Hello{Page: "p", Client: "c"}, "", nowhere{})
	if refusal != nil {
		b.Fatal(refusal)
	}
	b.ReportAllocs()
	n := uint64(0)
	frame := make([]byte, 0, 200)
	for b.Loop() {
		n++
		frame = fmt.Appendf(frame[:0], `{"a":%d,"c":%d,"q":{"text":"as long as a hundred bytes, which is what the other benchmarks send, too"}}`, n-1, n)
		if r := a.Receive(frame); r != nil {
			b.Fatal(r)
		}
	}
}

type echo struct{ told }

func (*echo) Opened(*Session, Opening) {}

func (*echo) Message(s *Session, m Message) error { return s.Reply(m.Ref, m.Data) }
