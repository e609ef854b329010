// Package conformance holds the server against what others wrote down: RFC 9112 and
// the request smuggling that its readers got wrong, byte by byte over raw sockets.
package conformance

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/guado-server/guado/test/harness"
)

// smuggled is what must never reach the application: the tail of each attack.
const smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"

// attacks are refused with the status, the connection is closed, and nothing of them
// is seen by the application.
var attacks = []struct {
	name   string
	raw    string
	status int
}{
	{"Content-Length and Transfer-Encoding together", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, 400},
	{"Transfer-Encoding and Content-Length together", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + smuggled, 400},
	{"two Content-Lengths that differ", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 40\r\n\r\n" + smuggled, 400},
	{"two Content-Lengths that agree", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n" + smuggled, 400},
	{"a Content-Length list", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0, 0\r\n\r\n" + smuggled, 400},
	{"a signed Content-Length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +0\r\n\r\n" + smuggled, 400},
	{"a negative Content-Length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n" + smuggled, 400},
	{"a hexadecimal Content-Length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x0\r\n\r\n" + smuggled, 400},
	{"a Content-Length with an underscore", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1_0\r\n\r\n" + smuggled, 400},
	{"an empty Content-Length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: \r\n\r\n" + smuggled, 400},
	{"an overflowing Content-Length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551616\r\n\r\n" + smuggled, 400},
	{"a transfer coding before chunked", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + smuggled, 501},
	{"chunked twice", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + smuggled, 501},
	{"two Transfer-Encoding fields", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + smuggled, 400},
	{"a quoted transfer coding", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n" + smuggled, 501},
	{"an unknown transfer coding", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + smuggled, 501},
	{"a vertical tab before chunked", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + smuggled, 400},
	{"chunked in HTTP/1.0", "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, 400},
	{"white space before the colon", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\n" + smuggled, 400},
	{"obs-fold", "POST / HTTP/1.1\r\nHost: x\r\nX-A: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, 400},
	{"a first field that starts with a space", "GET / HTTP/1.1\r\n Host: x\r\n\r\n" + smuggled, 400},
	{"a bare line feed between fields", "GET / HTTP/1.1\r\nHost: x\nX-A: b\r\n\r\n" + smuggled, 400},
	{"a bare line feed as the end of the head", "GET / HTTP/1.1\r\nHost: x\r\n\n" + smuggled, 400},
	{"a bare carriage return in a value", "GET / HTTP/1.1\r\nHost: x\r\nX-A: a\rTransfer-Encoding: chunked\r\n\r\n" + smuggled, 400},
	{"NUL in a value", "GET / HTTP/1.1\r\nHost: x\r\nX-A: a\x00b\r\n\r\n" + smuggled, 400},
	{"NUL in a name", "GET / HTTP/1.1\r\nHost: x\r\nX-\x00A: b\r\n\r\n" + smuggled, 400},
	{"a control character in a value", "GET / HTTP/1.1\r\nHost: x\r\nX-A: a\x01b\r\n\r\n" + smuggled, 400},
	{"an empty field name", "GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n" + smuggled, 400},
	{"a line without a colon", "GET / HTTP/1.1\r\nHost: x\r\nX-A\r\n\r\n" + smuggled, 400},
	{"a missing Host", "GET / HTTP/1.1\r\nX-A: b\r\n\r\n" + smuggled, 400},
	{"two Hosts", "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n" + smuggled, 400},
	{"a Host with a path", "GET / HTTP/1.1\r\nHost: x/y\r\n\r\n" + smuggled, 400},
	{"a Host with user information", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n" + smuggled, 400},
	{"a relative target", "GET index.html HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled, 400},
	{"an authority target", "CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled, 0},
	{"an asterisk target of GET", "GET * HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled, 400},
	{"a target with a space", "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled, 400},
	{"a fragment in the target", "GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled, 400},
	{"a percent sign without digits", "GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled, 400},
	{"an encoded NUL", "GET /a%00b HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled, 400},
	{"a lower-case version", "GET / http/1.1\r\nHost: x\r\n\r\n" + smuggled, 400},
	{"an unknown version", "GET / HTTP/1.2\r\nHost: x\r\n\r\n" + smuggled, 505},
	{"HTTP/0.9", "GET /\r\n\r\n" + smuggled, 400},
	{"two spaces in the request line", "GET  / HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled, 400},
	{"a method with a control character", "GE\x01T / HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled, 400},
	{"a chunk size with a sign", chunked("+5\r\nhello\r\n0\r\n\r\n"), 400},
	{"a chunk size with 0x", chunked("0x5\r\nhello\r\n0\r\n\r\n"), 400},
	{"a chunk size with an underscore", chunked("0_5\r\nhello\r\n0\r\n\r\n"), 400},
	{"a chunk size with a space before it", chunked(" 5\r\nhello\r\n0\r\n\r\n"), 400},
	{"an overflowing chunk size", chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"), 400},
	{"an empty chunk size", chunked("\r\nhello\r\n0\r\n\r\n"), 400},
	{"a bare line feed behind a chunk size", chunked("5\nhello\r\n0\r\n\r\n"), 400},
	{"a bare line feed behind chunk data", chunked("5\r\nhello\n0\r\n\r\n"), 400},
	{"chunk data longer than said", chunked("5\r\nhelloX\r\n0\r\n\r\n"), 400},
	{"a carriage return in a chunk extension", chunked("5;a=\rb\r\nhello\r\n0\r\n\r\n"), 400},
	{"a line feed in a chunk extension", chunked("5;a=b\n\r\nhello\r\n0\r\n\r\n"), 400},
	{"a malformed trailer", chunked("5\r\nhello\r\n0\r\nX A: b\r\n\r\n"), 400},
}

func chunked(body string) string {
	return "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body + smuggled
}

func TestSmugglingIsRefusedAndNothingOfItReachesTheApplication(t *testing.T) {
	for _, target := range []string{"witness:wsgi", "witness:asgi"} {
		s := harness.Start(t, harness.Options{Args: []string{target}})
		for _, a := range attacks {
			t.Run(target[8:]+"/"+a.name, func(t *testing.T) {
				conn := s.Dial()
				if _, err := io.WriteString(conn, a.raw); err != nil {
					t.Fatal(err)
				}
				answer := readAll(conn)
				res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), nil)
				if err != nil {
					t.Fatalf("no answer but %q: %v", answer, err)
				}
				if res.StatusCode < 400 || a.status != 0 && res.StatusCode != a.status {
					t.Errorf("answered %d, want %d", res.StatusCode, a.status)
				}
				if n := bytes.Count(answer, []byte("HTTP/1.1 ")); n != 1 {
					t.Errorf("%d answers on the connection: %q", n, answer)
				}
				for _, r := range seen(t, s) {
					if r[1] == "/smuggled" || !strings.HasPrefix(r[2], "cut: ") {
						t.Errorf("the application saw %q", r)
					}
				}
			})
		}
	}
}

func TestACutBodyNeverLooksComplete(t *testing.T) {
	cuts := map[string]string{
		"in the middle of a chunk":      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
		"before the last chunk":         "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"before the final line":         "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
		"in the middle of the trailers": "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-A: b",
		"short of the Content-Length":   "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello",
	}
	for _, target := range []string{"witness:wsgi", "witness:asgi"} {
		s := harness.Start(t, harness.Options{Args: []string{target}})
		for name, raw := range cuts {
			t.Run(target[8:]+"/"+name, func(t *testing.T) {
				conn := s.Dial()
				if _, err := io.WriteString(conn, raw); err != nil {
					t.Fatal(err)
				}
				if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if answer := readAll(conn); bytes.Contains(answer, []byte(" 200 ")) {
					t.Errorf("a cut body was answered %q", answer)
				}
				for _, r := range seen(t, s) {
					if !strings.HasPrefix(r[2], "cut: ") {
						t.Errorf("the application took the body for complete: %q", r)
					}
				}
			})
		}
	}
}

func TestFieldsThatCouldBeTakenForOthersAreDropped(t *testing.T) {
	dropped := []string{"X_Underscore: 1", "X.Dot: 1", "Proxy: http://evil", "Guado-Page: 1", "Guado-Ack: 1", "Guado-User: root",
		"X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil", "X-Real-IP: 6.6.6.6", "Forwarded: for=6.6.6.6",
		"Connection: X-Named", "X-Named: 1", "Keep-Alive: 1", "Proxy-Authorization: x", "TE: gzip", "Transfer_Encoding: chunked", "Content_Length: 3"}
	for _, target := range []string{"witness:wsgi", "witness:asgi"} {
		s := harness.Start(t, harness.Options{Args: []string{target}})
		conn := s.Dial()
		raw := "GET /fields HTTP/1.1\r\nHost: x\r\nX-Kept: 1\r\n" + strings.Join(dropped, "\r\n") + "\r\n\r\n"
		if _, err := io.WriteString(conn, raw); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		var got struct{ Fields map[string]string }
		if err := json.NewDecoder(res.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		var names []string
		for name := range got.Fields {
			names = append(names, strings.ReplaceAll(strings.TrimPrefix(strings.ToLower(name), "http_"), "_", "-"))
		}
		slices.Sort(names)
		if want := []string{"host", "traceparent", "x-kept", "x-request-id"}; !slices.Equal(names, want) {
			t.Errorf("%s: the application was given %q, want %q", target, names, want)
		}
	}
}

// readAll reads until the server closes; a reset after the answer is an end too.
func readAll(c net.Conn) []byte {
	var b bytes.Buffer
	_, _ = io.Copy(&b, c)
	return b.Bytes()
}

// seen asks the application, over a connection of its own, what has reached it.
func seen(t *testing.T, s *harness.Server) [][3]string {
	t.Helper()
	res, err := harness.Client(t, "http1").Get(s.URL + "/seen")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var all [][3]string
	if err := json.NewDecoder(res.Body).Decode(&all); err != nil {
		t.Fatal(err)
	}
	return all
}
