package upstream_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/edge"
	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/gohandler"
	"github.com/guado-server/guado/internal/route"
	"github.com/guado-server/guado/internal/upstream"
	"github.com/guado-server/guado/test/harness/edgetest"
)

// patience bounds waits for what must happen; no test that passes waits it out.
const patience = 20 * time.Second

// behind starts the upstream: h reads requests off a raw connection, so that nothing
// tidies what was sent.
func behind(t *testing.T, network string, h func(conn net.Conn, in *bufio.Reader)) string {
	t.Helper()
	name := "127.0.0.1:0"
	if network == "unix" {
		name = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, name)
	if err != nil {
		t.Fatal(err)
	}
	accepting := make(chan struct{})
	conns := make(chan struct{}, 100)
	started := 0
	go func() {
		defer close(accepting)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			started++
			go func() {
				defer func() { _ = c.Close(); conns <- struct{}{} }()
				h(c, bufio.NewReader(c))
			}()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-accepting
		for range started {
			<-conns
		}
	})
	if network == "unix" {
		return "unix:" + name
	}
	return "http://" + l.Addr().String()
}

// head reads a request head as it is.
func head(in *bufio.Reader) string {
	var text strings.Builder
	for {
		line, err := in.ReadString('\n')
		text.WriteString(line)
		if err != nil || line == "\r\n" {
			return text.String()
		}
	}
}

// telling answers each request with its own head.
func telling(conn net.Conn, in *bufio.Reader) {
	for {
		h := head(in)
		if h == "" {
			return
		}
		if _, err := fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(h), h); err != nil {
			return
		}
	}
}

// front is an edge with an upstream mount; it gives the edge's address.
func front(t *testing.T, mount string, o upstream.Options, change ...func(*edge.Options)) string {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	o.Log, o.Exchange = log, gohandler.Exchange
	h, err := upstream.New(o)
	if err != nil {
		t.Fatal(err)
	}
	table, err := route.New([]route.Mount{{Name: "up", Path: mount, Handler: gohandler.Wrap(h, log)}})
	if err != nil {
		t.Fatal(err)
	}
	options := edge.Options{Handler: table, Log: log}
	for _, c := range change {
		c(&options)
	}
	return edgetest.Serve(t, options, h.Close)
}

// client is a raw connection to the front.
type client struct {
	net.Conn
	t  *testing.T
	in *bufio.Reader
}

func dial(t *testing.T, address, text string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	c := &client{conn, t, bufio.NewReader(conn)}
	c.send(text)
	return c
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, text); err != nil {
		c.t.Fatal(err)
	}
}

// answer reads one.
func (c *client) answer() (*http.Response, string) {
	c.t.Helper()
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		return res, ""
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return res, string(body)
}

func TestAnUpstreamGetsTheTargetAsTheClientSentIt(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		up := behind(t, network, telling)
		address := front(t, "/", upstream.Options{Address: up, KeepHost: true})
		for _, target := range []string{
			"/", "/?", "/x?a;b=1", "/?a=%zz&b", "/?q=a+b%20c&&x", "/a%2Fb", "/a%2Fb|c", "/%c3%a4/%C3%A4", "/a//b/", "/x%20y{1}",
			"//a%2Fb", "//evil.example/x?y", "/a;v=1/b", "/%252F", "/a%3Fb?c?d", "/:x@y",
		} {
			_, text := dial(t, address, "GET "+target+" HTTP/1.1\r\nHost: shop.example\r\n\r\n").answer()
			if line, _, _ := strings.Cut(text, "\r\n"); line != "GET "+target+" HTTP/1.1" {
				t.Errorf("%s, %s: the upstream got %q", network, target, line)
			}
		}
		// Where a browser's spelling cannot be kept, it means the same path.
		_, text := dial(t, address, "GET //a%2Fb|c\\ HTTP/1.1\r\nHost: shop.example\r\n\r\n").answer()
		if line, _, _ := strings.Cut(text, "\r\n"); line != "GET //a%2Fb%7Cc%5C HTTP/1.1" {
			t.Errorf("%s: the upstream got %q", network, line)
		}
	}
}

func TestAMountsPrefixMakesWayForTheUpstreamsOwn(t *testing.T) {
	up := behind(t, "tcp", telling)
	for _, c := range []struct{ base, target, want string }{
		{"", "/app/x%2Fy?q", "/x%2Fy?q"}, {"", "/%61pp/x%2Fy|?q", "/x%2Fy|?q"}, {"", "/app", "/"}, {"", "/app//x", "//x"},
		{"/base", "/app/x", "/base/x"}, {"/base/", "/app/x", "/base/x"}, {"/ba%2Fse", "/app//x", "/ba%2Fse//x"}, {"/base", "/app?q", "/base?q"},
	} {
		address := front(t, "/app", upstream.Options{Address: up + c.base})
		_, text := dial(t, address, "GET "+c.target+" HTTP/1.1\r\nHost: shop.example\r\n\r\n").answer()
		if line, _, _ := strings.Cut(text, "\r\n"); line != "GET "+c.want+" HTTP/1.1" {
			t.Errorf("base %q, %s: the upstream got %q", c.base, c.target, line)
		}
		if !strings.Contains(text, "\r\nX-Forwarded-Prefix: /app\r\n") {
			t.Errorf("the upstream does not learn the prefix:\n%s", text)
		}
		if strings.Contains(text, "Host: shop.example\r\nU") {
			t.Errorf("the client's host was sent on:\n%s", text)
		}
	}
}

