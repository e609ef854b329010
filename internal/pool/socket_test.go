package pool_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/guado-server/guado/internal/edge"
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/link/linktest"
	"github.com/guado-server/guado/internal/pool"
	"github.com/guado-server/guado/internal/websocket"
	"github.com/guado-server/guado/test/harness"
)

// newSocketRig is a rig with the step in front that makes WebSockets.
func newSocketRig(t *testing.T, o pool.Options) *rig {
	t.Helper()
	sockets := websocket.New(websocket.Options{})
	var step exchange.Handler
	first := exchange.HandlerFunc(func(x *exchange.Exchange) { step.Serve(x) })
	r := newRigBehind(t, edge.Options{Handler: first}, o, pool.AppOptions{Name: "app"})
	var err error
	if step, err = websocket.NewStep(sockets, r.app, websocket.Policy{Limits: websocket.Limits{Message: 1 << 20, Fragments: 100, Waiting: 8 << 20}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sockets.Close)
	return r
}

// accepting accepts each WebSocket and hands it to the test.
func accepting(t *testing.T) (chan *linktest.Request, func(*worker, *linktest.Request)) {
	all := make(chan *linktest.Request, 100)
	return all, func(w *worker, q *linktest.Request) {
		if q.Flags&16 == 0 {
			w.reply(q, 200, "plain")
			return
		}
		if err := q.Head(101, -1); err != nil {
			t.Error(err)
		}
		all <- q
		<-w.dead // frames are the request's for as long as this runs
	}
}

type end struct {
	t *testing.T
	net.Conn
	br *bufio.Reader
}

func (r *rig) socket(t *testing.T) *end {
	t.Helper()
	conn, br, _, err := ws.Dialer{Timeout: patience}.Dial(context.Background(), "ws://"+r.address+"/")
	if err != nil {
		t.Fatal(err)
	}
	if br == nil {
		br = bufio.NewReader(conn)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &end{t, conn, br}
}

func (e *end) want(op ws.OpCode, text string) {
	e.t.Helper()
	f, err := harness.ReadFrame(e.br)
	if err != nil || f.Header.OpCode != op || string(f.Payload) != text {
		e.t.Fatalf("got %v %.100q %v, want %v %.100q", f.Header.OpCode, f.Payload, err, op, text)
	}
}

func (e *end) wantClose(code ws.StatusCode) {
	e.t.Helper()
	for {
		f, err := harness.ReadFrame(e.br)
		if err != nil {
			e.t.Fatalf("no close frame: %v", err)
		}
		if f.Header.OpCode != ws.OpClose {
			continue
		}
		if got, why := ws.ParseCloseFrameData(f.Payload); got != code {
			e.t.Fatalf("closed with %d %q, want %d", got, why, code)
		}
		return
	}
}

func asgiPlaces(r *rig) (n int) {
	for _, w := range r.pool.Status().Workers {
		n += w.ASGI
	}
	return n
}

func TestAWebSocketHoldsItsPlaceUntilTheWorkerIsThrough(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		r := newSocketRig(t, pool.Options{Concurrency: 1})
		all, handler := accepting(t)
		r.attach(transport, "asgi", 0, handler)
		c := r.socket(t)
		q := receive(t, "a WebSocket", all)
		// Idle is about requests: a pause does not wait for sockets that are open.
		if err := r.pool.Idle(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := ws.WriteFrame(c, ws.MaskFrame(ws.NewTextFrame([]byte("up")))); err != nil {
			t.Fatal(err)
		}
		if f := receive(t, "a message", q.Said); f.Kind != link.KindMessage || f.Arg != link.MessageText || string(f.Payload) != "up" {
			t.Fatalf("%+v", f)
		}
		if err := q.Say(link.KindMessageUp, 0, link.MessageBinary, "down"); err != nil {
			t.Fatal(err)
		}
		c.want(ws.OpBinary, "down")
		answers := make(chan reply, 1)
		go func() { answers <- r.do(client(), "GET", "/", "") }()
		eventually(t, "a request waits for the place", func() bool { return r.pool.Status().Waiting == 1 })
		if err := q.Say(link.KindClose, link.End|link.Busy, 4000, "enough"); err != nil {
			t.Fatal(err)
		}
		c.wantClose(4000)
		if got := r.pool.Status().Waiting; got != 1 {
			t.Fatalf("%d wait: the place was given away before DONE", got)
		}
		if err := q.Say(link.KindDone, 0, 0, ""); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, "an answer", answers); got.status != 200 {
			t.Fatalf("%+v", got)
		}
	})
}

