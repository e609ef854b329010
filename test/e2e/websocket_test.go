package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/guado-server/guado/test/harness"
)

// everySocketMode runs one body over both transports, in the clear and over TLS, on both
// event loops.
func everySocketMode(t *testing.T, body func(t *testing.T, s *harness.Server, loop string)) {
	t.Helper()
	for i, transport := range harness.Transports() {
		for j, loop := range []string{"uvloop", "asyncio"} {
			t.Run(transport+"/"+loop, func(t *testing.T) {
				s := harness.Start(t, harness.Options{
					Args: []string{"sockets:app"}, Transport: transport, Env: []string{"TEST_LOOP=" + loop}, TLS: (i+j)%2 == 1,
				})
				body(t, s, loop)
			})
		}
	}
}

// socket is a client that shows each frame.
type socket struct {
	t *testing.T
	net.Conn
	br *bufio.Reader
	// head are the fields of the answer to the handshake.
	head http.Header
}

// refused is an answer to a handshake that is not 101.
type refused struct {
	status int
	head   http.Header
	body   string
}

func (r *refused) Error() string { return fmt.Sprintf("%d %s", r.status, r.body) }

func openSocket(t *testing.T, s *harness.Server, path string, fields ...string) *socket {
	t.Helper()
	c, err := trySocket(t, s, path, fields...)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return c
}

func trySocket(t *testing.T, s *harness.Server, path string, fields ...string) (*socket, error) {
	t.Helper()
	raw := s.Dial()
	if strings.HasPrefix(s.URL, "https") {
		c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // a certificate made for this test
		if err := c.HandshakeContext(context.Background()); err != nil {
			t.Fatal(err)
		}
		raw = c
	}
	head := "GET " + path + " HTTP/1.1\r\nHost: " + s.Addr + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for _, f := range fields {
		head += f + "\r\n"
	}
	if _, err := io.WriteString(raw, head+"\r\n"); err != nil {
		t.Fatal(err)
	}
	c := &socket{t: t, Conn: raw, br: bufio.NewReader(raw)}
	res, err := http.ReadResponse(c.br, nil)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != 101 {
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return nil, &refused{res.StatusCode, res.Header, string(body)}
	}
	c.head = res.Header
	return c, nil
}

func (c *socket) send(f ws.Frame) {
	c.t.Helper()
	if err := ws.WriteFrame(c.Conn, ws.MaskFrame(f)); err != nil {
		c.t.Fatal(err)
	}
}

// message reads a whole message, its parts joined.
func (c *socket) message() (ws.OpCode, string) {
	c.t.Helper()
	var op ws.OpCode
	var whole strings.Builder
	for {
		f, err := harness.ReadFrame(c.br)
		if err != nil {
			c.t.Fatalf("reading a frame: %v", err)
		}
		if f.Header.OpCode != ws.OpContinuation {
			op = f.Header.OpCode
		}
		whole.Write(f.Payload)
		if f.Header.Fin {
			return op, whole.String()
		}
	}
}

func (c *socket) want(text string) {
	c.t.Helper()
	if op, got := c.message(); op != ws.OpText || got != text {
		c.t.Fatalf("got %v %.200q, want %.200q", op, got, text)
	}
}

func (c *socket) wantClose(code int, reason string) {
	c.t.Helper()
	op, got := c.message()
	if op != ws.OpClose {
		c.t.Fatalf("got %v %.200q, want a close frame", op, got)
	}
	at, why := ws.ParseCloseFrameData([]byte(got))
	if int(at) != code || why != reason {
		c.t.Fatalf("closed with %d %q, want %d %q", at, why, code, reason)
	}
	c.send(ws.NewCloseFrame([]byte(got)))
	if _, err := c.br.ReadByte(); err == nil {
		c.t.Fatal("bytes behind the close frame")
	}
	_ = c.Close()
}

