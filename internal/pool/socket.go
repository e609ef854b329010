package pool

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/link"
)

// backlog is how much may wait for a client before the worker gets no more credit: its
// send() then waits.
const backlog = 64 << 10

// session is a WebSocket that an application has accepted. It has its flight, which
// goes on to hold a place of the worker, and the stream. The socket's goroutine brings
// messages of the client; those of the worker are carried by a goroutine that runs
// while there are any, so that an idle session has none.
type session struct {
	f      *flight
	log    *slog.Logger
	socket exchange.Socket
	room   chan struct{} // there may be credit for a message, or nobody wants it

	// state is bits, and no lock: the link rings while it is being used under mu.
	state atomic.Uint32

	over bool // before it began

	mu     sync.Mutex // guards the rest, and the use of the stream but for Take
	s      *link.Stream
	ended  bool // the stream is another's
	gone   bool // client says how
	client exchange.SocketEnd
	owed   int // credit for what waits for the client

	frames []link.Frame // the carrying goroutine's
}

// Bits of session.state.
const (
	carrying uint32 = 1 << iota // somebody looks at the news
	unseen                      // and there are more
	left                        // nobody will any more
)

// upgrade answers the client with 101 and goes on as a session. rest are frames behind
// the head.
func (f *flight) upgrade(s *link.Stream, x *exchange.Exchange, head *exchange.Head, rest []link.Frame) (verdict, *exchange.Problem) {
	k := &session{f: f, s: s, room: make(chan struct{}, 1)}
	k.state.Store(carrying | unseen) // nobody has looked since the head came
	k.log = f.pool.opts.Log.With("request_id", x.ID, "app", f.app.opts.Load().Name, "worker", x.Worker)
	socket, err := x.Upgrader.Upgrade(x, head.Fields, k)
	if err != nil {
		problem := (*exchange.Problem)(nil)
		if !errors.As(err, &problem) {
			problem = f.unsent(x, err)
		}
		return f.depart(s, link.CancelGone, problem)
	}
	k.socket = socket
	f.begun.Store(true)
	for i := range rest {
		k.over = k.over || k.deliver(&rest[i])
	}
	f.upgraded = k
	return upgraded, nil
}

// begin lets the session run. The flight is its own from here on.
func (k *session) begin() {
	f := k.f
	f.upgraded = nil
	f.body.drop()
	f.request, f.fields, f.frames = nil, nil, nil
	f.x.Store(nil)
	f.session.Store(k)
	over, s := k.over, k.s
	k.socket.Start()
	if over {
		k.end()
		return
	}
	f.pool.checkLeaving(f)
	s.SetBell(k)
	go k.carry()
}

// Ring is the link's, and that of the flight's news.
func (k *session) Ring() {
	select {
	case k.room <- struct{}{}:
	default:
	}
	for {
		old := k.state.Load()
		if old&left != 0 || old == carrying|unseen {
			return
		}
		if k.state.CompareAndSwap(old, carrying|unseen) {
			if old&carrying == 0 {
				go k.carry()
			}
			return
		}
	}
}

// carry looks at everything that has news until there are none. It never waits.
func (k *session) carry() {
	for {
		k.state.Store(carrying)
		k.mu.Lock()
		gone, client := k.gone, k.client
		k.mu.Unlock()
		if k.look(gone, client) {
			k.end()
			return
		}
		if k.state.CompareAndSwap(carrying, 0) {
			return
		}
	}
}

// look is one round; true: the session is over.
func (k *session) look(gone bool, client exchange.SocketEnd) bool {
	lost := k.s.Err() // before Take: frames that came before the end are still there
	k.frames = k.s.Take(k.frames[:0])
	if kept := k.f.pool.opts.Kept; kept != nil && len(k.frames) > 0 {
		if err := kept(); err != nil {
			k.log.Warn("a WebSocket is closed: what its messages rest on cannot be kept", "error", err)
			k.socket.Close(exchange.CloseRestart, "state cannot be kept now")
			k.disconnect(exchange.CloseRestart, "")
			return true
		}
	}
	for i := range k.frames {
		if k.deliver(&k.frames[i]) {
			return true
		}
	}
	clear(k.frames)
	switch {
	case lost != nil:
		k.f.pool.count(func(c *Counters) { c.Lost++ })
		k.socket.Close(exchange.CloseRestart, "the worker has ended")
		return true
	case gone:
		if client.Err != nil {
			k.log.Debug("a WebSocket ended without a close frame", "error", client.Err)
		}
		k.disconnect(client.Code, client.Reason)
		return true
	case k.f.news.Load() != 0:
		if k.f.news.Swap(0)&(newsStopping|newsRestart) != 0 {
			k.socket.Close(exchange.CloseRestart, "the server restarts")
			k.disconnect(exchange.CloseRestart, "")
			return true
		}
	}
	return false
}

