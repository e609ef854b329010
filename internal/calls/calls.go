// Package calls answers what workers ask of the host itself: who a client is, a push to a
// page, an event. Each verb belongs to the part of the host that registers it.
// Before it: link, which brings the calls. After it: identity, pages and the bus, as
// functions that the root package registers.
// Not here: executors, whose calls go on to their own callee; what a verb means.
package calls

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/guado-server/guado/internal/link"
)

// Bounds of what one worker can make the host keep.
const (
	maxCalls = 4096
	maxBytes = 64 << 20 // of data
)

// Caller is the worker that asks.
type Caller struct {
	Group string
	Slot  string
	// Worker numbers the process: its successor in the same slot has another one.
	Worker uint64
	Link   *link.Link // nil: it did not come over one
}

// Func answers a verb. Its result goes back as JSON; nil is an empty object. An error
// that is an [*Error] reaches the caller as it says, any other with the code "failed".
// The context ends with the worker, and for a verb that waits also when the call is
// cancelled or its time is over.
type Func func(ctx context.Context, c Caller, data []byte) (any, error)

// Later is a result that is still to come: what had to be done in the order of the calls is
// done, and what is left waits beside the others. Its context also ends when the call is
// cancelled or its time is over.
type Later func(ctx context.Context) (any, error)

// Error is why a call has no result.
type Error struct {
	Status int
	Code   string
	Text   string // for people
}

func (e *Error) Error() string { return e.Text }

// Errorf makes an [*Error].
func Errorf(status int, code, format string, args ...any) *Error {
	return &Error{Status: status, Code: code, Text: fmt.Sprintf(format, args...)}
}

// Decode reads the data of a call.
func Decode(data []byte, into any) error {
	if err := json.Unmarshal(data, into); err != nil {
		return Errorf(400, "bad_call", "the data of the call cannot be read: %v", err)
	}
	return nil
}

// Mux knows the verbs. They may be registered while workers call, by one goroutine at a time.
type Mux struct {
	wait   sync.WaitGroup
	serial atomic.Uint64
	known  atomic.Pointer[known]

	mu      sync.Mutex           // guards callers
	callers map[string][]*caller // whose link is there, by their slots
}

// known is what has been registered. It never changes: another one takes its place.
type known struct {
	verbs map[string]*verb
	ended []func(Caller)
}

type verb struct {
	name    string
	waiting bool
	quick   bool
	all     []Func
}

// New makes a mux that knows no verb.
func New() *Mux {
	m := &Mux{callers: map[string][]*caller{}}
	m.known.Store(&known{verbs: map[string]*verb{}})
	return m
}

// Handle registers a verb. The calls of one worker are answered one after the other, in
// the order in which it made them, so f must not wait. Where several register a verb, all
// of them hear of a call: the first error ends it, else the last result is answered.
func (m *Mux) Handle(name string, f Func) { m.register(verb{name: name}, f) }

// HandleWaiting registers a verb that may wait: its calls run beside each other and beside
// the others.
func (m *Mux) HandleWaiting(name string, f Func) { m.register(verb{name: name, waiting: true}, f) }

// HandleQuick registers a verb as Handle does, of a few microseconds in memory: where nothing
// of the worker waits before it, it is answered by who reads the link.
func (m *Mux) HandleQuick(name string, f Func) { m.register(verb{name: name, quick: true}, f) }

func (m *Mux) register(as verb, f Func) {
	now := m.known.Load()
	name, v := as.name, &as
	if before := now.verbs[name]; before != nil {
		if before.waiting != v.waiting {
			panic(fmt.Sprintf("calls: the verb %q is registered both as one that waits and as one that does not", name))
		}
		v.quick = v.quick && before.quick
		v.all = slices.Clip(before.all)
	}
	v.all = append(v.all, f)
	next := &known{verbs: maps.Clone(now.verbs), ended: now.ended}
	next.verbs[name] = v
	m.known.Store(next)
}

// HandleEnd registers what is to be done when the link of a worker has ended: what it
// declared is forgotten. It comes after the last of its calls that are answered in order.
func (m *Mux) HandleEnd(f func(Caller)) {
	now := m.known.Load()
	m.known.Store(&known{verbs: now.verbs, ended: append(slices.Clip(now.ended), f)})
}

// verb is the one of a name; nil: there is none.
func (m *Mux) verb(name string) *verb { return m.known.Load().verbs[name] }

// Verbs are the names of what can be called.
func (m *Mux) Verbs() []string {
	return slices.Sorted(maps.Keys(m.known.Load().verbs))
}

// Do answers a call that did not come over a link, as the worker's own would be.
func (m *Mux) Do(ctx context.Context, c Caller, name string, data []byte) (any, error) {
	v := m.verb(name)
	if v == nil {
		return nil, unknown(name)
	}
	result, err := v.run(ctx, c, data)
	if later, ok := result.(Later); ok && err == nil {
		return later(ctx)
	}
	return result, err
}

func unknown(name string) *Error {
	return Errorf(404, "unknown_call", "the host knows no call %q", name)
}

func (v *verb) run(ctx context.Context, c Caller, data []byte) (result any, err error) {
	for _, f := range v.all {
		if result, err = f(ctx, c, data); err != nil {
			return nil, err
		}
	}
	return result, nil
}

// Settle returns when the calls that the worker of a slot has made so far, and that are
// answered in order, are answered: what it says by other ways then comes behind them.
func (m *Mux) Settle(slot string) {
	m.mu.Lock()
	all := slices.Clone(m.callers[slot])
	m.mu.Unlock()
	for _, w := range all {
		w.settle()
	}
}

// Wait returns when no call is under way. Nothing may call any more.
func (m *Mux) Wait() { m.wait.Wait() }

// Callee answers the calls that come over a link: those of verbs here, the tasks of
// executors there.
func (m *Mux) Callee(l *link.Link, c Caller, executors link.Callee) link.Callee {
	return m.caller(l, c, executors)
}

func (m *Mux) caller(to *link.Link, c Caller, executors link.Callee) *caller {
	c.Worker, c.Link = m.serial.Add(1), to
	w := &caller{mux: m, to: to, name: c, executors: executors, calls: map[uint32]*call{}}
	w.ctx, w.over = context.WithCancel(context.Background())
	m.mu.Lock()
	m.callers[c.Slot] = append(m.callers[c.Slot], w)
	m.mu.Unlock()
	return w
}

func (m *Mux) forget(w *caller) {
	m.mu.Lock()
	defer m.mu.Unlock()
	slot := w.name.Slot
	if m.callers[slot] = slices.DeleteFunc(m.callers[slot], func(o *caller) bool { return o == w }); len(m.callers[slot]) == 0 {
		delete(m.callers, slot)
	}
}
