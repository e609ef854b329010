package link_test

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/link/linktest"
)

// keeper notes what it is to apply, and says what the test wants. A state ends in its effects.
type keeper struct {
	refuse string // a state

	mu  sync.Mutex // guards the rest
	got []string
	err error
}

func (k *keeper) State(stream uint32, state []byte, _ any) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	text, effects, _ := bytes.Cut(state, []byte("|"))
	k.got = append(k.got, string(text))
	if k.refuse != "" && string(text) == k.refuse {
		return bytes.Clone(effects), link.ErrRefused
	}
	return bytes.Clone(effects), k.err
}

func (k *keeper) applied() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return strings.Join(k.got, " ")
}

func (k *keeper) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
}

// kept is a link whose worker's stores are kept.
func kept(t *testing.T, transport string) (*keeper, *link.Link, *linktest.Peer) {
	t.Helper()
	l, p := pair(t, link.Options{Transport: transport})
	k := &keeper{}
	l.Keep(k)
	return k, l, p
}

const noEffects = "|\x00\x00\x00\x00"

func TestStateIsAppliedBeforeTheAnswerThatItGoesWithAndNotWithoutIt(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		k, l, p := kept(t, transport)
		c := open(t, l)
		c.request(true)
		id := next(t, p, link.KindRequest).Stream
		send(t, p, link.KindState, link.More, id, 0, []byte("fir"))
		send(t, p, link.KindState, 0, id, 0, []byte("st"+noEffects))
		settled(t, l, p)
		if got := k.applied(); got != "" {
			t.Errorf("%q is applied before its COMMIT", got)
		}
		send(t, p, link.KindCommit, link.End, id, 0, linktest.AppendCommit(nil, 200, "", -1, nil))
		c.wait(func(f link.Frame) bool {
			if got := k.applied(); got != "first" {
				t.Errorf("with the answer %q is applied", got)
			}
			return f.Kind == link.KindCommit
		})
		c.s.Close()
		send(t, p, link.KindState, link.Alone, 0, 0, []byte("second"+noEffects))
		settled(t, l, p)
		if got := k.applied(); got != "first second" {
			t.Errorf("%q is applied", got)
		}
		if err := l.Err(); err != nil {
			t.Error(err)
		}
	})
}

func TestAnAnswerWhoseStateIsRefusedIsNotDeliveredNorAreItsEffectsDone(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		k, l, p := kept(t, transport)
		calls := listen(l)
		c := open(t, l)
		c.request(true)
		id := next(t, p, link.KindRequest).Stream
		call := callPayload(link.CallHost, 0, "push", []byte("{}"))
		effect := append([]byte{1, 0, 0, 0, 7, 0, 0, 0, byte(len(call)), 0, 0, 0}, call...)
		k.fail(link.ErrRefused)
		send(t, p, link.KindState, 0, id, 0, append([]byte("old|"), effect...))
		send(t, p, link.KindCommit, 0, id, 0, linktest.AppendCommit(nil, 200, "", -1, []byte("told")))
		var seen []link.Kind
		c.wait(func(f link.Frame) bool {
			seen = append(seen, f.Kind)
			return f.Kind == link.KindAbort && f.Arg == link.AbortMoved
		})
		if len(seen) != 1 {
			t.Errorf("the exchange got %v", seen)
		}
		if f := next(t, p, link.KindReply); f.Arg != 7 || !strings.Contains(string(f.Payload), "moved") {
			t.Errorf("the effect was answered %q", f.Payload)
		}
		next(t, p, link.KindPing)
		next(t, p, link.KindCancel)
		// The application goes on for a while; what it says is dropped and paid for.
		freed := make(chan struct{})
		c.s.Abandon(func() { close(freed) })
		send(t, p, link.KindResponseBody, link.End, id, 0, []byte("more"))
		receive(t, freed)
		// Those of others are done, in the order of the commits.
		k.fail(nil)
		send(t, p, link.KindState, link.Alone, 0, 0, append([]byte("new|"), effect...))
		if id := receive(t, calls.ids); id != 7 {
			t.Errorf("call %d", id)
		}
		if call := receive(t, calls.calls); call.Name != "push" || string(call.Data) != "{}" {
			t.Errorf("the effect is %+v", call)
		}
		if err := l.Err(); err != nil {
			t.Error(err)
		}
	})
}

