package transport

import (
	"sync"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/push"
)

// stream is an answer of server-sent events, one for each frame. The exchange's
// goroutine writes; whoever sends only queues and rings.
type stream struct {
	x *exchange.Exchange

	mu      sync.Mutex // guards the rest
	queue   []byte
	leaving int // bytes that the goroutine has taken and not yet written
	closed  bool
	gone    bool // the exchange has ended: x must not be touched
}

// Send is [push.Transport].
func (t *stream) Send(frame []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return 0, exchange.ErrClientGone
	}
	t.queueLocked(frame)
	return len(t.queue) + t.leaving, nil
}

func (t *stream) queueLocked(frame []byte) {
	t.queue = append(append(append(t.queue, "data: "...), frame...), "\n\n"...)
	t.ringLocked()
}

// Close is [push.Transport].
func (t *stream) Close(code push.Code) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	if code == push.CodeSlow {
		t.queue = nil // it would wait for it in vain; what is missing comes when it is back
	}
	if code != 0 {
		t.queueLocked(push.CloseFrame(code))
	}
	t.closed = true
	t.ringLocked()
}

func (t *stream) ringLocked() {
	if !t.gone {
		t.x.Ring()
	}
}

// take gives what is to be written.
func (t *stream) take() (chunk []byte, closed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	chunk, t.queue = t.queue, nil
	t.leaving = len(chunk)
	return chunk, t.closed
}

func (t *stream) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed, t.gone, t.queue = true, true, nil
}

// eventStream is the head of the answer. Proxies are asked not to gather it.
var eventStream = []exchange.Field{
	{Name: []byte("Content-Type"), Value: []byte("text/event-stream")},
	{Name: []byte("Cache-Control"), Value: []byte("no-store, no-transform")},
	{Name: []byte("X-Accel-Buffering"), Value: []byte("no")},
}

// stream attaches a client and writes its frames until one side ends.
func (s *Server) stream(x *exchange.Exchange, c caller, body []byte) {
	t := &stream{x: x}
	defer t.leave()
	if !s.enter(t) {
		x.Fail(&exchange.Problem{Status: 503, Code: "stopping", RetryAfter: 1})
		return
	}
	defer s.forget(t)
	hello, refusal := push.DecodeHello(body)
	var a *push.Attachment
	if refusal == nil {
		a, refusal = s.attach(c, hello, t)
	}
	if refusal != nil {
		s.opts.Log.Debug("push connection refused", "request_id", x.ID, "code", refusal.Code.Name(), "error", refusal)
		t.Close(refusal.Code)
	} else {
		defer a.Lost()
		s.opts.Met(a.Session(), s.opts.Client(x)) // before the client hears that it is there
	}
	if err := x.Answer.Head(exchange.Head{Status: 200, Fields: eventStream, Length: -1}); err != nil {
		return
	}
	for x.Gone() == exchange.Present {
		chunk, closed := t.take()
		if len(chunk) > 0 {
			if _, err := x.Answer.Write(chunk); err != nil {
				return
			}
			if err := x.Answer.Flush(); err != nil {
				return
			}
			continue
		}
		if closed {
			return
		}
		x.Wait()
	}
}

func (s *Server) enter(t *stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.streams[t] = struct{}{}
	return true
}

func (s *Server) forget(t *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, t)
}
