package push

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// inBubble runs a test with a hub whose time passes at once.
func inBubble(t *testing.T, o Options, body func(t *testing.T, h *Hub, seen *told)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		seen := &told{}
		h := New(o, seen)
		body(t, h, seen)
		h.Close()
	})
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

var visitor = Hello{Page: "p", Client: "c"}

func again(g greeting, at uint64) Hello {
	return Hello{Page: "p", Client: "c", Epoch: g.Epoch, At: at}
}

func TestAClientThatDoesNotReadIsLetGoByTheBytesThatWait(t *testing.T) {
	inBubble(t, Options{Waiting: 1000}, func(t *testing.T, h *Hub, _ *told) {
		s := opened(t, h, "p", Owner{})
		_, w := joined(t, h, visitor)
		w.queued = 1000
		if out := pushed(t, s, 1); !out.Connected {
			t.Error("at the limit it was let go")
		}
		w.queued = 1001
		if out := pushed(t, s, 2); out.Connected || len(w.codes) != 1 || w.codes[0] != CodeSlow {
			t.Errorf("over the limit: %+v, closed with %v", out, w.codes)
		}
		if n := h.Status().Slow; n != 1 {
			t.Errorf("%d counted", n)
		}
	})
}

func TestAConnectionThatIsReplacedHasNoSayAnyMore(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *Hub, seen *told) {
		opened(t, h, "p", Owner{})
		old, w := joined(t, h, visitor)
		g := greeted(t, w)
		fresh, w2 := joined(t, h, again(g, 0))
		if len(w.codes) != 1 || w.codes[0] != CodeReplaced {
			t.Errorf("the old one was closed with %v", w.codes)
		}
		received(t, old, `{"c":1,"m":"late"}`)
		old.Lost()
		if g2 := greeted(t, w2); !g2.Resumed || g2.Got != 0 || g2.ID != 2 {
			t.Errorf("%+v", g2)
		}
		received(t, fresh, `{"c":1,"m":"in time"}`)
		var got []string
		for e := seen.next(); e != nil; e = seen.next() {
			if m, ok := e.(Message); ok {
				got = append(got, string(m.Data))
			}
		}
		if len(got) != 1 || got[0] != `"in time"` {
			t.Errorf("the application got %v", got)
		}
		if _, refusal := h.AttachmentIf(nil, On{Page: "p", ID: 1}, ""); refusal == nil || refusal.Code != CodeStale {
			t.Errorf("a batch for the old one: %v", refusal)
		}
	})
}

func TestADuplicatedTabIsRefusedWhileTheOtherOneIsThereAndBeginsAnewAfterIt(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *Hub, _ *told) {
		s := opened(t, h, "p", Owner{})
		a, _ := joined(t, h, visitor)
		received(t, a, `{"c":1,"q":1}`)
		first := s.instance
		if _, refusal := h.Attach(Hello{Page: "p", Client: "other"}, "", &wire{}); refusal == nil || refusal.Code != CodeDuplicate {
			t.Fatalf("%v", refusal)
		}
		a.Lost()
		b, w := joined(t, h, Hello{Page: "p", Client: "other"})
		if g := greeted(t, w); g.Resumed || g.Why != WhyClient || g.Got != 0 {
			t.Errorf("%+v", g)
		}
		if err := s.Reply(Ref{first, 1}, []byte("1")); !errors.Is(err, ErrNoCall) {
			t.Errorf("a reply to the instance of before: %v", err)
		}
		received(t, b, `{"c":1,"m":1}`)
	})
}

func TestAPageOfAnotherConnectionDoesNotExist(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *Hub, _ *told) {
		opened(t, h, "p", Owner{User: "ada", Connection: "k1"})
		for _, connection := range []string{"", "k2"} {
			_, refusal := h.Attach(visitor, connection, &wire{})
			if refusal == nil || refusal.Code != CodeGone {
				t.Errorf("%q: %v", connection, refusal)
			}
			if r := h.Bye(On{Page: "p", Client: "c", Bye: true}, connection); r == nil || r.Code != CodeGone {
				t.Errorf("%q: bye: %v", connection, r)
			}
		}
		if _, refusal := h.Attach(visitor, "k1", &wire{}); refusal != nil {
			t.Error(refusal)
		}
	})
}

func TestASilentConnectionGetsSignsOfLifeAndIsLetGoWithoutAnswer(t *testing.T) {
	inBubble(t, Options{Beat: 10 * time.Second}, func(t *testing.T, h *Hub, _ *told) {
		opened(t, h, "p", Owner{})
		a, w := joined(t, h, visitor)
		greeted(t, w)
		for range 5 {
			pass(11 * time.Second)
			if f := w.take(); f != "{}" {
				t.Fatalf("got %q", f)
			}
			received(t, a, `{"a":0}`)
		}
		pass(21 * time.Second)
		if len(w.codes) != 1 || w.codes[0] != CodeSilent {
			t.Errorf("closed with %v", w.codes)
		}
	})
}