func TestAnUpstreamLearnsWhoAsksAndInWhichTrace(t *testing.T) {
	up := behind(t, "tcp", telling)
	address := front(t, "/", upstream.Options{Address: up, KeepHost: true})
	trusting := front(t, "/", upstream.Options{Address: up, KeepHost: true}, func(o *edge.Options) {
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	request := "GET / HTTP/1.1\r\nHost: shop.example\r\nX-Request-ID: chosen-by-client\r\nTraceparent: " + trace +
		"\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\nForwarded: for=198.51.100.1\r\nX-Forwarded-Host: evil.example\r\nX-Forwarded-Port: 6666\r\nX-Real-IP: 198.51.100.2\r\n\r\n"
	_, text := dial(t, address, request).answer()
	for _, want := range []string{"\r\nHost: shop.example\r\n", "\r\nX-Forwarded-For: 127.0.0.1\r\n", "\r\nX-Forwarded-Proto: http\r\n",
		"\r\nX-Forwarded-Host: shop.example\r\n", "\r\nX-Forwarded-Port: 80\r\n", "\r\nX-Real-Ip: 127.0.0.1\r\n", "\r\nX-Request-Id: ", "\r\nTraceparent: 00-"} {
		if strings.Count(text, want) != 1 {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, not := range []string{"chosen-by-client", trace, "203.0.113.7", "198.51.100.1", "198.51.100.2", "6666", "evil.example"} {
		if strings.Contains(text, not) {
			t.Errorf("%q passed:\n%s", not, text)
		}
	}
	_, text = dial(t, trusting, request).answer()
	for _, want := range []string{"\r\nX-Forwarded-For: 203.0.113.7\r\n", "\r\nX-Real-Ip: 203.0.113.7\r\n", "\r\nX-Forwarded-Proto: https\r\n",
		"\r\nX-Forwarded-Port: 6666\r\n",
		"\r\nX-Request-Id: chosen-by-client\r\n", "\r\nTraceparent: " + trace + "\r\n"} {
		if strings.Count(text, want) != 1 {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestARedirectToTheUpstreamsOwnAddressLeadsToTheMount(t *testing.T) {
	var up string
	up = behind(t, "tcp", func(conn net.Conn, in *bufio.Reader) {
		for {
			h := head(in)
			if h == "" {
				return
			}
			_, target, _ := strings.Cut(h, "?")
			target, _, _ = strings.Cut(target, " ")
			if _, err := fmt.Fprintf(conn, "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n", strings.Replace(target, "SELF", up, 1)); err != nil {
				return
			}
		}
	})
	address := front(t, "/app", upstream.Options{Address: up + "/base"})
	for to, want := range map[string]string{
		"SELF/base/login": "http://shop.example:8080/app/login", "SELF/base": "http://shop.example:8080/app",
		"SELF/base?x": "http://shop.example:8080/app?x", "SELF/basement": up + "/basement", "SELF/other": up + "/other",
		"/base/login": "/base/login", "https://sso.example/": "https://sso.example/", "login": "login",
	} {
		res, _ := dial(t, address, "GET /app/?"+to+" HTTP/1.1\r\nHost: shop.example:8080\r\n\r\n").answer()
		if got := res.Header.Get("Location"); got != want {
			t.Errorf("%s became %s, want %s", to, got, want)
		}
	}
}

func TestAnUpstreamThatDoesNotAnswerIs504(t *testing.T) {
	asked := make(chan struct{}, 1)
	up := behind(t, "tcp", func(conn net.Conn, in *bufio.Reader) {
		head(in)
		asked <- struct{}{}
		_, _ = io.Copy(io.Discard, in) // until the front closes
	})
	address := front(t, "/", upstream.Options{Address: up, Timeout: 50 * time.Millisecond})
	res, text := dial(t, address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").answer()
	<-asked
	if res.StatusCode != 504 || !strings.Contains(text, "upstream_timeout") {
		t.Errorf("%d %q", res.StatusCode, text)
	}
}

func TestAnUpstreamThatIsNotThereOrSpeaksNoHTTPIs502(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for name, up := range map[string]string{
		"nobody":    nobody,
		"no socket": "unix:" + filepath.Join(t.TempDir(), "none"),
		"closes":    behind(t, "tcp", func(_ net.Conn, in *bufio.Reader) { head(in) }),
		"no HTTP": behind(t, "tcp", func(conn net.Conn, in *bufio.Reader) {
			head(in)
			_, _ = io.WriteString(conn, "+OK POP3 ready\r\n")
		}),
	} {
		address := front(t, "/", upstream.Options{Address: up})
		res, text := dial(t, address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").answer()
		if res.StatusCode != 502 || !strings.Contains(text, "upstream_unreachable") {
			t.Errorf("%s: %d %q", name, res.StatusCode, text)
		}
		if strings.Contains(text, "127.0.0.1") || strings.Contains(text, "dial") {
			t.Errorf("%s: the page tells of the inside: %q", name, text)
		}
	}
}

func TestABodyThatBreaksTheRulesIsTheClientsFault(t *testing.T) {
	up := behind(t, "tcp", func(_ net.Conn, in *bufio.Reader) { _, _ = io.Copy(io.Discard, in) })
	address := front(t, "/", upstream.Options{Address: up}, func(o *edge.Options) {
		o.Limits = lane.Limits{BodyBytes: 10, ReadIdle: 100 * time.Millisecond}
	})
	const chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, c := range []struct {
		request, code string
		status        int
	}{
		{chunked + "b\r\n01234567890\r\n0\r\n\r\n", "body_too_large", 413},
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n01234567890", "body_too_large", 413},
		{chunked + "nonsense\r\n", "malformed_body", 400},
		{chunked + "5\r\n01", "slow_client", 408},
	} {
		res, text := dial(t, address, c.request).answer()
		if res.StatusCode != c.status || !strings.Contains(text, c.code) {
			t.Errorf("%q: %d %q", c.request, res.StatusCode, text)
		}
	}
}

func TestAnUpstreamLearnsThatTheClientLeft(t *testing.T) {
	asked, left := make(chan struct{}), make(chan struct{})
	up := behind(t, "tcp", func(_ net.Conn, in *bufio.Reader) {
		head(in)
		close(asked)
		_, _ = io.Copy(io.Discard, in)
		close(left)
	})
	c := dial(t, front(t, "/", upstream.Options{Address: up}), "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-asked
	if err := c.Conn.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-left:
	case <-time.After(patience):
		t.Error("the upstream still works for a client that is gone")
	}
}

// upgrading answers any upgrade, whatever its protocol, and echoes lines.
func upgrading(conn net.Conn, in *bufio.Reader) {
	h := head(in)
	if !strings.Contains(strings.ToLower(h), "\r\nupgrade: ") {
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(h), h)
		return
	}
	_, token, _ := strings.Cut(strings.ToLower(h), "\r\nupgrade: ")
	token, _, _ = strings.Cut(token, "\r\n")
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nSec-WebSocket-Accept: x\r\n\r\n", token)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "echo "+line)
	}
}

func TestAWebSocketPassesThrough(t *testing.T) {
	address := front(t, "/", upstream.Options{Address: behind(t, "tcp", upgrading)})
	c := dial(t, address, "GET /ws?x HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\n\r\nearly\n")
	res, _ := c.answer()
	if res.StatusCode != 101 || res.Header.Get("Upgrade") != "websocket" || res.Header.Get("Connection") != "Upgrade" ||
		res.Header.Get("Sec-Websocket-Accept") != "x" {
		t.Fatal(res)
	}
	for _, line := range []string{"early\n", "late\n"} {
		if line == "late\n" {
			c.send(line)
		}
		if got, err := c.in.ReadString('\n'); err != nil || got != "echo "+line {
			t.Fatalf("%q %v", got, err)
		}
	}
}

// Behind any other protocol, requests would reach the upstream that nobody here has
// cleaned, routed or logged.
func TestNoOtherProtocolOpensATunnel(t *testing.T) {
	address := front(t, "/", upstream.Options{Address: behind(t, "tcp", upgrading)})
	for _, fields := range []string{
		"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
		"Connection: Upgrade\r\nUpgrade: echo\r\n",
		"Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n",
		"Connection: Upgrade\r\nUpgrade: \twebsocketx\r\n",
		"Upgrade: websocket\r\n",
	} {
		res, text := dial(t, address, "GET / HTTP/1.1\r\nHost: x\r\n"+fields+"\r\n").answer()
		if lower := strings.ToLower(text); res.StatusCode != 200 || strings.Contains(lower, "upgrade") || strings.Contains(lower, "http2-settings") {
			t.Errorf("%q: %d\n%s", fields, res.StatusCode, text)
		}
	}
	// Of several, the one that is known.
	c := dial(t, address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c, websocket\r\n\r\n")
	if res, _ := c.answer(); res.StatusCode != 101 || res.Header.Get("Upgrade") != "websocket" {
		t.Error(res)
	}
	// And nobody who has not asked is switched.
	forcing := front(t, "/", upstream.Options{Address: behind(t, "tcp", func(conn net.Conn, in *bufio.Reader) {
		head(in)
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
	})})
	if res, text := dial(t, forcing, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").answer(); res.StatusCode != 502 {
		t.Errorf("%d %q", res.StatusCode, text)
	}
}

func TestAnAddressThatIsNoneIsRefused(t *testing.T) {
	for _, address := range []string{"", "127.0.0.1:80", "ftp://x", "http://", "unix:", "http://[::1"} {
		if _, err := upstream.New(upstream.Options{Address: address, Log: slog.New(slog.DiscardHandler)}); err == nil {
			t.Errorf("%q was taken", address)
		}
	}
}
