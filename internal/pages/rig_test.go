package pages_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/guado-server/guado/internal/edge"
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/identity"
	"github.com/guado-server/guado/internal/pages"
	"github.com/guado-server/guado/internal/push"
	"github.com/guado-server/guado/internal/push/transport"
	"github.com/guado-server/guado/internal/websocket"
)

const patience = 30 * time.Second

// turn is what the application of the tests is asked, as a worker would be.
type turn struct {
	exchange.Turn
	x *exchange.Exchange
}

// rig is an edge with pages behind it. Its page classes and its application are functions
// of the test.
type rig struct {
	t       *testing.T
	addr    string
	pages   *pages.Pages
	push    *transport.Server
	dir     string
	options func(*pages.Options)

	mu       sync.Mutex
	handle   func(c turn) (status int, answer string) // a turn; nil: it says nothing
	serve    func(x *exchange.Exchange)               // a request of a client
	problem  *exchange.Problem                        // of all turns
	happened []string
	news     chan struct{}

	step    exchange.Handler
	sockets *websocket.Server
}

func start(t *testing.T, change func(*pages.Options)) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), news: make(chan struct{}, 1), options: change, sockets: websocket.New(websocket.Options{})}
	r.make()
	l, err := edge.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	s, err := edge.New(edge.Options{Listeners: []net.Listener{l}, Log: slog.New(slog.DiscardHandler), Handler: exchange.HandlerFunc(func(x *exchange.Exchange) {
		r.mu.Lock()
		step := r.step
		r.mu.Unlock()
		step.Serve(x)
	})})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		r.pages.Hub().Detach(push.CodeRestart)
		r.push.Drain()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		r.pages.Stop(ctx)
		r.sockets.Drain()
		if err := errors.Join(s.Close(), <-served); err != nil {
			t.Error(err)
		}
		r.sockets.Close()
		if err := r.sockets.Wait(ctx); err != nil {
			t.Error(err)
		}
		r.pages.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return r
}

// make makes the pages and the steps in front of them.
func (r *rig) make() {
	o := pages.Options{
		App:    func(string) exchange.Handler { return exchange.HandlerFunc(r.turn) },
		Turns:  func() exchange.Handler { return r.pages.Step(exchange.HandlerFunc(r.request)) },
		Road:   func() exchange.Handler { return r.pages.Step(exchange.HandlerFunc(r.request)) },
		Target: edge.SplitTarget,
		Log:    slog.New(slog.DiscardHandler),
	}
	if r.options != nil {
		r.options(&o)
	}
	o.NewID = identity.NewID
	r.pages = pages.New(o)
	known := func(x *exchange.Exchange) string {
		for part := range strings.SplitSeq(string(x.Field("cookie")), ";") {
			if id, is := strings.CutPrefix(strings.TrimSpace(part), "id="); is {
				return id
			}
		}
		return ""
	}
	r.push = transport.New(r.pages.Hub(), transport.Options{
		Connection: func(x *exchange.Exchange) (string, *exchange.Problem) { return known(x), nil },
		Stale:      func(x *exchange.Exchange) bool { return strings.Contains(string(x.Field("cookie")), "stale=1") },
		Cookies:    r.pages.Cookies,
		Client:     func(x *exchange.Exchange) any { return pages.FromExchange(x) },
		Met:        func(s *push.Session, client any) { r.pages.Met(s, client.(pages.From)) },
	})
	step, err := websocket.NewStep(r.sockets, r.push, websocket.Policy{Limits: websocket.Limits{
		Message: 2 << 20, Fragments: 1000, Waiting: 4 << 20, WriteIdle: time.Minute,
	}})
	if err != nil {
		r.t.Fatal(err)
	}
	site := pages.NewSite(pages.Site{
		Push: step, Client: []byte("export {}"), Next: exchange.HandlerFunc(r.request),
		Open: &pages.Opener{
			Pages: r.pages, Origin: step.Allows,
			Touch: func(x *exchange.Exchange) (string, string, exchange.Field, *exchange.Problem) {
				if id := known(x); id != "" {
					return id, "", exchange.Field{}, nil
				}
				return "fresh", "", exchange.Field{Name: []byte("Set-Cookie"), Value: []byte("id=fresh; Path=/")}, nil
			},
			App: func(_ *exchange.Exchange, path, class string) (string, bool) {
				return "shop", path != "/nowhere" && class != "Unknown"
			},
		},
	})
	r.mu.Lock()
	r.step = site
	r.mu.Unlock()
}

