package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/edge"
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/push"
	"github.com/guado-server/guado/internal/push/transport"
	"github.com/guado-server/guado/internal/websocket"
)

const messageLimit = 32 << 10

// limits are small, so that a test meets them.
func limits(clients int) push.Options {
	return push.Options{
		TailBytes: 16 << 10, Waiting: 64 << 10, Message: messageLimit, TailAge: time.Hour,
		// Many need longer until all have given a sign of life.
		Beat:   700*time.Millisecond + time.Duration(clients)*time.Millisecond,
		Window: 10 * time.Millisecond, UserPages: 1 << 20, NewPages: 1 << 20,
	}
}

// host is an edge with push behind it, in this process, whose goroutines and memory can
// be counted. It is the application of its pages, too: it holds what clients send
// against what must come.
type host struct {
	t       *testing.T
	addr    string
	limits  push.Options
	edge    *edge.Server
	served  chan error
	sockets *websocket.Server
	file    string
	now     atomic.Pointer[engine]
	busy    sync.WaitGroup

	mu     sync.Mutex // guards the rest
	pages  map[string]*page
	failed error
}

// engine is what a graceful stop and start replaces.
type engine struct {
	hub   *push.Hub
	steps exchange.Handler
	push  *transport.Server

	replaced chan struct{} // closed when there is another one
}

// page is what the application knows of one.
type page struct {
	pushing sync.Mutex // held while a message is pushed, so that numbers are in order
	pushed  uint64     // guarded by pushing

	mu    sync.Mutex // guards the rest
	heard uint64
	ended bool
}

func startHost(t *testing.T, clients int) *host {
	t.Helper()
	h := &host{t: t, limits: limits(clients), file: filepath.Join(t.TempDir(), "sessions"), served: make(chan error, 1), sockets: websocket.New(websocket.Options{}), pages: map[string]*page{}}
	h.now.Store(h.engine())
	// Little lies in the kernel for a client that does not read.
	small := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, 16<<10) }), err)
	}}
	l, err := small.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.addr = l.Addr().String()
	h.edge, err = edge.New(edge.Options{
		Listeners: []net.Listener{l}, Log: slog.New(slog.DiscardHandler),
		Handler: exchange.HandlerFunc(func(x *exchange.Exchange) { h.now.Load().steps.Serve(x) }),
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() { h.served <- h.edge.Serve() }()
	return h
}

func (h *host) engine() *engine {
	e := &engine{hub: push.New(h.limits, h), replaced: make(chan struct{})}
	e.push = transport.New(e.hub, transport.Options{Connection: func(x *exchange.Exchange) (string, *exchange.Problem) {
		return strings.TrimPrefix(string(x.Field("cookie")), "id="), nil
	}})
	steps, err := websocket.NewStep(h.sockets, e.push, websocket.Policy{Limits: websocket.Limits{
		Message: 2 * messageLimit, Fragments: 1000, Waiting: 1 << 20, WriteIdle: 5 * time.Second,
	}})
	if err != nil {
		h.t.Fatal(err)
	}
	e.steps = steps
	return e
}

// stop ends everything and waits for it.
func (h *host) stop() {
	e := h.now.Load()
	e.hub.Detach(push.CodeRestart)
	h.sockets.Drain()
	e.push.Drain()
	if err := h.edge.Close(); err != nil {
		h.t.Error(err)
	}
	if err := <-h.served; err != nil {
		h.t.Error(err)
	}
	h.sockets.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := h.sockets.Wait(ctx); err != nil {
		h.t.Error(err)
	}
	e.hub.Close()
	h.busy.Wait()
}

// restart is a graceful stop and start: all sessions go through the file.
func (h *host) restart() error {
	old := h.now.Load()
	if err := old.hub.Save(h.file); err != nil {
		return err
	}
	old.push.Drain()
	fresh := h.engine()
	restored, err := fresh.hub.Restore(h.file)
	if err != nil {
		return err
	}
	h.now.Store(fresh)
	close(old.replaced)
	old.hub.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(restored); n != len(h.pages) {
		return fmt.Errorf("%d pages of %d were restored", n, len(h.pages))
	}
	return nil
}

// open makes a page; its id is its connection's, too.
func (h *host) open(i int) (id, cookie string, err error) {
	id = fmt.Sprintf("page%018d", i)
	h.mu.Lock()
	h.pages[id] = new(page)
	h.mu.Unlock()
	_, err = h.now.Load().hub.Open(id, push.Owner{User: "user" + strconv.Itoa(i%50), Connection: id})
	return id, "id=" + id, err
}

func (h *host) page(id string) *page {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pages[id]
}

// push sends the page's next message, with pad bytes beside.
func (h *host) push(id string, pad int) error {
	p := h.page(id)
	p.pushing.Lock()
	defer p.pushing.Unlock()
	data := fmt.Appendf(nil, `{"i":%d,"pad":%q}`, p.pushed+1, strings.Repeat("x", pad))
	err := h.put(id, func(hub *push.Hub) (push.Payload, error) { return hub.NewMessage(data, false) })
	if err == nil {
		p.pushed++
	}
	return err
}

// put pushes to the engine that is there; between two of them it waits.
func (h *host) put(id string, payload func(*push.Hub) (push.Payload, error)) error {
	for {
		e := h.now.Load()
		out, err := payload(e.hub)
		if err != nil {
			return err
		}
		s := e.hub.Page(id)
		if s == nil {
			return fmt.Errorf("page %s is gone", id)
		}
		if _, err = s.Push(out); !errors.Is(err, push.ErrStopping) {
			return err
		}
		select {
		case <-e.replaced:
		case <-time.After(patience):
			return err
		}
	}
}

func (h *host) pushed(id string) uint64 {
	p := h.page(id)
	p.pushing.Lock()
	defer p.pushing.Unlock()
	return p.pushed
}

// flood sends to a client that does not read until the host lets it go.
func (h *host) flood(id string) (last uint64, err error) {
	for range 4096 {
		if err := h.push(id, messageLimit/2); err != nil {
			return 0, err
		}
		if s := h.now.Load().hub.Page(id); s == nil || !s.Status().Connected {
			return h.pushed(id), nil
		}
	}
	return 0, wrong("64 MiB wait for a client that does not read")
}

func (h *host) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed == nil {
		h.failed = err
	}
}

