package websocket_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"go.uber.org/goleak"

	"github.com/guado-server/guado/internal/edge/http1"
	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/websocket"
	"github.com/guado-server/guado/test/harness"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds waits for what must happen; no test that passes waits it out.
const patience = 30 * time.Second

// rig is a server whose sockets echo, or do what handle says.
type rig struct {
	t       *testing.T
	sockets *websocket.Server
	addr    string
	tls     *tls.Config
	ends    chan exchange.SocketEnd
	handle  func(k exchange.Socket, text bool, p []byte)
	opened  chan exchange.Socket
}

// session is the handler of one socket.
type session struct {
	r *rig
	k exchange.Socket
}

func (s *session) Message(text bool, p []byte) {
	if s.r.handle != nil {
		s.r.handle(s.k, text, p)
		return
	}
	// An error ends the socket, of which Closed tells.
	_, _ = s.k.Send(text, p, true)
}
func (s *session) Drained()                    {}
func (s *session) Closed(e exchange.SocketEnd) { s.r.ends <- e }

func limits() websocket.Limits {
	return websocket.Limits{Message: 1 << 20, Fragments: 1000, Waiting: 1 << 20, PingInterval: time.Minute, PingTimeout: time.Minute, WriteIdle: time.Minute}
}

// start serves until the test ends, and then leaves no socket and no goroutine.
func start(t *testing.T, p websocket.Policy, options ...func(*rig)) *rig {
	t.Helper()
	r := &rig{t: t, sockets: websocket.New(websocket.Options{}), ends: make(chan exchange.SocketEnd, 100), opened: make(chan exchange.Socket, 100)}
	for _, o := range options {
		o(r)
	}
	step, err := websocket.NewStep(r.sockets, exchange.HandlerFunc(r.accept), p)
	if err != nil {
		t.Fatal(err)
	}
	lanes := http1.New(lane.DefaultLimits(), lane.Hooks{
		Handler: step,
		Prepare: func(x *exchange.Exchange, _ *lane.Conn) (*exchange.Problem, bool) {
			for _, f := range x.Fields {
				switch {
				case f.Is("upgrade"):
					x.Upgrade = strings.ToLower(string(f.Value))
				case f.Is("host"):
					x.Host = f.Value
				}
			}
			return nil, false
		},
		Render: func(_ *exchange.Exchange, p *exchange.Problem) (exchange.Head, []byte) {
			return exchange.Head{Status: p.Status, Length: int64(len(p.Code)), Fields: p.Fields}, []byte(p.Code)
		},
	}, slog.New(slog.DiscardHandler))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wait.Go(func() { r.serve(lanes, c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		lanes.CloseAll()
		r.sockets.Close()
		wait.Wait()
		if err := lanes.Wait(context.Background()); err != nil {
			t.Error(err)
		}
		if s := r.sockets.Status(); s.Open != 0 {
			t.Errorf("%d sockets are left", s.Open)
		}
	})
	return r
}

func (r *rig) serve(s *http1.Server, c net.Conn) {
	info := &lane.Conn{Peer: c.RemoteAddr().(*net.TCPAddr).AddrPort()}
	if r.tls != nil {
		t := tls.Server(c, r.tls)
		if t.Handshake() != nil {
			_ = c.Close()
			return
		}
		c, info.TLS = t, &exchange.TLS{Version: tls.VersionTLS13}
	}
	s.ServeConn(c, info)
}

func (r *rig) accept(x *exchange.Exchange) {
	if x.Upgrader == nil {
		x.Fail(&exchange.Problem{Status: 404, Code: "plain"})
		return
	}
	if p := x.Upgrader.Check(x); p != nil {
		x.Fail(p)
		return
	}
	s := &session{r: r}
	k, err := x.Upgrader.Upgrade(x, []exchange.Field{{Name: []byte("X-Own"), Value: []byte("1")}}, s)
	if err != nil {
		problem := (*exchange.Problem)(nil)
		if errors.As(err, &problem) {
			x.Fail(problem)
		}
		return
	}
	s.k = k
	k.Start()
	r.opened <- k
}

func overTLS(r *rig) {
	r.t.Helper()
	certFile, keyFile := harness.Certificate(r.t)
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		r.t.Fatal(err)
	}
	r.tls = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
}

