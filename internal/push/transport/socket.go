package transport

import (
	"errors"
	"sync"
	"time"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/push"
)

// socket is a client's WebSocket. Its first message is the hello, which attaches it.
type socket struct {
	server *Server
	caller
	id     string // of the request, for the log
	wire   exchange.Socket
	late   *time.Timer // no hello came; nil once one did
	client any         // see Options.Client; until the hello

	mu       sync.Mutex // guards the rest
	attached *push.Attachment
	over     bool
}

var errNoUpgrade = errors.New("nothing in front of push makes a WebSocket of a request")

// upgrade takes a WebSocket over. Its Origin was checked by the step that gave the
// Upgrader.
func (s *Server) upgrade(x *exchange.Exchange) {
	if x.Upgrader == nil {
		x.Fail(&exchange.Problem{Status: 400, Code: "bad_websocket", Err: errNoUpgrade})
		return
	}
	if problem := x.Upgrader.Check(x); problem != nil {
		x.Fail(problem)
		return
	}
	connection, problem := s.opts.Connection(x)
	if problem != nil {
		x.Fail(problem)
		return
	}
	k := &socket{server: s, caller: caller{connection, s.opts.Still(x), s.opts.Stale(x)}, id: x.ID, client: s.opts.Client(x)}
	wire, err := x.Upgrader.Upgrade(x, nil, k)
	if err != nil {
		if errors.As(err, &problem) {
			x.Fail(problem)
		} else {
			x.Answer.Abort(err)
		}
		return
	}
	k.wire = wire
	k.late = time.AfterFunc(s.hub.Options().Hello, func() { k.Close(push.CodeHello) })
	wire.Start()
}

// Message is [exchange.SocketHandler].
func (k *socket) Message(text bool, p []byte) {
	k.mu.Lock()
	a, over := k.attached, k.over
	k.mu.Unlock()
	switch {
	case over:
	case !text:
		k.Close(push.CodeProtocol)
	case a != nil:
		if refusal := a.Receive(p); refusal != nil {
			k.refused(refusal)
		}
	default:
		k.hello(p)
	}
}

func (k *socket) hello(p []byte) {
	k.late.Stop()
	hello, refusal := push.DecodeHello(p)
	if refusal == nil {
		var a *push.Attachment
		if a, refusal = k.server.attach(k.caller, hello, k); refusal == nil {
			k.server.opts.Met(a.Session(), k.client)
			k.client = nil
			k.mu.Lock()
			k.attached = a
			over := k.over
			k.mu.Unlock()
			if over {
				a.Lost()
			}
			return
		}
	}
	k.refused(refusal)
	k.Close(refusal.Code)
}

func (k *socket) refused(r *push.Refusal) {
	k.server.opts.Log.Debug("push frames refused", "request_id", k.id, "code", r.Code.Name(), "error", r)
}

// Drained is [exchange.SocketHandler].
func (k *socket) Drained() {}

// Closed is [exchange.SocketHandler].
func (k *socket) Closed(exchange.SocketEnd) {
	k.late.Stop()
	k.mu.Lock()
	a := k.attached
	k.over = true
	k.mu.Unlock()
	if a != nil {
		a.Lost()
	}
}

// Send is [push.Transport].
func (k *socket) Send(frame []byte) (int, error) { return k.wire.Send(true, frame, true) }

// Close is [push.Transport].
func (k *socket) Close(code push.Code) {
	k.mu.Lock()
	first := !k.over
	k.over = true
	k.mu.Unlock()
	if first {
		k.wire.Close(closeCode(code), code.Name())
	}
}

// closeCode is what a WebSocket says: a code is needed also for a connection that is
// thought lost.
func closeCode(code push.Code) uint16 {
	if code == 0 {
		return exchange.CloseNormal
	}
	return uint16(code)
}