// restart stops the host of the pages gracefully and starts it. cut is done when patience
// with what runs is over.
func (r *rig) restart(ctx context.Context, cut func()) {
	r.t.Helper()
	r.pages.Hub().Detach(push.CodeRestart)
	r.push.Drain()
	r.pages.Stop(ctx)
	cut()
	if err := r.pages.Save(r.dir, func(page string) []string { return []string{"topic." + page} }); err != nil {
		r.t.Fatal(err)
	}
	r.pages.Close()
	r.make()
	n, err := r.pages.Restore(r.dir, func(page, topic string) { r.note("subscribed %s", topic) })
	if err != nil {
		r.t.Fatal(err)
	}
	r.note("restored %d", n)
}

func (r *rig) set(f func(r *rig)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(r)
}

// turn is the hidden application.
func (r *rig) turn(x *exchange.Exchange) {
	if x.Turn == nil {
		r.t.Error("an exchange of the hidden application is no turn")
		return
	}
	c := turn{*x.Turn, x}
	r.mu.Lock()
	handle, problem := r.handle, r.problem
	r.mu.Unlock()
	if problem != nil {
		r.note("refused %s", c.Do)
		x.Fail(problem)
		return
	}
	x.Worker = "p01"
	status, answer := 200, ""
	if handle != nil {
		status, answer = handle(c)
	}
	if status < 0 {
		return // it has answered itself
	}
	if status == 0 {
		x.Fail(&exchange.Problem{Status: 502, Code: "worker_died"})
		return
	}
	r.answer(x, status, "application/json", answer)
	r.note("%s opened=%t %s", c.Do, c.Opened, c.Data)
}

// request is the application.
func (r *rig) request(x *exchange.Exchange) {
	r.mu.Lock()
	serve := r.serve
	r.mu.Unlock()
	if serve == nil {
		x.Fail(&exchange.Problem{Status: 404, Code: "no_mount"})
		return
	}
	serve(x)
}

func (r *rig) answer(x *exchange.Exchange, status int, kind, text string, fields ...string) {
	h := exchange.Head{Status: status, Length: int64(len(text)), Fields: []exchange.Field{{Name: []byte("Content-Type"), Value: []byte(kind)}}}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		h.Fields = append(h.Fields, exchange.Field{Name: []byte(name), Value: []byte(value)})
	}
	if err := x.Answer.Head(h); err != nil {
		return
	}
	_, _ = x.Answer.Write([]byte(text)) // its client may have gone
}

func (r *rig) note(format string, args ...any) {
	r.mu.Lock()
	r.happened = append(r.happened, strings.TrimSpace(fmt.Sprintf(format, args...)))
	r.mu.Unlock()
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// await waits until this has happened, n times.
func (r *rig) await(what string, n int) {
	r.t.Helper()
	deadline := time.After(patience)
	for {
		r.mu.Lock()
		times := 0
		for _, h := range r.happened {
			if h == what {
				times++
			}
		}
		all := strings.Join(r.happened, "\n  ")
		r.mu.Unlock()
		if times >= n {
			return
		}
		select {
		case <-r.news:
		case <-deadline:
			r.t.Fatalf("%q did not happen %d times; what did:\n  %s", what, n, all)
		}
	}
}

func (r *rig) did() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.happened...)
}

// open asks for a page as a browser does.
func (r *rig) open(cookie, body string) (page, setCookie string) {
	r.t.Helper()
	status, text, head := r.post("/_guado/page", cookie, body)
	var answer struct{ Page string }
	if err := json.Unmarshal([]byte(text), &answer); status != 200 || err != nil || len(answer.Page) != 22 {
		r.t.Fatalf("no page: %d %s", status, text)
	}
	return answer.Page, head.Get("Set-Cookie")
}

func (r *rig) post(path, cookie, body string, fields ...string) (int, string, http.Header) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), "POST", "http://"+r.addr+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, string(text), res.Header
}

// client is the client of a page.
type client struct {
	t     *testing.T
	rig   *rig
	conn  net.Conn
	page  string
	token string // of the instance
	epoch string
	at    uint64
	sent  uint64
}

func (r *rig) connect(page, cookie string, fields ...string) *client {
	r.t.Helper()
	c := &client{t: r.t, rig: r, page: page, token: "client-of-" + page}
	c.dial(cookie, fields...)
	return c
}

