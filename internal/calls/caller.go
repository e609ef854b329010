package calls

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/guado-server/guado/internal/link"
)

// caller is a worker that calls.
type caller struct {
	mux       *Mux
	to        *link.Link
	name      Caller
	executors link.Callee
	ctx       context.Context // ends with the worker
	over      context.CancelFunc

	mu      sync.Mutex // guards all below
	calls   map[uint32]*call
	bytes   int
	queue   []*call // those that are answered in order
	running bool    // a goroutine takes them from the queue
	ended   bool
}

// call is one on its way.
type call struct {
	id     uint32
	verb   *verb
	data   []byte
	ms     uint32
	cancel context.CancelFunc // of a verb that waits
	mark   chan struct{}      // no call: closed when its turn comes
}

var errTwice = errors.New("a call with this number is under way")

// Call answers, now or later.
func (w *caller) Call(id uint32, c link.Call) {
	if c.What != link.CallHost {
		w.executors.Call(id, c)
		return
	}
	v := w.mux.verb(c.Name)
	switch {
	case v == nil:
		w.refuse(w.to.Reply, id, unknown(c.Name))
		return
	case c.TooLarge:
		w.refuse(w.to.Reply, id, Errorf(413, "call_too_large", "%s with more than %d MiB", c.Name, maxBytes>>20))
		return
	}
	one := &call{id: id, verb: v, data: c.Data, ms: c.TimeoutMS}
	if v.quick && w.first(id) {
		result, err := v.run(w.ctx, w.name, c.Data)
		w.tell(w.ctx, id, result, err, w.to.ReplyNow)
		return
	}
	ctx := w.ctx
	if v.waiting {
		ctx, one.cancel = w.patience(c.TimeoutMS)
	}
	start, err := w.enter(one)
	switch {
	case err != nil:
		if one.cancel != nil {
			one.cancel()
		}
		w.refuse(w.to.Reply, id, Errorf(503, "queue_full", "%s: %v", c.Name, err))
	case v.waiting:
		w.mux.wait.Go(func() {
			defer one.cancel()
			w.answer(ctx, one, w.to.Reply)
		})
	case start:
		w.mux.wait.Go(w.drain)
	}
}

// first reports whether nothing that is answered in order waits or is being answered. Calls
// come one after the other, so that stays so until this one is answered.
func (w *caller) first(id uint32) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.running && !w.ended && w.calls[id] == nil
}

// patience is the context of a call that may wait.
func (w *caller) patience(ms uint32) (context.Context, context.CancelFunc) {
	if ms == 0 {
		return context.WithCancel(w.ctx)
	}
	return context.WithTimeout(w.ctx, time.Duration(ms)*time.Millisecond)
}

// enter counts a call; start: there is a queue again and nobody who takes from it.
func (w *caller) enter(one *call) (start bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.ended:
		return false, link.ErrClosed
	case w.calls[one.id] != nil:
		return false, errTwice
	case len(w.calls) >= maxCalls:
		return false, fmt.Errorf("this worker has %d calls under way already", maxCalls)
	case w.bytes+len(one.data) > maxBytes:
		return false, fmt.Errorf("the calls of this worker hold %d MiB already", w.bytes>>20)
	}
	w.calls[one.id] = one
	w.bytes += len(one.data)
	if one.verb.waiting {
		return false, nil
	}
	w.queue = append(w.queue, one)
	start, w.running = !w.running, true
	return start, nil
}

// leave forgets a call; false when that was done already.
func (w *caller) leave(one *call) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.leaveLocked(one)
}

func (w *caller) leaveLocked(one *call) bool {
	if w.calls[one.id] != one {
		return false
	}
	delete(w.calls, one.id)
	w.bytes -= len(one.data)
	return true
}

// drain answers what is queued, and ends with the queue.
func (w *caller) drain() {
	var answered time.Time // the first one for which nobody was woken
	for {
		w.mu.Lock()
		if !answered.IsZero() && (len(w.queue) == 0 || time.Since(answered) > mostAsleep) {
			w.mu.Unlock()
			w.to.WakeCallers()
			answered = time.Time{}
			continue
		}
		if len(w.queue) == 0 {
			w.running, w.queue = false, nil
			ended := w.ended
			w.mu.Unlock()
			if ended {
				w.tellEnd()
			}
			return
		}
		one := w.queue[0]
		w.queue[0] = nil
		w.queue = w.queue[1:]
		under := w.calls[one.id] == one
		w.mu.Unlock()
		if one.mark != nil {
			close(one.mark)
			continue
		}
		// Else it was cancelled.
		if under && w.answer(w.ctx, one, w.to.ReplyFirst) && answered.IsZero() {
			answered = time.Now()
		}
	}
}