func TestABusyConnectionIsNotAskedForSignsOfLife(t *testing.T) {
	inBubble(t, Options{Beat: 10 * time.Second}, func(t *testing.T, h *Hub, _ *told) {
		s := opened(t, h, "p", Owner{})
		a, w := joined(t, h, visitor)
		greeted(t, w)
		for i := range 20 {
			pass(3 * time.Second)
			pushed(t, s, i)
			if f := w.take(); !strings.Contains(f, `"m"`) {
				t.Fatalf("got %q", f)
			}
			received(t, a, `{"a":%d}`, i+1)
		}
	})
}

func TestPagesEndWhenTheirTimeWithoutAClientIsOver(t *testing.T) {
	inBubble(t, Options{Unclaimed: time.Minute, Away: 30 * time.Minute}, func(t *testing.T, h *Hub, seen *told) {
		opened(t, h, "never", Owner{User: "u"})
		opened(t, h, "p", Owner{User: "u"})
		a, w := joined(t, h, visitor)
		g := greeted(t, w)
		for range 4 {
			pass(19 * time.Second)
			received(t, a, `{"a":0}`)
		}
		if h.Page("never") != nil || h.Page("p") == nil {
			t.Error("the page whose client never came lives, or the other one does not")
		}
		a.Lost()
		pass(29 * time.Minute)
		a, _ = joined(t, h, again(g, 0))
		a.Lost()
		pass(29 * time.Minute)
		if h.Page("p") == nil {
			t.Error("it ended early")
		}
		pass(2 * time.Minute)
		if h.Page("p") != nil || len(h.User("u")) != 0 || h.Status().Users != 0 {
			t.Error("it lives on")
		}
		ends := 0
		for e := seen.next(); e != nil; e = seen.next() {
			if _, ok := e.(endedEvent); ok {
				ends++
			}
		}
		if ends != 2 || h.wheel.count != 0 {
			t.Errorf("%d ends told, %d left in the wheel", ends, h.wheel.count)
		}
	})
}

func TestFramesLeaveTheTailByAgeAlsoWhenNobodyComes(t *testing.T) {
	inBubble(t, Options{TailAge: 2 * time.Minute}, func(t *testing.T, h *Hub, _ *told) {
		s := opened(t, h, "p", Owner{})
		a, w := joined(t, h, visitor)
		g := greeted(t, w)
		a.Lost()
		pushed(t, s, 1)
		pass(119 * time.Second)
		if n := s.Status().Tail; n != 1 {
			t.Errorf("%d frames after 119 s", n)
		}
		pushed(t, s, 2)
		pass(2 * time.Second)
		if n := s.Status().Tail; n != 1 {
			t.Errorf("%d frames after 121 s", n)
		}
		pass(2 * time.Minute)
		if st := s.Status(); st.Tail != 0 || st.TailBytes != 0 {
			t.Errorf("%+v", st)
		}
		_, w = joined(t, h, again(g, 0))
		if g := greeted(t, w); g.Resumed || g.Why != WhyTail || g.At != 2 {
			t.Errorf("%+v", g)
		}
	})
}

func TestTheNewestFrameStaysWhateverItsSize(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *Hub, _ *told) {
		s := opened(t, h, "p", Owner{})
		big := strings.Repeat("x", 300<<10)
		pushed(t, s, big)
		_, w := joined(t, h, visitor)
		if g := greeted(t, w); !g.Resumed {
			t.Errorf("%+v", g)
		}
		if f := w.take(); len(f) < len(big) {
			t.Errorf("%d bytes came", len(f))
		}
	})
}

func TestWaitEndsWithTheAcknowledgementOrSaysThatThereIsNone(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *Hub, _ *told) {
		s := opened(t, h, "p", Owner{})
		a, _ := joined(t, h, visitor)
		wait := func(n uint64) chan error {
			c := make(chan error, 1)
			go func() { c <- s.Wait(t.Context(), n) }()
			synctest.Wait()
			return c
		}
		n := pushed(t, s, 1).N
		done := wait(n)
		received(t, a, `{"a":%d}`, n)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := s.Wait(t.Context(), n); err != nil {
			t.Errorf("afterwards: %v", err)
		}
		if err := s.Wait(t.Context(), n+1); !errors.Is(err, ErrLost) {
			t.Errorf("a frame that was never sent: %v", err)
		}
		done = wait(pushed(t, s, 2).N)
		a.Lost()
		joined(t, h, Hello{Page: "p", Client: "reloaded"})
		if err := <-done; !errors.Is(err, ErrLost) {
			t.Errorf("a client that began anew: %v", err)
		}
		done = wait(pushed(t, s, 3).N)
		s.End(CodeEnded)
		if err := <-done; !errors.Is(err, ErrEnded) {
			t.Errorf("an ended page: %v", err)
		}
		s = opened(t, h, "p", Owner{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Wait(ctx, pushed(t, s, 1).N); !errors.Is(err, context.DeadlineExceeded) || len(s.waiters) != 0 {
			t.Errorf("a deadline: %v, %d waiters left", err, len(s.waiters))
		}
	})
}