// client is one end in the hands of the test.
type client struct {
	t *testing.T
	net.Conn
	br *bufio.Reader
	hs ws.Handshake
}

// dial opens a socket; extra fields come as "Name: value".
func (r *rig) dial(fields ...string) *client {
	r.t.Helper()
	c, err := r.try(fields...)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *rig) try(fields ...string) (*client, error) {
	c := &client{t: r.t}
	header := http.Header{}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		header.Add(name, value)
	}
	scheme := "ws"
	d := ws.Dialer{Timeout: patience, Header: ws.HandshakeHeaderHTTP(header)}
	if r.tls != nil {
		scheme = "wss"
		d.TLSConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // a certificate of the test
	}
	conn, br, hs, err := d.Dial(context.Background(), scheme+"://"+r.addr+"/")
	if err != nil {
		return nil, err
	}
	if br == nil {
		br = bufio.NewReader(conn)
	}
	c.Conn, c.br, c.hs = conn, br, hs
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	return c, nil
}

func (c *client) write(f ws.Frame) {
	c.t.Helper()
	if err := ws.WriteFrame(c.Conn, ws.MaskFrame(f)); err != nil {
		c.t.Fatalf("writing a frame: %v", err)
	}
}

func (c *client) text(s string) { c.t.Helper(); c.write(ws.NewTextFrame([]byte(s))) }

func (c *client) read() ws.Frame {
	c.t.Helper()
	f, err := harness.ReadFrame(c.br)
	if err != nil {
		c.t.Fatalf("reading a frame: %v", err)
	}
	return f
}

func (c *client) want(s string) {
	c.t.Helper()
	if f := c.read(); f.Header.OpCode != ws.OpText || string(f.Payload) != s {
		c.t.Fatalf("got %v %.80q, want text %.80q", f.Header.OpCode, f.Payload, s)
	}
}

// wantClose reads up to the close frame and the end of the connection.
func (c *client) wantClose(code int) {
	c.t.Helper()
	for {
		f, err := harness.ReadFrame(c.br)
		if err != nil {
			c.t.Fatalf("no close frame: %v", err)
		}
		if f.Header.OpCode != ws.OpClose {
			continue
		}
		got, reason := ws.ParseCloseFrameData(f.Payload)
		if int(got) != code {
			c.t.Fatalf("closed with %d %q, want %d", got, reason, code)
		}
		break
	}
	if _, err := io.Copy(io.Discard, c.br); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && code == 0 {
		c.t.Fatal(err)
	}
}

func (r *rig) wantEnd(code uint16) exchange.SocketEnd {
	r.t.Helper()
	select {
	case e := <-r.ends:
		if e.Code != code {
			r.t.Fatalf("the handler heard of %+v, want %d", e, code)
		}
		return e
	case <-time.After(patience):
		r.t.Fatal("the handler heard of no end")
		return exchange.SocketEnd{}
	}
}

// raw connects without a handshake.
func (r *rig) raw() *client {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.addr) //nolint:noctx // ended by cleanup
	if err != nil {
		r.t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	return &client{t: r.t, Conn: conn, br: bufio.NewReader(conn)}
}

// handshake is one by hand, with a further field.
func (c *client) handshake(field string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"+field+"\r\n\r\n"); err != nil {
		c.t.Fatal(err)
	}
	resp, err := http.ReadResponse(c.br, nil)
	if err != nil || resp.StatusCode != 101 {
		c.t.Fatalf("%v %v", resp, err)
	}
}