// mostAsleep is how long an answer waits for others that leave with it: those behind it may
// be broadcasts, of which each takes a while.
const mostAsleep = time.Millisecond

// reply sends an answer: [link.Link.Reply], or ReplyFirst where WakeCallers will follow.
type reply func(id uint32, status uint16, code string, data []byte) error

// answer runs a call and sends what came of it; false when that comes later, or nobody
// waits any more.
func (w *caller) answer(ctx context.Context, one *call, to reply) bool {
	result, err := one.verb.run(ctx, w.name, one.data)
	if later, ok := result.(Later); ok && err == nil {
		w.wait(one, later)
		return false
	}
	return w.finish(ctx, one, result, err, to)
}

// wait lets a call that has been run in its order wait for its result.
func (w *caller) wait(one *call, later Later) {
	ctx, cancel := w.patience(one.ms)
	w.mu.Lock()
	if w.calls[one.id] != one { // cancelled meanwhile
		w.mu.Unlock()
		cancel()
		return
	}
	one.cancel = cancel
	w.mu.Unlock()
	w.mux.wait.Go(func() {
		defer cancel()
		result, err := later(ctx)
		w.finish(ctx, one, result, err, w.to.Reply)
	})
}

// settle waits for the calls that are queued.
func (w *caller) settle() {
	w.mu.Lock()
	if !w.running || w.ended {
		w.mu.Unlock()
		return
	}
	one := &call{mark: make(chan struct{})}
	w.queue = append(w.queue, one)
	w.mu.Unlock()
	select {
	case <-one.mark:
	case <-w.ctx.Done():
	}
}

func (w *caller) finish(ctx context.Context, one *call, result any, err error, to reply) bool {
	if !w.leave(one) {
		return false
	}
	w.tell(ctx, one.id, result, err, to)
	return true
}

// tell answers. A link that has ended needs no answer.
func (w *caller) tell(ctx context.Context, id uint32, result any, err error, to reply) {
	var data []byte
	if err == nil {
		data, err = encode(result)
	}
	if err != nil {
		w.refuse(to, id, reason(ctx, err))
		return
	}
	_ = to(id, 200, "", data)
}

// appender is a result that is written often.
type appender interface{ AppendJSON(b []byte) []byte }

func encode(result any) ([]byte, error) {
	if result == nil {
		return []byte("{}"), nil
	}
	if known, is := result.(appender); is {
		return known.AppendJSON(nil), nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(result); err != nil {
		return nil, fmt.Errorf("the result of a call as JSON: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// reason is what a caller is told of an error.
func reason(ctx context.Context, err error) *Error {
	e := (*Error)(nil)
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil:
		return Errorf(504, "deadline", "not within the time of the call")
	}
	return Errorf(500, "failed", "%v", err)
}

// refuse answers without a result. A link that has ended needs no answer.
func (w *caller) refuse(to reply, id uint32, e *Error) {
	_ = to(id, uint16(e.Status), e.Code, []byte(e.Text))
}

// Cancel ends a call that nobody waits for any more: one that is queued is never run.
func (w *caller) Cancel(id uint32) {
	w.mu.Lock()
	one := w.calls[id]
	var cancel context.CancelFunc
	if one != nil {
		w.leaveLocked(one)
		cancel = one.cancel
	}
	w.mu.Unlock()
	switch {
	case one == nil:
		w.executors.Cancel(id)
	case cancel != nil:
		cancel()
	}
}

// End ends what a worker that has ended waits for, and, behind the calls that it had made
// in their order, what it declared. Those are still done: what it pushed before its end was
// pushed, though the host was behind.
func (w *caller) End() {
	w.over()
	w.mux.forget(w)
	w.mu.Lock()
	first := !w.ended
	w.ended = true
	running := w.running
	w.mu.Unlock()
	w.executors.End()
	if first && !running {
		w.mux.wait.Go(w.tellEnd)
	}
}

func (w *caller) tellEnd() {
	for _, f := range w.mux.known.Load().ended {
		f(w.name)
	}
}
