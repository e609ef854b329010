package push

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// leavingSession is one whose page has ended by its client's request 1.
func leavingSession(t *testing.T, h *Hub, seen *told) (*Session, *Attachment, *wire) {
	t.Helper()
	s := opened(t, h, "p", Owner{User: "ada", Connection: "k"})
	a, refusal := h.Attach(visitor, "k", &wire{})
	if refusal != nil {
		t.Fatal(refusal)
	}
	w := a.transport.(*wire)
	greeted(t, w)
	received(t, a, `{"c":1,"q":"log out"}`)
	s.Leave(CodeIdentity, 10*time.Second)
	seen.mu.Lock()
	last := seen.events[len(seen.events)-1]
	seen.mu.Unlock()
	if (last != endedEvent{CodeIdentity}) || !s.Leaving() || len(w.closed()) != 0 {
		t.Fatalf("the handler was told %v, the client %v", last, w.closed())
	}
	return s, a, w
}

func TestAPageThatLeavesHasEndedForAllButItsClientsReplies(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *Hub, seen *told) {
		s, a, w := leavingSession(t, h, seen)
		events := len(seen.events)
		p, err := h.NewMessage([]byte(`"of ada"`), false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Push(p); !errors.Is(err, ErrEnded) {
			t.Errorf("a push: %v", err)
		}
		if h.Page("p") != nil || h.Has("k") || len(h.User("ada")) != 0 || h.Client("p") != s {
			t.Error("it is found as if it had not ended, or not by its client")
		}
		received(t, a, `{"a":0,"c":2,"m":"late"}`)
		received(t, a, `{"c":3,"x":2}`)
		if f := w.take(); !strings.Contains(f, `"r":2`) || !strings.Contains(f, `"identity"`) {
			t.Errorf("a message after the end: %s", f)
		}
		if err := s.ReplyWithCookies(Ref{1, 1}, []byte(`"out"`), "TOKEN"); err != nil {
			t.Fatal(err)
		}
		if f := w.take(); !strings.Contains(f, `"k":"TOKEN"`) {
			t.Errorf("the reply: %s", f)
		}
		pass(5 * time.Second)
		if len(w.closed()) != 0 {
			t.Errorf("closed with %v before it had the cookies", w.closed())
		}
		s.Fetched()
		pass(time.Second)
		if !slices.Equal(w.closed(), []Code{CodeIdentity}) || h.Client("p") != nil {
			t.Errorf("closed with %v after it had the cookies", w.closed())
		}
		a.Lost()
		if len(seen.events) != events {
			t.Errorf("after its end the handler was told %v", seen.events[events:])
		}
	})
}

func TestAPageDoesNotLeaveForEver(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *Hub, seen *told) {
		_, _, w := leavingSession(t, h, seen)
		pass(9 * time.Second)
		if len(w.closed()) != 0 {
			t.Errorf("closed with %v while its request runs", w.closed())
		}
		pass(2 * time.Second)
		if !slices.Equal(w.closed(), []Code{CodeIdentity}) || h.Client("p") != nil {
			t.Errorf("closed with %v", w.closed())
		}
	})
}

func TestAPageThatWaitsForNothingDoesNotLeaveButEnds(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *Hub, _ *told) {
		s := opened(t, h, "p", Owner{})
		a, w := joined(t, h, visitor)
		received(t, a, `{"c":1,"m":"log out"}`)
		s.Leave(CodeIdentity, 10*time.Second)
		if !slices.Equal(w.closed(), []Code{CodeIdentity}) || s.Leaving() {
			t.Errorf("closed with %v", w.closed())
		}
	})
}

func TestAHubThatStopsEndsWhatLeaves(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *Hub, seen *told) {
		_, _, w := leavingSession(t, h, seen)
		h.Detach(CodeRestart)
		if !slices.Equal(w.closed(), []Code{CodeIdentity}) || h.Client("p") != nil {
			t.Errorf("closed with %v", w.closed())
		}
	})
}

func TestOnlyTheClientWhoseRequestItWasComesBackWithTheCookieOfBefore(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *Hub, seen *told) {
		s, a, _ := leavingSession(t, h, seen)
		a.Lost()
		other := visitor
		other.Client = "d"
		if _, refusal := h.AttachAwaited(other, &wire{}); refusal != ErrStale {
			t.Errorf("another client: %v", refusal)
		}
		if _, refusal := h.Attach(visitor, "k", &wire{}); refusal == nil || refusal.Code != CodeIdentity {
			t.Errorf("with the new cookie: %v", refusal)
		}
		a, refusal := h.AttachAwaited(visitor, &wire{})
		if refusal != nil {
			t.Fatal(refusal)
		}
		w := a.transport.(*wire)
		if g := greeted(t, w); !g.Resumed || g.Got != 1 {
			t.Errorf("%+v", g)
		}
		if b, refusal := h.AttachmentLeaving(On{Page: "p", ID: 2}); b != a || refusal != nil {
			t.Errorf("its frames: %v", refusal)
		}
		if err := s.Fail(Ref{1, 1}, &ReplyError{Code: "no"}); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		if !slices.Equal(w.closed(), []Code{CodeIdentity}) {
			t.Errorf("closed with %v after its reply", w.closed())
		}
		if _, refusal := h.AttachAwaited(visitor, &wire{}); refusal != ErrStale {
			t.Errorf("after its end: %v", refusal)
		}
	})
}

func TestAClientThatWasNotToldOfTheEndHearsOfItWhenItComesBack(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *Hub, _ *told) {
		s := opened(t, h, "p", Owner{Connection: "k"})
		a, refusal := h.Attach(visitor, "k", &wire{})
		if refusal != nil {
			t.Fatal(refusal)
		}
		s.EndAway(CodeLogin, CodeIdentity, time.Minute)
		if w := a.transport.(*wire); !slices.Equal(w.closed(), []Code{CodeLogin}) {
			t.Errorf("closed with %v", w.closed())
		}
		pass(50 * time.Second)
		for _, c := range []struct {
			connection string
			code       Code
		}{{"k", CodeIdentity}, {"another", CodeGone}} {
			if _, refusal := h.Attach(visitor, c.connection, &wire{}); refusal == nil || refusal.Code != c.code {
				t.Errorf("connection %s: %v", c.connection, refusal)
			}
		}
		if _, refusal := h.AttachAwaited(visitor, &wire{}); refusal != ErrStale {
			t.Errorf("with the cookie of before: %v", refusal)
		}
		pass(11 * time.Second)
		if _, refusal := h.Attach(visitor, "k", &wire{}); refusal == nil || refusal.Code != CodeGone {
			t.Errorf("later: %v", refusal)
		}
		told := opened(t, h, "told", Owner{Connection: "k"})
		if _, refusal := h.Attach(Hello{Page: "told", Client: "c"}, "k", &wire{}); refusal != nil {
			t.Fatal(refusal)
		}
		told.EndAway(CodeIdentity, CodeIdentity, time.Minute)
		never := opened(t, h, "never", Owner{Connection: "k"})
		never.EndAway(CodeIdentity, CodeIdentity, time.Minute)
		if told.Leaving() || never.Leaving() {
			t.Error("what nobody asks for is kept")
		}
	})
}

// closed gives the codes with which the host has ended the connection.
func (w *wire) closed() []Code {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.codes)
}