// dial connects, anew or again, and gives the host's hello.
func (c *client) dial(cookie string, fields ...string) map[string]any {
	c.t.Helper()
	header := http.Header{"Cookie": {cookie}, "User-Agent": {"test"}}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		header.Set(name, value)
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	dialer := ws.Dialer{Header: ws.HandshakeHeaderHTTP(header)}
	conn, br, _, err := dialer.Dial(ctx, "ws://"+c.rig.addr+"/_guado/push")
	if err != nil {
		c.t.Fatal(err)
	}
	if br != nil {
		c.t.Fatal("the host spoke first")
	}
	c.conn = conn
	c.t.Cleanup(func() { _ = conn.Close() })
	hello := fmt.Sprintf(`{"t":"hello","v":1,"page":%q,"client":%q`, c.page, c.token)
	if c.epoch != "" {
		hello += fmt.Sprintf(`,"epoch":%q,"at":%d`, c.epoch, c.at)
	}
	c.write(hello + "}")
	h := c.next()
	if h["t"] != "hello" {
		c.t.Fatalf("no hello but %v", h)
	}
	c.epoch, c.at = h["epoch"].(string), uint64(h["at"].(float64))
	return h
}

func (c *client) write(frame string) {
	c.t.Helper()
	if err := wsutil.WriteClientText(c.conn, []byte(frame)); err != nil {
		c.t.Fatal(err)
	}
}

// next gives the next frame. A close frame is {"close": CODE}.
func (c *client) next() map[string]any {
	c.t.Helper()
	if err := c.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		c.t.Fatal(err)
	}
	data, err := wsutil.ReadServerText(c.conn)
	var closed wsutil.ClosedError
	if errors.As(err, &closed) {
		return map[string]any{"close": float64(closed.Code)}
	}
	if err != nil {
		c.t.Fatal(err)
	}
	var f map[string]any
	if err := json.Unmarshal(data, &f); err != nil {
		c.t.Fatalf("%q: %v", data, err)
	}
	if n, ok := f["n"].(float64); ok {
		if uint64(n) != c.at+1 {
			c.t.Fatalf("frame %v after %d: %s", n, c.at, data)
		}
		c.at++
		c.write(fmt.Sprintf(`{"a":%d}`, c.at))
	}
	return f
}

// numbered gives the next numbered frame, as text without its number.
func (c *client) numbered() string {
	c.t.Helper()
	for {
		f := c.next()
		if _, is := f["n"]; !is && f["close"] == nil {
			continue
		}
		delete(f, "n")
		return compact(c.t, f)
	}
}

func compact(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(b.String())
}

// send sends a message; to may be empty.
func (c *client) send(kind, data, to string) uint64 {
	c.t.Helper()
	c.sent++
	text := fmt.Sprintf(`{"c":%d,`, c.sent)
	if to != "" {
		text += fmt.Sprintf(`"to":%q,`, to)
	}
	c.write(text + fmt.Sprintf(`"%s":%s}`, kind, data))
	return c.sent
}

// opened waits until the host knows that the only page's on_open has succeeded.
func (r *rig) opened() {
	r.t.Helper()
	for deadline := time.Now().Add(patience); !r.pages.List()[0].Opened; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatal("the page is not opened")
		}
	}
}

// waiting waits until so many messages of the only page wait.
func (r *rig) waiting(n int) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); r.pages.List()[0].Waiting < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("%+v", r.pages.List())
		}
	}
}

// anew connects as another instance of the client, once the host has seen that the first
// one left.
func (c *client) anew(token, cookie string) map[string]any {
	c.t.Helper()
	_ = c.conn.Close()
	c.token, c.epoch, c.at, c.sent = token, "", 0, 0
	for deadline := time.Now().Add(patience); ; {
		h := c.tryDial(cookie)
		if h["close"] != float64(push.CodeDuplicate) || time.Now().After(deadline) {
			return h
		}
	}
}

// tryDial connects, and gives the hello or the close frame.
func (c *client) tryDial(cookie string) map[string]any {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	dialer := ws.Dialer{Header: ws.HandshakeHeaderHTTP(http.Header{"Cookie": {cookie}})}
	conn, _, _, err := dialer.Dial(ctx, "ws://"+c.rig.addr+"/_guado/push")
	if err != nil {
		c.t.Fatal(err)
	}
	c.conn = conn
	c.t.Cleanup(func() { _ = conn.Close() })
	c.write(fmt.Sprintf(`{"t":"hello","v":1,"page":%q,"client":%q}`, c.page, c.token))
	h := c.next()
	if at, ok := h["at"].(float64); ok {
		c.at, c.epoch = uint64(at), h["epoch"].(string)
	}
	return h
}

func (r *rig) get(path, match string) *http.Response {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), "GET", "http://"+r.addr+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if match != "" {
		req.Header.Set("If-None-Match", match)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, res.Body) // its end is all that matters
	_ = res.Body.Close()
	return res
}
