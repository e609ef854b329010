package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/guado-server/guado/test/harness"
)

// behind is a server that an upstream mount points at: it says what it was asked,
// and answers an upgrade by echoing lines.
func behind(t *testing.T, listener net.Listener) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "websocket" {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer func() { _ = conn.Close() }()
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			for {
				line, err := rw.ReadString('\n')
				if err != nil {
					return
				}
				_, _ = io.WriteString(conn, "echo "+line)
			}
		}
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "upstream saw %s %s host=%s for=%s proto=%s prefix=%s id=%t body=%s",
			r.Method, r.URL, r.Host, r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Forwarded-Proto"),
			r.Header.Get("X-Forwarded-Prefix"), r.Header.Get("X-Request-Id") != "", body)
	}))
	_ = s.Listener.Close()
	s.Listener = listener
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// everyMount serves each kind of mount; down is the one behind /socket.
func everyMount(t *testing.T) (s *harness.Server, down *httptest.Server) {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "public"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "public", "hello.txt"), []byte("a static file"), 0o644); err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "app.sock")
	unix, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	behind(t, tcp)
	down = behind(t, unix)
	config := fmt.Sprintf(`
[server]
listen = ["127.0.0.1:0"]

[[app]]
name = "flask"
target = "flask_app:app"
dir = %[1]q
python = %[2]q
[[app]]
name = "starlette"
kind = "asgi"
target = "starlette_app:app"
dir = %[1]q
python = %[3]q

[[mount]]
path = "/"
app = "flask"
[[mount]]
path = "/star"
app = "starlette"
[[mount]]
path = "/kept"
app = "flask"
prefix = "keep"
[[mount]]
path = "/files"
static = %[4]q
[[mount]]
path = "/old"
redirect = "/new"
keep_path = true
[[mount]]
path = "/tcp"
upstream = "http://%[5]s"
[[mount]]
path = "/socket"
upstream = "unix:%[6]s"
prefix = "strip"
[[mount]]
host = "star.example"
path = "/"
app = "starlette"
`, harness.Apps(), harness.Python(t, "oldest"), harness.Python(t, "newest"), filepath.Join(dir, "public"), tcp.Addr(), socket)
	s = harness.Start(t, harness.Options{Config: config, Dir: dir})
	return s, down
}

func TestEveryKindOfMountAnswersBesideTheOthers(t *testing.T) {
	s, down := everyMount(t)
	c := harness.Client(t, "http1")

	for _, x := range []struct {
		path   string
		status int
		text   string
	}{
		{"/", 200, "flask at '' sees '/'"},
		{"/star/", 200, `"root_path":"/star","path":"/star/"`},
		{"/star/done", 200, "[]"},
		{"/starfish", 404, ""}, // a prefix ends at a segment boundary: this is Flask's own 404
		{"/files/hello.txt", 200, "a static file"},
		{"/files/missing.txt", 404, ""},
		{"/tcp/a?b=c", 200, "upstream saw GET /tcp/a?b=c host=" + s.Addr + " for=127.0.0.1 proto=http prefix= id=true"},
		{"/socket/a?b=c", 200, "upstream saw GET /a?b=c host=" + s.Addr + " for=127.0.0.1 proto=http prefix=/socket id=true"},
	} {
		res, body := get(t, c, s.URL+x.path)
		want(t, res, body, x.status, x.text)
	}
	t.Run("a kept prefix is the application's own business", func(t *testing.T) {
		res, body := get(t, c, s.URL+"/kept/x")
		want(t, res, body, 404, "Not Found")
	})
	t.Run("a redirect keeps path and query", func(t *testing.T) {
		res, _ := get(t, c, s.URL+"/old/a%2Fb?x=1")
		if res.StatusCode != 308 || res.Header.Get("Location") != "/new/a%2Fb?x=1" {
			t.Errorf("%d %q", res.StatusCode, res.Header.Get("Location"))
		}
	})
	t.Run("a host has mounts of its own", func(t *testing.T) {
		r := request(t, "GET", s.URL+"/", nil)
		r.Host = "star.example"
		res, body := do(t, c, r)
		want(t, res, body, 200, "hello from lifespan")
	})
	t.Run("bodies reach an upstream", func(t *testing.T) {
		res, body := do(t, c, request(t, "POST", s.URL+"/tcp/", strings.NewReader("payload")))
		want(t, res, body, 200, "body=payload")
	})
	t.Run("what a client claims about itself does not reach an upstream", func(t *testing.T) {
		res, body := get(t, c, s.URL+"/tcp/", "X-Forwarded-For", "6.6.6.6", "X-Forwarded-Prefix", "/evil", "X-Forwarded-Proto", "https")
		want(t, res, body, 200, "for=127.0.0.1 proto=http prefix= ")
	})
	t.Run("a WebSocket upgrade passes through", func(t *testing.T) {
		for _, path := range []string{"/tcp/ws", "/socket/ws"} {
			upgrade(t, s, path)
		}
	})
	t.Run("an ASGI application that has no such WebSocket refuses it", func(t *testing.T) {
		res, body := get(t, c, s.URL+"/star/", "Connection", "Upgrade", "Upgrade", "websocket",
			"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version", "13")
		want(t, res, body, 403, "")
	})
	t.Run("an upstream that is down is a clean 502", func(t *testing.T) {
		down.Close() // its listener and the idle connections to it
		res, body := get(t, c, s.URL+"/socket/")
		want(t, res, body, 502, "upstream_unreachable")
	})
}

// upgrade speaks through an upgraded connection to the server behind the mount.
func upgrade(t *testing.T, s *harness.Server, path string) {
	t.Helper()
	conn := s.Dial()
	_, _ = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", path)
	lines := bufio.NewReader(conn)
	res, err := http.ReadResponse(lines, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("%s: %v %v", path, res, err)
	}
	for _, word := range []string{"one\n", "two\n"} {
		_, _ = io.WriteString(conn, word)
		if got, err := lines.ReadString('\n'); err != nil || got != "echo "+word {
			t.Fatalf("%s: %q %v", path, got, err)
		}
	}
}
