package link_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/link/linktest"
)

var update = flag.Bool("update", false, "write protocol/vectors anew")

// vectorStream is generation 1 of slot 2: the third stream that a link opens.
const vectorStream = 1<<16 | 2

// vector is one entry of a file in protocol/vectors.
type vector struct {
	kind, name string
	lines      [][]string // key and values, unescaped
}

func (v *vector) add(key string, values ...any) {
	line := []string{key}
	for _, x := range values {
		switch x := x.(type) {
		case []byte:
			line = append(line, string(x))
		default:
			line = append(line, fmt.Sprint(x))
		}
	}
	v.lines = append(v.lines, line)
}

func (v *vector) frame(raw []byte) { v.add("frame", hex.EncodeToString(raw)) }

// all gives the values of each line with this key.
func (v *vector) all(key string) (out [][]string) {
	for _, n := range v.lines {
		if n[0] == key {
			out = append(out, n[1:])
		}
	}
	return out
}

func (v *vector) get(t *testing.T, key string) string {
	t.Helper()
	all := v.all(key)
	if len(all) != 1 || len(all[0]) != 1 {
		t.Fatalf("vector %s has no single %s", v.name, key)
	}
	return all[0][0]
}

func (v *vector) number(t *testing.T, key string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(v.get(t, key), 10, 64)
	if err != nil {
		t.Fatalf("vector %s: %v", v.name, err)
	}
	return n
}

// message gives the payload of a vector's frames, joined.
func (v *vector) message(t *testing.T) (payload []byte, last link.Flags) {
	t.Helper()
	for _, f := range v.all("frame") {
		raw := unhex(t, f[0])
		size := int(raw[0]) | int(raw[1])<<8 | int(raw[2])<<16
		payload = append(payload, raw[16:size]...)
		last = link.Flags(raw[5])
	}
	return payload, last
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c > ' ' && c <= '~' && c != '%' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	if b.Len() == 0 {
		return "%"
	}
	return b.String()
}

func unescape(t *testing.T, s string) string {
	t.Helper()
	if s == "%" {
		return ""
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if len(s) < i+3 {
			t.Fatalf("token %q ends in an escape", s)
		}
		b.Write(unhex(t, s[i+1:i+3]))
		i += 2
	}
	return b.String()
}

func vectorPath(name string) string {
	return filepath.Join("..", "..", "protocol", "vectors", name)
}