// Opened is [push.Handler]. Who could not resume gets a snapshot: the number of the last
// message. It is made elsewhere, as an application would: whoever calls here may be the
// one who pushes.
func (h *host) Opened(s *push.Session, o push.Opening) {
	if o.Resumed {
		return
	}
	id := s.Page()
	h.busy.Go(func() {
		p := h.page(id)
		p.pushing.Lock()
		defer p.pushing.Unlock()
		data := fmt.Appendf(nil, `{"i":%d}`, p.pushed)
		if err := h.put(id, func(hub *push.Hub) (push.Payload, error) { return hub.NewSnapshot(data) }); err != nil {
			h.fail(fmt.Errorf("snapshot: %w", err))
		}
	})
}

// Message is [push.Handler].
func (h *host) Message(s *push.Session, m push.Message) error {
	var data struct{ I uint64 }
	if err := json.Unmarshal(m.Data, &data); err != nil {
		return err
	}
	p := h.page(s.Page())
	p.mu.Lock()
	if data.I != p.heard+1 {
		h.fail(fmt.Errorf("page %s: message %d of the client came after %d", s.Page(), data.I, p.heard))
	}
	p.heard = data.I
	p.mu.Unlock()
	if !m.Request {
		return nil
	}
	if err := s.Reply(m.Ref, m.Data); err != nil && !errors.Is(err, push.ErrStopping) {
		return err
	}
	return nil
}

// Cancelled is [push.Handler].
func (h *host) Cancelled(*push.Session, push.Ref) {}

// Away is [push.Handler].
func (h *host) Away(*push.Session) {}

// Ended is [push.Handler].
func (h *host) Ended(s *push.Session, why push.Code) {
	p := h.page(s.Page())
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended || why != push.CodeEnded {
		h.fail(fmt.Errorf("page %s ended: %s (twice: %v)", s.Page(), why.Name(), p.ended))
	}
	p.ended = true
}

func mustURL(text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil {
		panic(err)
	}
	return u
}

func newPosts() *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
}