func TestAClientThatLeavesIsADisconnectAndItsPlaceIsGivenBackAtTheEnd(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		r := newSocketRig(t, pool.Options{Concurrency: 10})
		all, handler := accepting(t)
		r.attach(transport, "asgi", 0, handler)
		c := r.socket(t)
		q := receive(t, "a WebSocket", all)
		_ = c.Close()
		if f := receive(t, "a disconnect", q.Said); f.Kind != link.KindDisconnect || f.Arg != 1006 {
			t.Fatalf("%+v", f)
		}
		if n := asgiPlaces(r); n != 1 {
			t.Fatalf("%d places are held", n)
		}
		// What the application still sends costs nobody anything.
		for range 10 {
			if err := q.Say(link.KindMessageUp, 0, link.MessageText, strings.Repeat("x", 1000)); err != nil {
				t.Fatal(err)
			}
		}
		if err := q.Say(link.KindAbort, 0, link.AbortCancelled, ""); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the place is free", func() bool { return asgiPlaces(r) == 0 })
	})
}

func TestAWorkerThatIsToLeaveClosesItsWebSocketsWith1012(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		r := newSocketRig(t, pool.Options{Concurrency: 10, Workers: 2})
		all, handler := accepting(t)
		first := r.attach(transport, "asgi", 0, handler)
		c := r.socket(t)
		q := receive(t, "a WebSocket", all)
		r.attach(transport, "asgi", 0, handler)
		r.pool.Cordon(first.link)
		c.wantClose(1012)
		if f := receive(t, "a disconnect", q.Said); f.Kind != link.KindDisconnect || f.Arg != 1012 {
			t.Fatalf("%+v", f)
		}
		c = r.socket(t)
		if q = receive(t, "the next WebSocket", all); q == nil {
			t.Fatal("none")
		}
		first.kill()
		if err := q.Say(link.KindMessageUp, 0, link.MessageText, "from the successor"); err != nil {
			t.Fatal(err)
		}
		c.want(ws.OpText, "from the successor")
	})
}

func TestAWorkerThatDiesOrLiesClosesItsWebSocketsWith1012(t *testing.T) {
	for name, it := range map[string]func(w *worker, q *linktest.Request) error{
		"dies":                 func(w *worker, _ *linktest.Request) error { w.kill(); return nil },
		"a close code of 1006": func(_ *worker, q *linktest.Request) error { return q.Say(link.KindClose, link.End, 1006, "") },
		"a body": func(_ *worker, q *linktest.Request) error {
			return q.Say(link.KindResponseBody, 0, 0, "not a message")
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, transport string) {
				r := newSocketRig(t, pool.Options{Concurrency: 10})
				all, handler := accepting(t)
				w := r.attach(transport, "asgi", 0, handler)
				c := r.socket(t)
				if err := it(w, receive(t, "a WebSocket", all)); err != nil {
					t.Fatal(err)
				}
				c.wantClose(1012)
				<-w.link.Done()
				if err := w.link.Err(); name != "dies" && !errors.Is(err, link.ErrCorrupt) {
					t.Errorf("the link ended with %v", err)
				}
			})
		})
	}
}

func TestA101ToAnOrdinaryRequestEndsTheWorker(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		r := newSocketRig(t, pool.Options{Concurrency: 10})
		w := r.attach(transport, "asgi", 0, func(_ *worker, q *linktest.Request) {
			if err := q.Head(101, -1); err != nil {
				t.Error(err)
			}
		})
		if got := r.do(client(), "GET", "/", ""); got.status != 502 {
			t.Errorf("%+v", got)
		}
		if err := w.link.Err(); !errors.Is(err, link.ErrCorrupt) {
			t.Errorf("the link ended with %v", err)
		}
	})
}

func TestAHandshakeThatHadNotStartedIsTriedOnAnotherWorker(t *testing.T) {
	onEach(t, func(t *testing.T, transport string) {
		r := newSocketRig(t, pool.Options{Concurrency: 10})
		g := newGate(t)
		first := r.attach(transport, "asgi", 1, g.handler)
		go r.do(client(), "GET", "/", "")
		receive(t, "a request in the only thread", g.arrived)
		opened := make(chan *end, 1)
		go func() { opened <- r.socket(t) }()
		eventually(t, "the handshake is with the worker", func() bool { return asgiPlaces(r) == 2 })
		first.kill()
		all, handler := accepting(t)
		r.attach(transport, "asgi", 0, handler)
		q := receive(t, "the handshake", all)
		c := receive(t, "the socket", opened)
		if err := q.Say(link.KindMessageUp, 0, link.MessageText, "hello"); err != nil {
			t.Fatal(err)
		}
		c.want(ws.OpText, "hello")
	})
}