// golden compares vectors with their file, or writes it.
func golden(t *testing.T, name, title string, vectors []vector) {
	t.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s Format: README.md. Written by go test ./internal/link -run Vectors -update.\n", title)
	for _, v := range vectors {
		fmt.Fprintf(&b, "\n%s %s\n", v.kind, v.name)
		for _, n := range v.lines {
			b.WriteString(n[0])
			for _, x := range n[1:] {
				b.WriteString(" " + escape(x))
			}
			b.WriteByte('\n')
		}
		b.WriteString("end\n")
	}
	if *update {
		if err := os.WriteFile(vectorPath(name), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(vectorPath(name))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("%s differs from what the code makes: the wire has changed", name)
	}
}

// readVectors reads a file as C and Python do.
func readVectors(t *testing.T, name string) (out []vector) {
	t.Helper()
	text, err := os.ReadFile(vectorPath(name))
	if err != nil {
		t.Fatal(err)
	}
	var v *vector
	for _, n := range strings.Split(string(text), "\n") {
		tokens := strings.Split(n, " ")
		switch {
		case n == "" || n[0] == '#':
		case v == nil:
			v = &vector{kind: tokens[0], name: tokens[1]}
		case n == "end":
			out, v = append(out, *v), nil
		default:
			for i := 1; i < len(tokens); i++ {
				tokens[i] = unescape(t, tokens[i])
			}
			v.lines = append(v.lines, tokens)
		}
	}
	return out
}

func field(name, value string) exchange.Field {
	return exchange.Field{Name: []byte(name), Value: []byte(value)}
}

// upgrader makes a request one for a WebSocket.
type upgrader struct{ exchange.Upgrader }

// vectorRequests are the requests of requests.txt.
func vectorRequests() []struct {
	name     string
	wsgi     bool
	complete bool
	body     string
	x        *exchange.Exchange
} {
	type r = struct {
		name     string
		wsgi     bool
		complete bool
		body     string
		x        *exchange.Exchange
	}
	client := netip.MustParseAddrPort("192.0.2.7:51234")
	get := request("GET", "/shop/cart")
	get.Client, get.Target, get.Query = client, []byte("/shop/cart?a=1&b=%20"), []byte("a=1&b=%20")
	get.TraceParent = []byte("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	get.Fields = []exchange.Field{
		field("Host", "shop.example:8000"), field("User-Agent", "curl/8.0"), field("Accept", "*/*"),
		field("x-request-id", "the client's own"),
	}
	post := request("POST", "/form")
	post.Client, post.Length = client, 9
	post.Fields = []exchange.Field{
		field("content-type", "application/x-www-form-urlencoded"), field("Content-Length", "9"),
		field("Cookie", "a=1"), field("X-Multi", "one"), field("cookie", "b=2"), field("x-MULTI", "two"),
		field("X-Multi", ""), field("X-Latin", "caf\xe9"),
	}
	upload := request("PUT", "/upload")
	upload.Client, upload.Length, upload.Expect = client, 5<<30, true
	upload.Fields = []exchange.Field{field("Content-Length", "5368709120")}
	chunked := request("POST", "/chunked")
	chunked.Client, chunked.Length = client, -1
	chunked.Fields = []exchange.Field{field("Transfer-Encoding", "chunked"), field("Content-Type", "text/plain")}
	spooled := request("POST", "/spooled")
	spooled.Client, spooled.Length = client, 4
	h2 := request("GET", "/secure")
	h2.Version, h2.Scheme, h2.Host = exchange.HTTP2, "https", []byte("secure.example")
	h2.TLS = &exchange.TLS{Version: 0x0304, CipherSuite: 0x1301}
	h2.Client, h2.LocalName, h2.LocalPort = netip.MustParseAddrPort("[2001:db8::1]:443"), "::1", 443
	h2.TrailersOK = true
	h2.Fields = []exchange.Field{field("accept", "text/html"), field("cookie", "a=1"), field("cookie", "b=2")}
	unix := request("GET", "/")
	unix.Unix, unix.LocalName, unix.LocalPort = true, "/run/guado.sock", 0
	head := request("HEAD", "/caf\xc3\xa9/ \x00/")
	head.Client, head.RawPath, head.Target = client, []byte("/caf%C3%A9/%20%00/"), []byte("/caf%C3%A9/%20%00/")
	mounted := request("GET", "/legacy/app//x")
	mounted.Client, mounted.Root, mounted.Host = client, []byte("/legacy"), []byte("[::1]:8000")
	socket := request("GET", "/socket")
	socket.Client, socket.Upgrader = client, upgrader{}
	socket.Fields = []exchange.Field{
		field("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), field("Sec-WebSocket-Version", "13"), field("Sec-WebSocket-Protocol", "chat, superchat"),
	}
	bare := request("GET", "/")
	bare.Version, bare.Host, bare.ID = exchange.HTTP10, nil, ""
	long := request("GET", "/long")
	long.Client = client
	for i := range 20 {
		long.Fields = append(long.Fields, field(fmt.Sprintf("X-Field-%d", i), strings.Repeat(string(rune('a'+i)), 60)))
	}
	return []r{
		{"get-wsgi", true, true, "", get}, {"get-asgi", false, true, "", get},
		{"post-wsgi", true, true, "a=1&b=two", post}, {"post-asgi", false, true, "a=1&b=two", post},
		{"upload-expect", false, false, "", upload}, {"chunked-wsgi", true, false, "", chunked},
		{"chunked-spooled", true, true, "data", spooled}, {"http2-tls", false, true, "", h2},
		{"unix-socket", true, true, "", unix}, {"head", true, true, "", head},
		{"mounted-ipv6", true, true, "", mounted}, {"http10-bare", true, true, "", bare},
		{"websocket", false, false, "", socket},
		{"fragmented-request", true, true, strings.Repeat("0123456789", 60), long},
	}
}

func TestVectorsOfRequests(t *testing.T) {
	var vectors []vector
	for _, c := range vectorRequests() {
		ring := 1 << 20
		if strings.HasPrefix(c.name, "fragmented-") {
			ring = 4096
		}
		l, p := pair(t, link.Options{Transport: link.Socket, Ring: ring})
		var s *link.Stream
		for range 3 {
			var err error
			if s, err = l.Open(c.x); err != nil {
				t.Fatal(err)
			}
		}
		payload := link.AppendRequest(nil, c.x, 3, c.wsgi, []byte(c.body))
		if err := s.Request(payload, c.complete); err != nil {
			t.Fatal(err)
		}
		v := vector{kind: "request", name: c.name}
		describe(t, &v, c.wsgi, c.complete, payload)
		for more := true; more; {
			f := next(t, p, link.KindRequest)
			if f.Stream != vectorStream {
				t.Fatalf("request on stream 0x%x", f.Stream)
			}
			v.frame(linktest.AppendFrame(nil, f.Kind, f.Flags, f.Stream, f.Arg, f.Payload))
			more = f.Flags&link.More != 0
		}
		vectors = append(vectors, v)
	}
	golden(t, "requests.txt", "REQUEST messages, as the host sends them.", vectors)
}

func describe(t *testing.T, v *vector, wsgi, complete bool, payload []byte) {
	t.Helper()
	r, err := linktest.ParseRequest(payload)
	if err != nil {
		t.Fatal(err)
	}
	bit := map[bool]int{true: 1}
	v.add("wsgi", bit[wsgi])
	v.add("version", r.Version)
	v.add("flags", r.Flags)
	v.add("app", r.App)
	v.add("length", r.Length)
	v.add("tls", r.TLSVersion, r.Cipher)
	v.add("server_port", r.ServerPort)
	v.add("client_port", r.ClientPort)
	for _, s := range [][2]string{
		{"id", r.ID}, {"method", r.Method}, {"scheme", r.Scheme}, {"path", r.Path}, {"raw_path", r.RawPath},
		{"query", r.Query}, {"target", r.Target}, {"root", r.Root}, {"server_name", r.ServerName},
		{"client_host", r.ClientHost}, {"traceparent", r.TraceParent},
	} {
		v.add(s[0], s[1])
	}
	for _, f := range r.Fields {
		v.add("field", f.Name, f.Value)
	}
	v.add("body", r.Inline)
	v.add("complete", bit[complete])
}

// vectorHeads are the answers of heads.txt.
func vectorHeads() []vector {
	type head struct {
		kind, name, reason, body string
		status                   int
		length                   int64
		flags                    link.Flags
		fields                   []linktest.Field
	}
	kinds := map[string]link.Kind{"commit": link.KindCommit, "informational": link.KindInformational}
	heads := []head{
		{"commit", "hello", "OK", "Hello, world!", 200, 13, link.End, []linktest.Field{{Name: "Content-Type", Value: "text/plain"}}},
		{"commit", "empty", "No Content", "", 204, -1, link.End, nil},
		{"commit", "busy", "OK", "x", 200, 1, link.End | link.Busy, nil},
		{"commit", "streamed", "", "first", 200, -1, 0, []linktest.Field{{Name: "x-a", Value: "1"}, {Name: "X-A", Value: ""}}},
		{"commit", "cookies", "I'm a teapot", "", 418, 0, link.End, []linktest.Field{
			{Name: "Set-Cookie", Value: "a=1; Path=/"}, {Name: "Set-Cookie", Value: "b=2"}, {Name: "X-Latin", Value: "caf\xe9"},
		}},
		{"commit", "connection-close", "OK", "last", 200, 4, link.End, []linktest.Field{{Name: "connection", Value: "close"}}},
		{"commit", "length-of-terabytes", "OK", "", 200, 1 << 42, 0, nil},
		{"commit", "accept", "", "", 101, -1, 0, []linktest.Field{{Name: "sec-websocket-protocol", Value: "chat"}}},
		{"informational", "continue", "", "", 100, -1, 0, nil},
		{"informational", "early-hints", "Early Hints", "", 103, -1, 0, []linktest.Field{{Name: "Link", Value: "</a.css>; rel=preload"}}},
		{"commit", "fragmented-head", "OK", strings.Repeat("0123456789", 30), 200, 300, link.End, []linktest.Field{
			{Name: "X-Long", Value: strings.Repeat("abcdefghij", 70)},
		}},
	}
	var out []vector
	for _, h := range heads {
		v := vector{kind: h.kind, name: h.name}
		v.add("status", h.status)
		v.add("length", h.length)
		v.add("reason", h.reason)
		for _, f := range h.fields {
			v.add("field", f.Name, f.Value)
		}
		payload := linktest.AppendHead(nil, h.status, h.reason, h.length, h.fields...)
		if h.kind == "commit" {
			v.add("body", h.body)
			payload = linktest.AppendCommit(nil, h.status, h.reason, h.length, []byte(h.body), h.fields...)
		}
		v.add("complete", h.flags&link.End)
		most := 131072 - 16
		if strings.HasPrefix(h.name, "fragmented-") {
			most = 512 - 16
		}
		for ; len(payload) > most; payload = payload[most:] {
			v.frame(linktest.AppendFrame(nil, kinds[h.kind], link.More, vectorStream, 0, payload[:most]))
		}
		v.frame(linktest.AppendFrame(nil, kinds[h.kind], h.flags, vectorStream, 0, payload))
		out = append(out, v)
	}
	trailers := []linktest.Field{{Name: "Digest", Value: "sha-256=abc"}, {Name: "Server-Timing", Value: "db;dur=53"}}
	v := vector{kind: "trailers", name: "two"}
	for _, f := range trailers {
		v.add("field", f.Name, f.Value)
	}
	v.frame(linktest.AppendFrame(nil, link.KindTrailers, link.End, vectorStream, 0, linktest.AppendFields([]byte{2, 0}, trailers...)))
	return append(out, v)
}

func TestVectorsOfHeads(t *testing.T) {
	golden(t, "heads.txt", "Heads and trailers, as a worker sends them.", vectorHeads())
	for _, v := range readVectors(t, "heads.txt") {
		payload, flags := v.message(t)
		var fields []exchange.Field
		var err error
		if v.kind == "trailers" {
			fields, err = link.DecodeTrailers(payload, nil)
		} else {
			var h exchange.Head
			var body []byte
			h, body, err = link.DecodeHead(payload, nil)
			fields = h.Fields
			if int64(h.Status) != v.number(t, "status") || h.Length != v.number(t, "length") || h.Reason != v.get(t, "reason") {
				t.Errorf("%s decodes to %+v", v.name, h)
			}
			if v.kind == "commit" && string(body) != v.get(t, "body") {
				t.Errorf("%s has body %q", v.name, body)
			}
			if int64(flags&link.End) != v.number(t, "complete") {
				t.Errorf("%s has flags %d", v.name, flags)
			}
		}
		if err != nil {
			t.Errorf("%s: %v", v.name, err)
		}
		want := v.all("field")
		if len(fields) != len(want) {
			t.Fatalf("%s has %d fields", v.name, len(fields))
		}
		for i, f := range fields {
			if string(f.Name) != want[i][0] || string(f.Value) != want[i][1] {
				t.Errorf("%s: field %s: %s", v.name, f.Name, f.Value)
			}
		}
	}
}

func TestVectorsOfFrames(t *testing.T) {
	type f struct {
		name    string
		kind    link.Kind
		flags   link.Flags
		stream  uint32
		arg     uint32
		payload string
	}
	var vectors []vector
	for _, c := range []f{
		{"hello", link.KindHello, 0, 0, 0, `{"protocol":1}`},
		{"body", link.KindBody, 0, vectorStream, 0, "12345678"},
		{"body-end", link.KindBody, link.End, vectorStream, 0, ""},
		{"body-cut", link.KindBody, link.End, vectorStream, 1, ""},
		{"cancel-gone", link.KindCancel, 0, vectorStream, link.CancelGone, ""},
		{"cancel-stopping", link.KindCancel, 0, vectorStream, link.CancelStopping, ""},
		{"interrupt", link.KindInterrupt, 0, vectorStream, link.CancelDeadline, ""},
		{"file-grant", link.KindFileGrant, 0, vectorStream, 4, ""},
		{"grant", link.KindGrant, 0, vectorStream, 65536, ""},
		{"drain", link.KindDrain, 0, 0, 25000, ""},
		{"ping", link.KindPing, 0, 0, 4294967295, ""},
		{"ready", link.KindReady, 0, 0, 0, `{"protocol":1,"apps":[]}`},
		{"started", link.KindStarted, 0, vectorStream, 0, ""},
		{"response-body", link.KindResponseBody, 0, vectorStream, 0, "x"},
		{"response-end", link.KindResponseBody, link.End | link.Busy, vectorStream, 0, ""},
		{"file", link.KindFile, link.End, vectorStream, 7, string(linktest.FilePayload(4096, 1<<33))},
		{"credit", link.KindCredit, 0, vectorStream, 16384, ""},
		{"pong", link.KindPong, 0, 0, 4294967295, ""},
		{"log", link.KindLog, 0, vectorStream, link.LogError, "Traceback (most recent call last):\n"},
		{"failed", link.KindFailed, 0, 0, 0, `{"stage":"import"}`},
		{"abort", link.KindAbort, 0, vectorStream, link.AbortProtocol, "no start_response"},
		{"done", link.KindDone, 0, 65535<<16 | 65535, 0, ""},
		{"call", link.KindCall, 0, 0, 7, "\x01\x00\x03\x00\xdc\x05\x00\x00cpuPICKLE"}, // of 1500 ms
		{"call-cancel", link.KindCallCancel, 0, 0, 7, ""},
		{"reply", link.KindReply, 0, 0, 7, "\xc8\x00\x00\x00\x00\x00\x00\x00PICKLE"},
		{"global-snapshot", link.KindGlobal, 0, 0, 0, "\x02\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x01\x01\x00a\x01\x00\x00\x007"},
		{"global-part", link.KindGlobal, link.More, 0, 0, "\x03\x00\x00\x00\x00\x00\x00\x00\x00"},
		{"restore", link.KindRestore, 0, 0, 0, "\x29\x00\x00\x00\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00\x00\x00\x01\x00\x06\x00\x01\x00\x00\x00u:annaP\x01\x01\x01\x00a\x01\x00\x00\x007"},
		{"release", link.KindRelease, 0, 0, 0, "\x01\x00\x01\x00P"},
		{"state-alone", link.KindState, link.Alone, 0, 0, "\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
		{"state-part", link.KindState, link.More, vectorStream, 0, "\x01\x00\x00\x00"},
		{"apply", link.KindApply, 0, 0, 0, `{"number":1,"kind":1,"id":"P1","ops":[{"op":"set","path":["a"],"value":1}],"patience_ms":30000}`},
		{"message-text", link.KindMessage, 0, vectorStream, link.MessageText, "citt\u00e0"},
		{"message-part", link.KindMessage, link.More, vectorStream, link.MessageBinary, "\x00\xff"},
		{"disconnect", link.KindDisconnect, link.End, vectorStream, 1001, "going away"},
		{"message-up-text", link.KindMessageUp, 0, vectorStream, link.MessageText, "hello"},
		{"message-up-empty", link.KindMessageUp, 0, vectorStream, link.MessageBinary, ""},
		{"close", link.KindClose, link.End | link.Busy, vectorStream, 4000, "done"},
		{"close-without-code", link.KindClose, link.End, vectorStream, 1005, ""},
		{"call-host", link.KindCall, 0, 0, 9, "\x02\x00\x04\x00\x00\x00\x00\x00push{\"to\":{\"user\":\"anna\"},\"data\":[1,\"\u00e8\"]}"},
		{"reply-host", link.KindReply, 0, 0, 9, "\xc8\x00\x00\x00\x00\x00\x00\x00" + `{"pages":2,"connected":1}`},
		{"reply-refused", link.KindReply, 0, 0, 8, "\xf7\x01\x0a\x00\x00\x00\x00\x00queue_fullall processes work"},
	} {
		v := vector{kind: "frame", name: c.name}
		v.add("size", 16+len(c.payload))
		v.add("kind", int(c.kind))
		v.add("flags", int(c.flags))
		v.add("stream", c.stream)
		v.add("arg", c.arg)
		v.add("payload", c.payload)
		v.frame(linktest.AppendFrame(nil, c.kind, c.flags, c.stream, c.arg, []byte(c.payload)))
		vectors = append(vectors, v)
	}
	golden(t, "frames.txt", "Single frames of every kind.", vectors)
}