func TestAWebSocketOfARawApplication(t *testing.T) {
	everySocketMode(t, func(t *testing.T, s *harness.Server, loop string) {
		t.Run("echoes text and bytes of every length", func(t *testing.T) {
			c := openSocket(t, s, "/echo")
			for _, n := range []int{0, 1, 200, 65_472, 65_536, 70_000, 300_000, 3 << 20} {
				text := strings.Repeat("é€x", n/6+1)
				for _, f := range []ws.Frame{ws.NewTextFrame([]byte(text)), ws.NewBinaryFrame(noise(n))} {
					c.send(f)
					if op, got := c.message(); op != f.Header.OpCode || got != string(f.Payload) {
						t.Fatalf("%v of %d bytes came back as %v of %d", f.Header.OpCode, len(f.Payload), op, len(got))
					}
				}
			}
			// Many at once, empty ones among them: more than the credit there is.
			go func() {
				for i := range 5000 {
					if ws.WriteFrame(c.Conn, ws.MaskFrame(ws.NewTextFrame([]byte(strings.Repeat("x", i%3))))) != nil {
						return
					}
				}
			}()
			for i := range 5000 {
				c.want(strings.Repeat("x", i%3))
			}
			c.send(ws.NewCloseFrame(ws.NewCloseFrameBody(4001, "bye")))
			s.WaitLog(`ended \["websocket.disconnect", 4001, "bye"\]`, time.Minute)
		})
		t.Run("sees its scope and sets fields", func(t *testing.T) { checkSocketScope(t, s, loop) })
		t.Run("is told how its client left", func(t *testing.T) {
			c := openSocket(t, s, "/echo")
			c.send(ws.NewCloseFrame(nil))
			s.WaitLog(`ended \["websocket.disconnect", 1005, ""\]`, time.Minute)
			c = openSocket(t, s, "/echo")
			_ = c.Close()
			s.WaitLog(`ended \["websocket.disconnect", 1006, ""\]`, time.Minute)
		})
		t.Run("may refuse", func(t *testing.T) { checkDenials(t, s) })
		t.Run("closes as it likes", func(t *testing.T) { checkCloses(t, s) })
		t.Run("that says what it must not hears of it", func(t *testing.T) {
			c := openSocket(t, s, "/wrong")
			c.want(`["RuntimeError", "RuntimeError", "ValueError", "ValueError", "RuntimeError", "ValueError", "ValueError", "TypeError", ` +
				`"TypeError", "UnicodeEncodeError", "RuntimeError", "ValueError", "ValueError", "RuntimeError"]`)
		})
		t.Run("loses no message by a wait that is given up", func(t *testing.T) {
			c := openSocket(t, s, "/cancels")
			for _, text := range []string{"a", "b", "c"} {
				c.want("tick")
				c.send(ws.NewTextFrame([]byte(text)))
			}
			for {
				if _, got := c.message(); got != "tick" {
					if got != "got abc" {
						t.Fatal(got)
					}
					break
				}
			}
		})
	})
}

func checkSocketScope(t *testing.T, s *harness.Server, loop string) {
	c := openSocket(t, s, "/look/a%20b?q=%20", "Sec-WebSocket-Protocol: first, second", "Sec-WebSocket-Protocol: third", "X-Mine: 1", "Origin: "+s.URL)
	if c.head.Get("Sec-Websocket-Protocol") != "second" || c.head.Get("X-One") != "1" || len(c.head["Set-Cookie"]) != 2 {
		t.Errorf("fields of 101: %v", c.head)
	}
	var scope struct {
		Type, Path, Scheme, Loop, Method string
		RawPath                          string `json:"raw_path"`
		QueryString                      string `json:"query_string"`
		HTTPVersion                      string `json:"http_version"`
		RootPath                         string `json:"root_path"`
		Subprotocols                     []string
		Headers                          [][2]string
		Client, Server                   []any
		Extensions                       map[string]any
		ASGI                             map[string]string
	}
	_, text := c.message()
	if err := json.Unmarshal([]byte(text), &scope); err != nil {
		t.Fatal(err)
	}
	scheme := "ws"
	if strings.HasPrefix(s.URL, "https") {
		scheme = "wss"
	}
	headers := map[string]string{}
	for _, h := range scope.Headers {
		headers[h[0]] += h[1]
	}
	switch {
	case scope.Type != "websocket", scope.Path != "/look/a b", scope.RawPath != "/look/a%20b", scope.QueryString != "q=%20",
		scope.Scheme != scheme, scope.HTTPVersion != "1.1", scope.Method != "", scope.ASGI["spec_version"] != "2.5",
		strings.Join(scope.Subprotocols, "|") != "first|second|third", len(scope.Client) != 2, len(scope.Server) != 2,
		scope.Extensions["websocket.http.response"] == nil, headers["x-mine"] != "1", headers["upgrade"] != "websocket",
		headers["connection"] != "Upgrade", headers["host"] != s.Addr, headers["sec-websocket-key"] == "", headers["x-request-id"] == "",
		!strings.HasPrefix(scope.Loop, loop):
		t.Errorf("scope: %s", text)
	}
}