func TestStateThatCannotBeEndsTheWorker(t *testing.T) {
	for name, send := range map[string]func(t *testing.T, k *keeper, p *linktest.Peer, id uint32){
		"another commit comes before the COMMIT of the first": func(t *testing.T, _ *keeper, p *linktest.Peer, id uint32) {
			send(t, p, link.KindState, 0, id, 0, []byte("a"+noEffects))
			send(t, p, link.KindState, link.Alone, 0, 0, []byte("b"+noEffects))
		},
		"between the fragments of another": func(t *testing.T, _ *keeper, p *linktest.Peer, id uint32) {
			send(t, p, link.KindState, link.More, id, 0, []byte("a"))
			send(t, p, link.KindState, link.Alone, 0, 0, []byte("b"+noEffects))
		},
		"of no stream, with a COMMIT": func(t *testing.T, _ *keeper, p *linktest.Peer, _ uint32) {
			send(t, p, link.KindState, 0, 0, 0, []byte("a"+noEffects))
		},
		"with END": func(t *testing.T, _ *keeper, p *linktest.Peer, id uint32) {
			send(t, p, link.KindState, link.End, id, 0, []byte("a"+noEffects))
		},
		"without its effects": func(t *testing.T, _ *keeper, p *linktest.Peer, _ uint32) {
			send(t, p, link.KindState, link.Alone, 0, 0, []byte("a|"))
		},
		"with effects longer than it is": func(t *testing.T, _ *keeper, p *linktest.Peer, _ uint32) {
			send(t, p, link.KindState, link.Alone, 0, 0, []byte("a|\x01\x00\x00\x00\x07\x00\x00\x00\xff\xff\xff\xff"))
		},
		"which is not the next one": func(t *testing.T, k *keeper, p *linktest.Peer, _ uint32) {
			k.fail(link.Corrupt("a gap"))
			send(t, p, link.KindState, link.Alone, 0, 0, []byte("a"+noEffects))
		},
		"ALONE on another frame": func(t *testing.T, _ *keeper, p *linktest.Peer, id uint32) {
			send(t, p, link.KindCommit, link.Alone, id, 0, linktest.AppendCommit(nil, 200, "", -1, nil))
		},
		"an ABORT for the host's own reason": func(t *testing.T, _ *keeper, p *linktest.Peer, id uint32) {
			send(t, p, link.KindAbort, 0, id, link.AbortMoved, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			k, l, p := kept(t, link.Socket)
			c := open(t, l)
			c.request(true)
			send(t, k, p, next(t, p, link.KindRequest).Stream)
			<-l.Done()
			if err := l.Err(); !errors.Is(err, link.ErrCorrupt) {
				t.Errorf("the link ended with %v", err)
			}
		})
	}
	t.Run("though nobody keeps stores", func(t *testing.T) {
		l, p := pair(t, link.Options{Transport: link.Socket})
		send(t, p, link.KindState, link.Alone, 0, 0, []byte("a"+noEffects))
		<-l.Done()
		if err := l.Err(); !errors.Is(err, link.ErrCorrupt) {
			t.Errorf("the link ended with %v", err)
		}
	})
}

// A store larger than the ring, and a request that needs it: the request waits behind it.
func TestARequestNeverOvertakesTheStoreThatItNeeds(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		l, p := pair(t, link.Options{Transport: transport, Ring: 4096})
		store := bytes.Repeat([]byte("0123456789"), 40_000)
		before := open(t, l)
		before.request(true) // frames of it wait on a line of their own
		if err := l.Restore(store); err != nil {
			t.Fatal(err)
		}
		behind := open(t, l)
		behind.request(true)
		var got []byte
		for requests := 0; requests < 2; {
			f, err := p.Next()
			if err != nil {
				t.Fatal(err)
			}
			switch f.Kind {
			case link.KindRestore:
				got = append(got, f.Payload...)
				if more := len(got) < len(store); more != (f.Flags&link.More != 0) {
					t.Fatalf("%d bytes with flags %d", len(got), f.Flags)
				}
			case link.KindRequest:
				if requests++; f.Stream == behind.s.ID() && len(got) != len(store) {
					t.Fatalf("the request comes behind %d bytes of its store", len(got))
				}
			}
		}
		if !bytes.Equal(got, store) {
			t.Error("the store is another")
		}
		if err := l.Release([]byte("ended")); err != nil {
			t.Fatal(err)
		}
		if f := next(t, p, link.KindRelease); string(f.Payload) != "ended" {
			t.Errorf("%q", f.Payload)
		}
	})
}