func (k *session) disconnect(code uint16, reason string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.s.Disconnect(code, reason)
}

// end leaves the stream to the link, until the worker is through with it.
func (k *session) end() {
	k.mu.Lock()
	k.ended = true
	k.state.Store(left)
	s, landing := k.s, k.f.landing
	k.mu.Unlock()
	select {
	case k.room <- struct{}{}: // who waits for credit is not wanted any more
	default:
	}
	k.f.session.Store(nil)
	s.Abandon(landing)
}

// deliver passes on one frame of the worker; true: the session is over.
func (k *session) deliver(fr *link.Frame) bool {
	switch fr.Kind {
	case link.KindMessageUp:
		k.send(fr)
	case link.KindClose:
		code := uint16(fr.Arg)
		if !sendable(fr.Arg) {
			k.refuse("close code %d", fr.Arg)
			code = exchange.CloseRestart
		}
		k.socket.Close(code, string(fr.Payload))
		return true
	case link.KindAbort:
		k.aborted(fr)
		return true
	case link.KindDone:
		return true
	default:
		k.refuse("%v after a WebSocket was accepted", fr.Kind)
		k.socket.Close(exchange.CloseRestart, "the worker has ended")
		return true
	}
	return false
}

func (k *session) refuse(format string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.s.Refuse(link.Corrupt(format, args...))
}

// sendable are the codes that a close frame may have; 1005: it has none.
func sendable(code uint32) bool {
	switch {
	case code == exchange.CloseNoStatus, code >= 1000 && code <= 1003, code >= 1007 && code <= 1014, code >= 3000 && code <= 4999:
		return true
	}
	return false
}

// send sends a message, and gives credit back when the client keeps up.
func (k *session) send(fr *link.Frame) {
	cost := len(fr.Payload)
	last := fr.Flags&link.More == 0
	if last {
		cost += link.MessageCost
	}
	// An error is the socket's end, of which Closed tells.
	waiting, _ := k.socket.Send(fr.Arg == link.MessageText, fr.Payload, last)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.owed += cost
	if waiting <= backlog {
		k.s.Credit(k.owed)
		k.owed = 0
	}
}

// Drained is [exchange.SocketHandler]: the client has caught up.
func (k *session) Drained() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.ended && k.owed > 0 {
		k.s.Credit(k.owed)
		k.owed = 0
	}
}

// Message is [exchange.SocketHandler]. It waits for credit: a client that sends more
// than the application takes is not read.
func (k *session) Message(text bool, p []byte) {
	kind := link.MessageBinary
	if text {
		kind = link.MessageText
	}
	for {
		k.mu.Lock()
		if k.ended {
			k.mu.Unlock()
			return
		}
		rest, done, err := k.s.Message(kind, p)
		k.mu.Unlock()
		if done || err != nil {
			return
		}
		p = rest
		<-k.room
	}
}

// Closed is [exchange.SocketHandler].
func (k *session) Closed(e exchange.SocketEnd) {
	k.mu.Lock()
	k.gone, k.client = true, e
	k.mu.Unlock()
	k.Ring()
}

// aborted closes the socket of an application that has failed.
func (k *session) aborted(fr *link.Frame) {
	text := strings.TrimRight(string(fr.Payload), "\n")
	switch fr.Arg {
	case link.AbortException:
		// The worker has logged the traceback, with the request id.
		k.log.Debug("the application raised an exception", "error", text)
		k.socket.Close(exchange.CloseInternal, "")
	case link.AbortProtocol:
		k.log.Error("the application broke the protocol", "error", text)
		k.socket.Close(exchange.CloseInternal, "")
	default:
		k.socket.Close(exchange.CloseRestart, "the server restarts")
	}
}

// EndSockets closes all WebSockets with 1012, for the server stops.
func (p *Pool) EndSockets() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.workers {
		w.endSockets()
	}
}

// endSockets is part of it for one worker. Called with p.mu held.
func (w *worker) endSockets() {
	for f := w.sides[asgi].flights.first; f != nil; f = f.next {
		if f.session.Load() != nil {
			f.tell(newsRestart)
		}
	}
}

// checkLeaving ends a session that began on a worker that must not have it any more.
func (p *Pool) checkLeaving(f *flight) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping || f.seat != nil && f.seat.leaving {
		f.tell(newsRestart)
	}
	p.tellIdle()
}
