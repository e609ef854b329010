package push

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
)

// wire is a client's connection in memory: what the host says is kept.
type wire struct {
	mu     sync.Mutex
	frames []string
	codes  []Code
	queued int // what Send tells
	dead   bool
}

func (w *wire) Send(frame []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		return 0, errors.New("the connection is gone")
	}
	w.frames = append(w.frames, string(frame))
	return w.queued, nil
}

func (w *wire) Close(code Code) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.codes = append(w.codes, code)
}

// take gives the next frame; empty: there is none.
func (w *wire) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.frames) == 0 {
		return ""
	}
	f := w.frames[0]
	w.frames = w.frames[1:]
	return f
}

func (w *wire) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.frames
	w.frames = nil
	return out
}

// told is a Handler that keeps what it is told.
type told struct {
	mu     sync.Mutex
	events []any
	answer func(s *Session, m Message) error
}

type openedEvent struct{ Opening }

type endedEvent struct{ Code }

type awayEvent struct{}

func (h *told) add(e any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, e)
}

func (h *told) Opened(_ *Session, o Opening) { h.add(openedEvent{o}) }

func (h *told) Message(s *Session, m Message) error {
	h.add(m)
	if h.answer != nil {
		return h.answer(s, m)
	}
	return nil
}

func (h *told) Cancelled(_ *Session, r Ref) { h.add(r) }

func (h *told) Away(*Session) { h.add(awayEvent{}) }

func (h *told) Ended(_ *Session, why Code) { h.add(endedEvent{why}) }

// next gives the next event that is no awayEvent; nil: there is none.
func (h *told) next() any {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.events) > 0 {
		e := h.events[0]
		h.events = h.events[1:]
		if _, away := e.(awayEvent); !away {
			return e
		}
	}
	return nil
}

func sameJSON(t *testing.T, got string, want any) {
	t.Helper()
	var a, b any
	if err := json.Unmarshal([]byte(got), &a); err != nil {
		t.Fatalf("%q is not JSON: %v", got, err)
	}
	text, ok := want.(json.RawMessage)
	if !ok {
		text = marshal(t, want)
	}
	if err := json.Unmarshal(text, &b); err != nil {
		t.Fatalf("%q is not JSON: %v", text, err)
	}
	if !reflect.DeepEqual(a, b) {
		t.Fatalf("got  %s\nwant %s", got, text)
	}
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// pushed pushes data that must be taken.
func pushed(t testing.TB, s *Session, data any) Pushed {
	t.Helper()
	p, err := s.hub.NewMessage(marshal(t, data), false)
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Push(p)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func opened(t testing.TB, h *Hub, page string, o Owner) *Session {
	t.Helper()
	s, err := h.Open(page, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// joined attaches a client.
func joined(t testing.TB, h *Hub, hello Hello) (*Attachment, *wire) {
	t.Helper()
	w := &wire{}
	hello.Version = Version
	a, refusal := h.Attach(hello, "", w)
	if refusal != nil {
		t.Fatal(refusal)
	}
	return a, w
}

func greeted(t testing.TB, w *wire) greeting {
	t.Helper()
	var g greeting
	if err := json.Unmarshal([]byte(w.take()), &g); err != nil || g.Type != "hello" {
		t.Fatalf("the first frame is no hello: %+v, %v", g, err)
	}
	return g
}

func received(t testing.TB, a *Attachment, format string, args ...any) {
	t.Helper()
	if refusal := a.Receive(fmt.Appendf(nil, format, args...)); refusal != nil {
		t.Fatal(refusal)
	}
}
