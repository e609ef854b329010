package transport_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/guado-server/guado/internal/edge"
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/push"
	"github.com/guado-server/guado/internal/push/transport"
	"github.com/guado-server/guado/internal/websocket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// rig is an edge with push behind it, and the application of the page: it answers a
// request with what came, and keeps what was sent.
type rig struct {
	t       testing.TB
	url     string
	addr    string // without the network that can be cut
	dir     string
	opts    push.Options
	sockets *websocket.Server
	now     atomic.Pointer[host]
	front   *front
	blocked atomic.Bool // no WebSocket passes
	client2 *http.Client

	mu     sync.Mutex
	sent   []json.RawMessage
	opened []push.Opening
	events chan string
}

// host is what a stop and start of the server replaces.
type host struct {
	hub  *push.Hub
	step exchange.Handler
	push *transport.Server
}

func start(t testing.TB, o push.Options) *rig {
	t.Helper()
	r := &rig{t: t, opts: o, dir: t.TempDir(), events: make(chan string, 1000), sockets: websocket.New(websocket.Options{})}
	r.now.Store(r.newHost())
	l, err := edge.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	r.addr = addr
	s, err := edge.New(edge.Options{
		Listeners: []net.Listener{l}, H2C: true, Log: slog.New(slog.DiscardHandler),
		Handler: exchange.HandlerFunc(func(x *exchange.Exchange) {
			if x.Upgrade != "" && r.blocked.Load() {
				x.Fail(&exchange.Problem{Status: 403, Code: "blocked"})
				return
			}
			site(r.now.Load().step).Serve(x)
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	var h2 http.Protocols
	h2.SetUnencryptedHTTP2(true)
	r.client2 = &http.Client{Transport: &http.Transport{Protocols: &h2}}
	r.front = newFront(t, addr)
	r.url = "http://" + r.front.addr() + "/_guado/push"
	t.Cleanup(func() {
		r.front.close()
		r.hub().Detach(push.CodeRestart)
		r.sockets.Drain()
		r.now.Load().push.Drain()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		r.sockets.Close()
		if err := r.sockets.Wait(ctx); err != nil {
			t.Error(err)
		}
		r.hub().Close()
		http.DefaultClient.CloseIdleConnections()
		r.client2.CloseIdleConnections()
	})
	return r
}

func (r *rig) newHost() *host {
	h := &host{hub: push.New(r.opts, r)}
	h.push = transport.New(h.hub, transport.Options{Connection: func(x *exchange.Exchange) (string, *exchange.Problem) {
		return strings.TrimPrefix(string(x.Field("cookie")), "id="), nil
	}, Cookies: func(page, token string) []string {
		r.event("cookies %s %s", page, token)
		return []string{"a=1; Path=/", "b=2"}
	}})
	step, err := websocket.NewStep(r.sockets, h.push, websocket.Policy{Limits: websocket.Limits{
		Message: 2 << 20, Fragments: 1000, Waiting: 4 << 20, WriteIdle: time.Minute,
	}})
	if err != nil {
		r.t.Fatal(err)
	}
	h.step = step
	return h
}

func (r *rig) hub() *push.Hub { return r.now.Load().hub }

// restart stops the host of push gracefully and starts it.
func (r *rig) restart() {
	r.t.Helper()
	old := r.now.Load()
	file := filepath.Join(r.dir, "sessions")
	if err := old.hub.Save(file); err != nil {
		r.t.Fatal(err)
	}
	old.push.Drain()
	fresh := r.newHost()
	if _, err := fresh.hub.Restore(file); err != nil {
		r.t.Fatal(err)
	}
	r.now.Store(fresh)
	old.hub.Close()
}

func (r *rig) open(page string, owner push.Owner) *push.Session {
	r.t.Helper()
	s, err := r.hub().Open(page, owner)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *rig) push(page string, data any) {
	r.t.Helper()
	text, err := json.Marshal(data)
	if err != nil {
		r.t.Fatal(err)
	}
	for {
		h := r.hub()
		p, err := h.NewMessage(text, false)
		if err != nil {
			r.t.Fatal(err)
		}
		if _, err = h.Page(page).Push(p); !errors.Is(err, push.ErrStopping) {
			if err != nil {
				r.t.Fatal(err)
			}
			return
		}
	}
}

func (r *rig) event(format string, args ...any) {
	select {
	case r.events <- fmt.Sprintf(format, args...):
	default: // nobody waits for so many
	}
}

// await waits for an event.
func (r *rig) await(want string) {
	r.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case got := <-r.events:
			if got == want {
				return
			}
		case <-deadline:
			r.t.Fatalf("%s did not happen", want)
		}
	}
}

func (r *rig) Opened(s *push.Session, o push.Opening) {
	r.mu.Lock()
	r.opened = append(r.opened, o)
	r.mu.Unlock()
	r.event("opened %s", s.Page())
	if o.Resumed {
		return
	}
	if p, err := r.hub().NewSnapshot([]byte(`"snapshot"`)); err == nil {
		_, _ = s.Push(p) // the page may have ended
	}
}

func (r *rig) Message(s *push.Session, m push.Message) error {
	if m.To == "/login" {
		return s.ReplyWithCookies(m.Ref, m.Data, "token1")
	}
	if m.Request {
		return s.Reply(m.Ref, m.Data)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = append(r.sent, m.Data)
	r.event("message %s", m.Data)
	return nil
}

func (r *rig) Cancelled(*push.Session, push.Ref) {}

func (r *rig) Away(s *push.Session) { r.event("away %s", s.Page()) }

func (r *rig) Ended(s *push.Session, why push.Code) { r.event("ended %s %s", s.Page(), why.Name()) }

// front is a network between clients and the edge that can be cut.
type front struct {
	t      testing.TB
	l      net.Listener
	target string
	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
	busy   sync.WaitGroup
}

func newFront(t testing.TB, target string) *front {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{t: t, l: l, target: target, conns: map[net.Conn]struct{}{}}
	f.busy.Go(f.accept)
	return f
}

func (f *front) addr() string { return f.l.Addr().String() }

func (f *front) accept() {
	for {
		c, err := f.l.Accept()
		if err != nil {
			return
		}
		d, err := net.Dial("tcp", f.target)
		if err != nil {
			_ = c.Close()
			continue
		}
		if !f.add(c, d) {
			return
		}
		f.busy.Go(func() { f.copy(c, d) })
		f.busy.Go(func() { f.copy(d, c) })
	}
}

func (f *front) add(all ...net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range all {
		if f.closed {
			_ = c.Close()
			continue
		}
		f.conns[c] = struct{}{}
	}
	return !f.closed
}

func (f *front) copy(to, from net.Conn) {
	_, _ = io.Copy(to, from) // it ends when the network is cut
	_ = to.Close()
	_ = from.Close()
	f.mu.Lock()
	delete(f.conns, to)
	delete(f.conns, from)
	f.mu.Unlock()
}

// cut ends all connections at once.
func (f *front) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		_ = c.Close()
	}
}

func (f *front) close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	_ = f.l.Close()
	f.cut()
	f.busy.Wait()
}