func checkDenials(t *testing.T, s *harness.Server) {
	for path, want := range map[string]refused{
		"/refuse":         {status: 403},
		"/deny":           {status: 418, body: "no coffee here"},
		"/returns/before": {status: 500, body: "application_protocol"},
		"/raises/before":  {status: 500, body: "application_error"},
	} {
		_, err := trySocket(t, s, path)
		var got *refused
		if !errors.As(err, &got) || got.status != want.status || !strings.Contains(got.body, want.body) || strings.Contains(got.body, "secret") {
			t.Errorf("%s: %v, want %v", path, err, &want)
			continue
		}
		if path == "/deny" && got.head.Get("X-Why") != "tea" {
			t.Errorf("fields of the denial: %v", got.head)
		}
	}
	s.WaitLog(`ended \["websocket.disconnect", 1006\]`, time.Minute)
	if res, body := get(t, harness.Client(t, "http1"), s.URL+"/"); res.StatusCode != 200 || body != "http" {
		t.Errorf("an ordinary request: %d %q", res.StatusCode, body)
	}
	for _, origin := range []string{"https://evil.example", "null"} {
		var got *refused
		if _, err := trySocket(t, s, "/echo", "Origin: "+origin); !errors.As(err, &got) || got.status != 403 || !strings.Contains(got.body, "origin_not_allowed") {
			t.Errorf("origin %s: %v", origin, err)
		}
	}
}

func checkCloses(t *testing.T, s *harness.Server) {
	openSocket(t, s, "/close").wantClose(1000, "")
	s.WaitLog(`closed \[\[\["websocket.disconnect", 1000\], \["websocket.disconnect", 1000\]\], "the WebSocket is closed"\]`, time.Minute)
	openSocket(t, s, "/close?code=3456&reason=perch%C3%A9").wantClose(3456, "perché")
	c := openSocket(t, s, "/close?code=1005")
	if op, got := c.message(); op != ws.OpClose || got != "" {
		t.Errorf("%v %q, want a close frame without a code", op, got)
	}
	c = openSocket(t, s, "/returns")
	c.want("last words")
	c.wantClose(1000, "")
	openSocket(t, s, "/raises").wantClose(1011, "")
	s.WaitLog("LookupError: the secret reason", time.Minute)
}

func TestBackpressureReachesAnApplicationThatSendsTooMuch(t *testing.T) {
	everySocketMode(t, func(t *testing.T, s *harness.Server, _ string) {
		c := openSocket(t, s, "/flood")
		s.WaitLog(`blocked \[\d+\]`, time.Minute)
		n := 0
		for {
			op, got := c.message()
			if op == ws.OpText {
				if got != "after the flood" {
					t.Fatal(got)
				}
				break
			}
			n++
		}
		// The message whose wait was given up was queued all the same.
		s.WaitLog(fmt.Sprintf(`blocked \[%d\]`, n-1), time.Minute)
		s.WaitLog(`through \[\]`, time.Minute)
		_ = c.Close()
		s.WaitLog(`ended \["websocket.disconnect", 1006\]`, time.Minute)
	})
}

