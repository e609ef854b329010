package guado_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado"
	"github.com/guado-server/guado/test/harness"
)

// handshake asks for a WebSocket and gives the head of the answer.
func (s *site) handshake(path string) *http.Response {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		s.t.Fatal(err)
	}
	_, _ = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Forwarded-Proto: https\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", path)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return res
}

func TestTheAnswerThatOpensAWebSocketHasTheFieldsOfEveryAnswer(t *testing.T) {
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: theirs\r\nX-Powered-By: steam\r\nX-One: old\r\n\r\n")
		_ = conn.Close()
	}))
	defer behind.Close()
	dir := t.TempDir()
	mount := "set_headers = { \"X-One\" = \"set\", \"Sec-WebSocket-Accept\" = \"forged\" }\nadd_headers = { \"Link\" = \"</a>; rel=help\" }\nremove_headers = [\"X-Powered-By\"]\n"
	write(t, dir, "guado.toml", fmt.Sprintf("[server]\nlisten = [\"127.0.0.1:0\"]\nphase = 3\nstate_dir = \"state\"\ncache_dir = \"cache\"\n"+
		"expose_request_id = true\nhsts = \"1h\"\ntrusted_proxies = [\"127.0.0.1\"]\n"+
		"[[app]]\nname = \"shop\"\ndir = %q\npython = %q\nkind = \"asgi\"\ntarget = \"sockets:app\"\n"+
		"[[mount]]\npath = \"/\"\napp = \"shop\"\n"+mount+
		"[[mount]]\npath = \"/behind\"\nupstream = \""+behind.URL+"\"\n"+mount,
		harness.Apps(), harness.Python(t, "newest")))
	c, err := guado.Load(filepath.Join(dir, "guado.toml"))
	if err != nil {
		t.Fatal(err)
	}
	s, _ := newSite(t, "")
	log := s.Log
	s.Server = guado.NewResolved(c)
	s.Log, s.Stdout, s.Stderr = log, s.log, s.log
	s.run()
	for _, c := range []struct{ path, accept, one, link string }{
		{"/look", "ICX+Yqv66kxgM0FcWaLWlFLwTAI=", "set", "</a>; rel=help"},
		{"/behind", "theirs", "set", "</a>; rel=help"},
		{"/_guado/push", "ICX+Yqv66kxgM0FcWaLWlFLwTAI=", "", ""},
	} {
		res := s.handshake(c.path)
		h := res.Header
		if res.StatusCode != 101 || h.Get("Upgrade") != "websocket" || strings.Join(h.Values("Sec-WebSocket-Accept"), " ") != c.accept {
			t.Errorf("%s: %d %v", c.path, res.StatusCode, h)
		}
		if strings.Join(h.Values("X-One"), " ") != c.one || h.Get("Link") != c.link || h.Get("X-Powered-By") != "" {
			t.Errorf("%s: fields of the mount: %v", c.path, h)
		}
		if h.Get("X-Request-Id") == "" || h.Get("Strict-Transport-Security") != "max-age=3600" {
			t.Errorf("%s: fields of the server: %v", c.path, h)
		}
		if c.path == "/look" && strings.Join(h.Values("Set-Cookie"), " ") != "a=b c=d" {
			t.Errorf("%s: the application's fields: %v", c.path, h)
		}
	}
}