func TestRequestsOverTheLimitAreRefusedAndTheOthersGoOn(t *testing.T) {
	inBubble(t, Options{Calls: 2}, func(t *testing.T, h *Hub, _ *told) {
		s := opened(t, h, "p", Owner{})
		a, w := joined(t, h, visitor)
		greeted(t, w)
		for i := range 3 {
			received(t, a, `{"c":%d,"q":0}`, i+1)
		}
		sameJSON(t, w.take(), map[string]any{"n": 1, "r": 3, "e": map[string]any{"code": "busy", "message": "too many messages wait"}})
		if err := s.Reply(Ref{1, 1}, []byte("true")); err != nil {
			t.Error(err)
		}
		received(t, a, `{"c":4,"q":0}`)
		sameJSON(t, w.take(), map[string]any{"n": 2, "r": 1, "d": true})
		if f := w.take(); f != "" {
			t.Errorf("then came %s", f)
		}
		if err := s.Reply(Ref{1, 1}, []byte("true")); !errors.Is(err, ErrNoCall) {
			t.Errorf("a second reply: %v", err)
		}
	})
}

func TestRepliesThatAreKeptAreBoundedAndAsksBeyondThemSaySo(t *testing.T) {
	inBubble(t, Options{Replies: 1000, TailBytes: 100}, func(t *testing.T, h *Hub, _ *told) {
		s := opened(t, h, "p", Owner{})
		a, w := joined(t, h, visitor)
		g := greeted(t, w)
		for i := range 20 {
			received(t, a, `{"c":%d,"q":0}`, i+1)
		}
		a.Lost()
		for i := range 20 {
			if err := s.Reply(Ref{1, uint64(i + 1)}, marshal(t, strings.Repeat("r", 100))); err != nil {
				t.Fatal(err)
			}
		}
		if s.calls.bytes > 1000 {
			t.Errorf("%d bytes are kept", s.calls.bytes)
		}
		a, w = joined(t, h, again(g, 0))
		greeted(t, w)
		received(t, a, `{"c":1,"q":0}`)
		received(t, a, `{"c":20,"q":0}`)
		if f := w.take(); !strings.Contains(f, ReplyUnknown) {
			t.Errorf("the first one: %s", f)
		}
		if f := w.take(); !strings.Contains(f, "rrr") {
			t.Errorf("the last one: %s", f)
		}
		received(t, a, `{"a":%d}`, s.last)
		received(t, a, `{"c":21,"m":0}`)
		if s.calls != nil {
			t.Error("memory is kept for replies that the client has")
		}
	})
}

func TestAHandlerThatRefusesIsAnswered(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *Hub, seen *told) {
		seen.answer = func(_ *Session, m Message) error {
			if m.Request {
				return errors.New("secret")
			}
			return &ReplyError{Code: "full", Message: "the mailbox is full"}
		}
		opened(t, h, "p", Owner{})
		a, w := joined(t, h, visitor)
		greeted(t, w)
		received(t, a, `{"c":1,"q":0}`)
		received(t, a, `{"c":2,"m":0}`)
		if f := w.take(); strings.Contains(f, "secret") || !strings.Contains(f, `"failed"`) {
			t.Errorf("the request: %s", f)
		}
		sameJSON(t, w.take(), map[string]any{"n": 2, "r": 2, "e": map[string]any{"code": "full", "message": "the mailbox is full"}})
	})
}

func TestDataThatIsNoJSONIsRefusedAndLineEndsLeave(t *testing.T) {
	h := New(Options{Message: 100}, &told{})
	defer h.Close()
	for _, data := range []string{"", "{", "\"\xff\"", "1 2", "NaN"} {
		if _, err := h.NewMessage([]byte(data), false); !errors.Is(err, ErrNotJSON) {
			t.Errorf("%q: %v", data, err)
		}
	}
	if _, err := h.NewMessage(marshal(t, strings.Repeat("x", 100)), false); !errors.Is(err, ErrTooBig) {
		t.Errorf("too long: %v", err)
	}
	p, err := h.NewMessage([]byte("{\n\"a\":\r\n\"b \\n\"}"), false)
	if err != nil || string(p.body) != `"m":{"a":"b \n"}}` {
		t.Errorf("%s, %v", p.body, err)
	}
}

func TestAClientThatHasMoreThanWasEverSentBeginsAnewInAnotherEpoch(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *Hub, _ *told) {
		s := opened(t, h, "p", Owner{})
		a, w := joined(t, h, visitor)
		before := greeted(t, w)
		received(t, a, `{"c":1,"q":0}`)
		a.Lost()
		_, w = joined(t, h, again(before, 5))
		g := greeted(t, w)
		if g.Resumed || g.Why != WhyEpoch || g.Epoch == before.Epoch || g.At != 0 || g.Got != 1 {
			t.Errorf("%+v", g)
		}
		if err := s.Reply(Ref{1, 1}, []byte("1")); !errors.Is(err, ErrNoCall) {
			t.Errorf("a reply to what the client takes for lost: %v", err)
		}
		_, w = joined(t, h, again(g, 0))
		if g := greeted(t, w); !g.Resumed {
			t.Errorf("%+v", g)
		}
	})
}
