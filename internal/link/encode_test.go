package link_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/link/linktest"
)

func encoded(t *testing.T, x *exchange.Exchange, wsgi bool) *linktest.Request {
	t.Helper()
	r, err := linktest.ParseRequest(link.AppendRequest(nil, x, 0, wsgi))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func fields(r *linktest.Request) string {
	var out []string
	for _, f := range r.Fields {
		out = append(out, f.Name+": "+f.Value)
	}
	return strings.Join(out, "\n")
}

func TestWSGIGetsEnvironKeysWithDuplicatesJoined(t *testing.T) {
	x := request("POST", "/")
	x.Length = 9
	x.Fields = []exchange.Field{
		field("Host", "other"), field("Content-Type", "text/plain"), field("content-length", "9"),
		field("Cookie", "a=1"), field("Accept", "text/html"), field("COOKIE", "b=2"), field("accept", "*/*"),
		field("X-Request-Id", "the client's"), field("cookie", "c=3"),
	}
	want := strings.Join([]string{
		"HTTP_HOST: shop.example:8000", "CONTENT_TYPE: text/plain", "HTTP_COOKIE: a=1; b=2; c=3",
		"HTTP_ACCEPT: text/html,*/*", "CONTENT_LENGTH: 9", "HTTP_X_REQUEST_ID: 0123456789abcdef",
	}, "\n")
	if got := fields(encoded(t, x, true)); got != want {
		t.Errorf("environ:\n%s\nwant:\n%s", got, want)
	}
}

func TestASGIGetsLowerCaseNamesInOrderHostFirst(t *testing.T) {
	x := request("POST", "/")
	x.Length = 9
	x.TraceParent = []byte("00-1-2-01")
	x.Fields = []exchange.Field{
		field("Accept", "text/html"), field("HOST", "other"), field("Content-Length", "09"), field("ACCEPT", "*/*"),
		field("TraceParent", "the client's"), field("Transfer-Encoding", "chunked"),
	}
	want := strings.Join([]string{
		"host: shop.example:8000", "accept: text/html", "content-length: 9", "accept: */*",
		"x-request-id: 0123456789abcdef", "traceparent: 00-1-2-01",
	}, "\n")
	if got := fields(encoded(t, x, false)); got != want {
		t.Errorf("headers:\n%s\nwant:\n%s", got, want)
	}
}

func TestTheLengthThatTheApplicationReadsIsTheOneThatFramesTheBody(t *testing.T) {
	cases := []struct {
		name   string
		length int64
		sent   string // the client's field, if any
		want   string
	}{
		{"no body", 0, "", ""}, {"empty body", 0, "0", "0"}, {"body", 12, "12", "12"},
		{"unknown", -1, "", ""}, {"spooled", 12, "", "12"}, {"client's digits", 7, "0007", "7"},
	}
	for _, c := range cases {
		x := request("POST", "/")
		x.Length = c.length
		if c.sent != "" {
			x.Fields = []exchange.Field{field("Content-Length", c.sent)}
		}
		if r := encoded(t, x, true); r.Get("CONTENT_LENGTH") != c.want || r.Get("HTTP_CONTENT_LENGTH") != "" {
			t.Errorf("%s: WSGI reads %q", c.name, r.Get("CONTENT_LENGTH"))
		}
		r := encoded(t, x, false)
		if r.Get("content-length") != c.want {
			t.Errorf("%s: ASGI reads %q", c.name, r.Get("content-length"))
		}
		if noLength := r.Flags&1 != 0; noLength != (c.length < 0) || r.Length != c.length {
			t.Errorf("%s: flags %d, length %d", c.name, r.Flags, r.Length)
		}
	}
}

func TestServerNameIsTheHostThatTheClientAskedFor(t *testing.T) {
	for _, c := range []struct{ host, wsgi string }{
		{"shop.example", "shop.example"}, {"shop.example:81", "shop.example"}, {"[::1]:81", "[::1]"},
		{"", "127.0.0.1"}, {"[::1", "127.0.0.1"}, {":81", "127.0.0.1"},
	} {
		x := request("GET", "/")
		x.Host = []byte(c.host)
		if r := encoded(t, x, true); r.ServerName != c.wsgi || r.ServerPort != 8000 {
			t.Errorf("Host %q: WSGI is served by %q port %d", c.host, r.ServerName, r.ServerPort)
		}
		if r := encoded(t, x, false); r.ServerName != "127.0.0.1" {
			t.Errorf("Host %q: ASGI is served by %q", c.host, r.ServerName)
		}
	}
	x := request("GET", "/")
	x.Unix, x.LocalName = true, "/run/guado.sock"
	for host, want := range map[string]string{"shop.example:81": "shop.example", "": "localhost", ":81": "localhost"} {
		x.Host = []byte(host)
		if r := encoded(t, x, true); r.ServerName != want || r.ServerPort != 0 || r.ClientHost != "" {
			t.Errorf("on a Unix socket with Host %q: WSGI is served by %q port %d, client %q", host, r.ServerName, r.ServerPort, r.ClientHost)
		}
		if r := encoded(t, x, false); r.ServerName != "/run/guado.sock" || r.ServerPort != 0 {
			t.Errorf("on a Unix socket with Host %q: ASGI is served by %q port %d", host, r.ServerName, r.ServerPort)
		}
	}
}

func TestAHundredFieldsAreJoinedRightWhateverTheirHash(t *testing.T) {
	x := request("GET", "/")
	want := make(map[string]string)
	for i := range 100 {
		name := "X-" + string(rune('A'+i%26)) + strings.Repeat("y", i%7)
		value := strings.Repeat("v", i%5) + string(rune('a'+i%10))
		x.Fields = append(x.Fields, field(name, value))
		key := "HTTP_X_" + strings.ToUpper(name[2:])
		if have, ok := want[key]; ok {
			value = have + "," + value
		}
		want[key] = value
	}
	r := encoded(t, x, true)
	if len(r.Fields) != len(want)+2 {
		t.Errorf("%d fields, want %d", len(r.Fields), len(want)+2)
	}
	for k, v := range want {
		if r.Get(k) != v {
			t.Errorf("%s: %q, want %q", k, r.Get(k), v)
		}
	}
}

func TestEncodingARequestAllocatesNothing(t *testing.T) {
	x := vectorRequests()[2].x
	buf := make([]byte, 0, 4096)
	for _, wsgi := range []bool{true, false} {
		if n := testing.AllocsPerRun(100, func() { buf = link.AppendRequest(buf[:0], x, 0, wsgi, []byte("body")) }); n > 0 {
			t.Errorf("wsgi %v: %v allocations", wsgi, n)
		}
	}
}

// FuzzAppendRequest holds the encoder to a decoder that shares no code with it.
func FuzzAppendRequest(f *testing.F) {
	f.Add("GET", "/path", "shop:80", "Cookie", "a=1", "cookie", "b=2", "body", int64(4))
	f.Add("", "", "[::1]", "Content-Length", "x", "Host", "", "", int64(-1))
	f.Fuzz(func(t *testing.T, method, path, host, n1, v1, n2, v2, body string, length int64) {
		if len(n1) > 60000 || len(n2) > 60000 {
			t.Skip("names of the edge are short")
		}
		x := request(method, path)
		x.Host, x.Length = []byte(host), length
		x.Fields = []exchange.Field{field(n1, v1), field(n2, v2)}
		for _, wsgi := range []bool{true, false} {
			r, err := linktest.ParseRequest(link.AppendRequest(nil, x, 0, wsgi, []byte(body)))
			if err != nil {
				t.Fatal(err)
			}
			if r.Method != method || r.Path != path || string(r.Inline) != body {
				t.Errorf("%q %q %q came as %q %q %q", method, path, body, r.Method, r.Path, r.Inline)
			}
			names := make([]string, 0, len(r.Fields))
			for _, f := range r.Fields {
				names = append(names, f.Name)
			}
			slices.Sort(names)
			if wsgi && len(slices.Compact(names)) != len(r.Fields) {
				t.Errorf("environ has a key twice:\n%s", fields(r))
			}
		}
	})
}
