package http1

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/test/harness"
)

// patience bounds waits for what must happen; it is never waited out by a test that
// passes.
const patience = 20 * time.Second

// report is what Hooks.Done was told.
type report struct {
	lane.Outcome
	method, target, code string
}

// rig is a Server behind a real listener.
type rig struct {
	*Server
	t       testing.TB
	addr    net.Addr
	reports chan report
	logged  *harness.Log
	tls     *tls.Config // of clients

	sendBuffer int // of accepted connections; 0: the kernel's choice
	control    func(network, address string, c syscall.RawConn) error
}

type option func(*rig, *lane.Limits, *net.Listener)

func overUnix(r *rig, _ *lane.Limits, l *net.Listener) {
	r.t.Helper()
	u, err := net.Listen("unix", r.t.TempDir()+"/s")
	if err != nil {
		r.t.Fatal(err)
	}
	*l = u
}

func limited(set func(*lane.Limits)) option {
	return func(_ *rig, limits *lane.Limits, _ *net.Listener) { set(limits) }
}

// serve starts a Server with this handler and stops it, leaving nothing behind, at
// the end of the test.
func serve(t testing.TB, h exchange.HandlerFunc, options ...option) *rig {
	t.Helper()
	r := &rig{t: t, reports: make(chan report, 10000), logged: &harness.Log{}}
	limits := lane.DefaultLimits()
	var l net.Listener
	for _, o := range options {
		o(r, &limits, &l)
	}
	if l == nil {
		var err error
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	hooks := lane.Hooks{
		Handler: h,
		Prepare: func(x *exchange.Exchange, _ *lane.Conn) (*exchange.Problem, bool) {
			x.ID = "test"
			if string(x.RawPath) == "/refused-by-edge" {
				return &exchange.Problem{Status: 400, Code: "edge_says_no"}, true
			}
			return nil, false
		},
		Render: func(_ *exchange.Exchange, p *exchange.Problem) (exchange.Head, []byte) {
			page := []byte(p.Code)
			return exchange.Head{Status: p.Status, Length: int64(len(page))}, page
		},
		Done: func(x *exchange.Exchange, o lane.Outcome) {
			if r.reports == nil {
				return // a benchmark
			}
			rep := report{Outcome: o, method: x.Method, target: string(x.Target)}
			if x.Problem != nil {
				rep.code = x.Problem.Code
			}
			select {
			case r.reports <- rep:
			default:
			}
		},
	}
	r.Server = New(limits, hooks, slog.New(slog.NewTextHandler(r.logged, nil)))
	r.addr = l.Addr()
	accepting := make(chan struct{})
	var conns sync.WaitGroup
	go func() {
		defer close(accepting)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			go func() {
				defer conns.Done()
				r.take(c)
			}()
		}
	}()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		<-accepting
		r.CloseAll()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := r.Wait(ctx); err != nil {
			t.Errorf("connections do not end: %v", err)
		}
		conns.Wait()
	})
	return r
}

func (r *rig) take(c net.Conn) {
	info := &lane.Conn{LocalName: "127.0.0.1", LocalPort: 80, Unix: r.addr.Network() == "unix"}
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		info.Peer = a.AddrPort()
	}
	if b, ok := c.(interface{ SetWriteBuffer(n int) error }); ok && r.sendBuffer > 0 {
		if err := b.SetWriteBuffer(r.sendBuffer); err != nil {
			r.t.Error(err)
		}
	}
	if r.tls != nil {
		t := tls.Server(c, serverTLS(r.t))
		if err := t.HandshakeContext(context.Background()); err != nil {
			_ = c.Close()
			return
		}
		info.TLS = &exchange.TLS{Version: t.ConnectionState().Version}
		c = t
	}
	r.ServeConn(c, info)
}

// client is a raw connection to the rig.
type client struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

func (r *rig) dial() *client {
	r.t.Helper()
	d := net.Dialer{Control: r.control}
	c, err := d.Dial(r.addr.Network(), r.addr.String())
	if err != nil {
		r.t.Fatal(err)
	}
	if r.tls != nil {
		c = tls.Client(c, r.tls)
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return &client{Conn: c, t: r.t, r: bufio.NewReader(c)}
}

func (c *client) send(format string, args ...any) *client {
	c.t.Helper()
	s := format
	if len(args) > 0 {
		s = fmt.Sprintf(format, args...)
	}
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatalf("sending: %v", err)
	}
	return c
}

// finish closes the sending half.
func (c *client) finish() *client {
	c.t.Helper()
	if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		c.t.Fatal(err)
	}
	return c
}

// reply is an answer as net/http reads it.
type reply struct {
	*http.Response
	body string
	err  error // of reading the body
}

// answer reads the next answer to a request with this method.
func (c *client) answer(method string) reply {
	c.t.Helper()
	res, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("no answer to %s: %v", method, err)
	}
	body, err := io.ReadAll(res.Body)
	return reply{res, string(body), err}
}

// expect reads an answer with this status and body.
func (c *client) expect(status int, body string) reply {
	c.t.Helper()
	got := c.answer("GET")
	if got.StatusCode != status || got.body != body || got.err != nil {
		c.t.Fatalf("answer is %d %q (%v), want %d %q", got.StatusCode, got.body, got.err, status, body)
	}
	return got
}

// rest reads what comes until the connection ends.
func (c *client) rest() string {
	c.t.Helper()
	b, err := io.ReadAll(c.r)
	if err != nil {
		c.t.Fatalf("reading to the end: %v (after %q)", err, b)
	}
	return string(b)
}

// closed asserts that nothing follows and the connection ends.
func (c *client) closed() {
	c.t.Helper()
	if rest := c.rest(); rest != "" {
		c.t.Fatalf("%q follows where the connection should end", rest)
	}
}

// done gives the next report of the lane.
func (r *rig) done() report {
	r.t.Helper()
	select {
	case rep := <-r.reports:
		return rep
	case <-time.After(patience):
		r.t.Fatal("no exchange was reported")
		return report{}
	}
}

// until polls for what no event tells.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	harness.Eventually(t, what, patience, holds)
}

// say answers with a text.
func say(x *exchange.Exchange, status int, text string) {
	if x.Answer.Head(exchange.Head{Status: status, Length: int64(len(text))}) == nil {
		_, _ = x.Answer.Write([]byte(text))
	}
}

// echo answers with "METHOD TARGET BODY", or with the error of the body in brackets.
func echo(x *exchange.Exchange) {
	body, err := io.ReadAll(bodyReader{x})
	text := x.Method + " " + string(x.Target) + " " + string(body)
	if err != nil {
		say(x, 400, text+"["+err.Error()+"]")
		return
	}
	say(x, 200, text)
}

type bodyReader struct{ x *exchange.Exchange }

func (b bodyReader) Read(p []byte) (int, error) { return b.x.Body.Read(p) }