func TestAClientIsNotReadWhileItsApplicationTakesNothing(t *testing.T) {
	everySocketMode(t, func(t *testing.T, s *harness.Server, _ string) {
		c := openSocket(t, s, "/deaf")
		const piece, count = 256 << 10, 200
		sent := make(chan int, 1)
		go func() {
			n := 0
			for range count {
				if ws.WriteFrame(c.Conn, ws.MaskFrame(ws.NewBinaryFrame(make([]byte, piece)))) != nil {
					break
				}
				n++
			}
			sent <- n
		}()
		select {
		case n := <-sent:
			t.Fatalf("%d messages were taken off a client whose application reads none", n)
		case <-time.After(time.Second): // nothing tells that bytes do not move
		}
		get(t, harness.Client(t, "http1"), s.URL+"/open")
		if n := <-sent; n != count {
			t.Fatalf("%d messages of %d left", n, count)
		}
		c.send(ws.NewCloseFrame(ws.NewCloseFrameBody(1000, "")))
		s.WaitLog(fmt.Sprintf(`taken \[%d, 1000\]`, piece*count), time.Minute)
	})
}

func TestAClientThatLeavesBeforeItWasAcceptedIsADisconnect(t *testing.T) {
	everySocketMode(t, func(t *testing.T, s *harness.Server, _ string) {
		c := s.Dial()
		var w io.Writer = c
		if strings.HasPrefix(s.URL, "https") {
			w = tls.Client(c, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // as above
		}
		if _, err := io.WriteString(w, "GET /patient HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		s.WaitLog(`waiting`, time.Minute)
		_ = c.Close()
		s.WaitLog(`ended \["websocket.disconnect", 1006\]`, time.Minute)
		s.WaitLog(`refused \["the client has disconnected"\]`, time.Minute)
	})
}

func TestAStopClosesWebSocketsWith1012(t *testing.T) {
	everySocketMode(t, func(t *testing.T, s *harness.Server, _ string) {
		c := openSocket(t, s, "/echo")
		s.Signal(syscall.SIGTERM)
		c.wantClose(1012, "the server restarts")
		s.WaitLog(`ended \["websocket.disconnect", 1012, ""\]`, time.Minute)
		if code := s.Wait(time.Minute); code != 0 {
			t.Errorf("exit code %d", code)
		}
	})
}

func TestAWorkerThatDiesClosesItsWebSocketsWith1012AndItsSuccessorTakesNewOnes(t *testing.T) {
	everySocketMode(t, func(t *testing.T, s *harness.Server, _ string) {
		c := openSocket(t, s, "/echo")
		c.send(ws.NewTextFrame([]byte("hello")))
		c.want("hello")
		for _, pid := range s.Workers() {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		c.wantClose(1012, "the worker has ended")
		c = openSocket(t, s, "/echo") // waits for the successor
		c.send(ws.NewTextFrame([]byte("again")))
		c.want("again")
	})
}

// TestWebSocketsOfFrameworks runs applications of the frameworks with real clients of
// theirs, in every mode.
func TestWebSocketsOfFrameworks(t *testing.T) {
	left := map[string]string{
		"starlette": "starlette ended 1000", "fastapi": "fastapi left, remain 0", "channels": "channels left 1000", "socketio": "socketio left",
	}
	for name, line := range left {
		for _, transport := range harness.Transports() {
			for _, loop := range []string{"uvloop", "asyncio"} {
				if name != "starlette" && (transport == "shm") != (loop == "uvloop") {
					continue // the others have each transport and each loop once
				}
				t.Run(name+"/"+transport+"/"+loop, func(t *testing.T) {
					s := harness.Start(t, harness.Options{Args: []string{"sockets_" + name + ":app"}, Transport: transport, Env: []string{"TEST_LOOP=" + loop}})
					ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
					defer cancel()
					client := exec.CommandContext(ctx, harness.Python(t, "newest"), "websocket_clients.py", name, "ws://"+s.Addr)
					if out, err := client.CombinedOutput(); err != nil {
						t.Fatalf("%v\n%s", err, out)
					}
					s.WaitLog(line, time.Minute)
					if log := s.Log(); strings.Contains(log, "Traceback") {
						t.Error("the log has a traceback")
					}
				})
			}
		}
	}
}
