package link_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/link/linktest"
)

// events notes what is told, in order.
type events struct {
	mu  sync.Mutex // guards all
	all []string
}

func (e *events) add(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, fmt.Sprintf(format, args...))
}

func (e *events) take() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	text := strings.Join(e.all, " ")
	e.all = nil
	return text
}

// wants is who wants to know what becomes real.
type wants struct{ *events }

func (w wants) Keeps(payload []byte) any {
	w.add("keeps:%v", payload != nil)
	return "this"
}

func (w wants) Committed()              { w.add("committed") }
func (w wants) Answered(payload []byte) { w.add("answered:%v", payload != nil) }

// told is a keeper that notes what is kept with a state.
type told struct {
	*events
	fails error
}

func (k *told) State(_ uint32, state []byte, also any) ([]byte, error) {
	k.add("state:%s:%v", state[:1], also)
	return state[1:], k.fails
}

func TestWhoWantsToKnowIsToldWhatBecomesRealBeforeAnybodySeesIt(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		l, p := pair(t, link.Options{Transport: transport})
		e := &events{}
		k := &told{events: e}
		l.Keep(k)
		l.Commits(func(key uint64) { e.add("key:%d", key) })
		whole := linktest.AppendCommit(nil, 200, "", -1, []byte("all"))
		for _, c := range []struct {
			name, want string
			fails      error
			frames     func(id uint32)
		}{
			{"an answer with its state", "keeps:true state:a:this key:7 answered:true", nil, func(id uint32) {
				send(t, p, link.KindState, 0, id, 0, []byte("a\x00\x00\x00\x00"))
				send(t, p, link.KindCommit, link.End, id, 0, whole)
			}},
			{"an answer without state", "key:7 answered:true", nil, func(id uint32) {
				send(t, p, link.KindCommit, link.End, id, 0, whole)
			}},
			{"a head", "keeps:false state:a:this key:7 answered:false", nil, func(id uint32) {
				send(t, p, link.KindState, 0, id, 0, []byte("a\x00\x00\x00\x00"))
				send(t, p, link.KindCommit, 0, id, 0, whole)
				send(t, p, link.KindResponseBody, link.End, id, 0, nil)
			}},
			{"a head of several frames", "key:7 answered:false", nil, func(id uint32) {
				send(t, p, link.KindCommit, link.More, id, 0, whole[:9])
				send(t, p, link.KindCommit, link.End, id, 0, whole[9:])
			}},
			{"state on the way, and a failure", "keeps:false state:a:this key:7 committed key:7", nil, func(id uint32) {
				send(t, p, link.KindState, link.Alone, id, 0, []byte("a\x00\x00\x00\x00"))
				send(t, p, link.KindAbort, 0, id, link.AbortException, []byte("it failed"))
			}},
			{"what is refused", "keeps:true state:a:this", link.ErrRefused, func(id uint32) {
				send(t, p, link.KindState, 0, id, 0, []byte("a\x00\x00\x00\x00"))
				send(t, p, link.KindCommit, link.End, id, 0, whole)
			}},
		} {
			k.fails = c.fails
			x := open(t, l)
			x.s.Of(7, wants{e})
			x.request(true)
			c.frames(next(t, p, link.KindRequest).Stream)
			x.wait(func(f link.Frame) bool { return f.Kind == link.KindCommit || f.Kind == link.KindAbort })
			settled(t, l, p)
			if got := e.take(); got != c.want {
				t.Errorf("%s: %s, and not %s", c.name, got, c.want)
			}
			x.s.Close()
		}
		// Whoever comes next on the stream has not asked.
		x := open(t, l)
		x.request(true)
		send(t, p, link.KindCommit, link.End, next(t, p, link.KindRequest).Stream, 0, whole)
		x.wait(func(f link.Frame) bool { return f.Kind == link.KindCommit })
		if got := e.take(); got != "" {
			t.Errorf("the next one: %s", got)
		}
	})
}
