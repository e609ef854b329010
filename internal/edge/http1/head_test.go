package http1

import (
	"fmt"
	"strings"
	"testing"

	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
)

// refusedHeads is the request side of "HTTP/1.1 front" in the traps of WSGI and ASGI
// servers, and of "Framing" in the hardening list: each line of them is here.
var refusedHeads = []struct {
	trap, request string
	status        int
	code          string
}{
	{"CL+TE both", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "length_conflict"},
	{"TE+CL both", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400, "length_conflict"},
	{"dup CL, differing", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400, "content_length_duplicate"},
	{"dup CL, same", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400, "content_length_duplicate"},
	{"CL list form", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\nhello", 400, "bad_content_length"},
	{"CL sign +", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello", 400, "bad_content_length"},
	{"CL sign -", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\nhello", 400, "bad_content_length"},
	{"CL 0x", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\nhello", 400, "bad_content_length"},
	{"CL underscore", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1_0\r\n\r\nhello", 400, "bad_content_length"},
	{"CL empty", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n", 400, "bad_content_length"},
	{"CL with inner space", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1 1\r\n\r\n", 400, "bad_content_length"},
	{"CL overflow", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551617\r\n\r\nh", 400, "bad_content_length"},
	{"CL beyond the limit", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nh", 413, "body_too_large"},
	{"TE not chunked", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "transfer_coding_unsupported"},
	{"TE list", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, "transfer_coding_unsupported"},
	{"TE chunked twice in a list", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", 501, "transfer_coding_unsupported"},
	{"TE identity", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n", 501, "transfer_coding_unsupported"},
	{"TE with parameter", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked;a=b\r\n\r\n", 501, "transfer_coding_unsupported"},
	{"TE xchunked", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n", 501, "transfer_coding_unsupported"},
	{"TE empty", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n\r\n", 501, "transfer_coding_unsupported"},
	{"TE with vertical tab", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", 400, "bad_field"},
	{"two TE", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "bad_transfer_encoding"},
	{"TE identity then chunked", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400, "bad_transfer_encoding"},
	{"HTTP/1.0+chunked", "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "bad_transfer_encoding"},
	{"obs-fold", "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400, "obs_fold"},
	{"obs-fold with tab", "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n\tc: d\r\n\r\n", 400, "obs_fold"},
	{"obs-fold in the first field", "GET / HTTP/1.1\r\n Host: x\r\nHost: y\r\n\r\n", 400, "obs_fold"},
	{"line of white space", "GET / HTTP/1.1\r\nHost: x\r\n \r\n\r\n", 400, "obs_fold"},
	{"whitespace before colon", "GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400, "bad_field"},
	{"whitespace before colon of TE", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\nContent-Length: 1\r\n\r\n", 400, "bad_field"},
	{"tab before colon", "GET / HTTP/1.1\r\nHost: x\r\nA\t: b\r\n\r\n", 400, "bad_field"},
	{"field without colon", "GET / HTTP/1.1\r\nHost: x\r\nContent-Length\r\n\r\n", 400, "bad_field"},
	{"field without name", "GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n", 400, "bad_field"},
	{"name that is no token", "GET / HTTP/1.1\r\nHost: x\r\nA(b): c\r\n\r\n", 400, "bad_field"},
	{"name with high byte", "GET / HTTP/1.1\r\nHost: x\r\nK\xc3\xa9y: c\r\n\r\n", 400, "bad_field"},
	{"NUL in a value", "GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n", 400, "bad_field"},
	{"NUL in a name", "GET / HTTP/1.1\r\nHost: x\r\nA\x00: c\r\n\r\n", 400, "bad_field"},
	{"control char in a value", "GET / HTTP/1.1\r\nHost: x\r\nA: b\x01c\r\n\r\n", 400, "bad_field"},
	{"DEL in a value", "GET / HTTP/1.1\r\nHost: x\r\nA: b\x7fc\r\n\r\n", 400, "bad_field"},
	{"bare CR in a value", "GET / HTTP/1.1\r\nHost: x\r\nA: b\rContent-Length: 5\r\n\r\n", 400, "bad_field"},
	{"bare CR before CR LF", "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\r\n\r\n", 400, "bad_field"},
	{"bare LF ends the request line", "GET / HTTP/1.1\nHost: x\r\n\r\n", 400, "bad_line_end"},
	{"bare LF ends a field", "GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", 400, "bad_line_end"},
	{"bare LF ends the head", "GET / HTTP/1.1\r\nHost: x\r\n\n", 400, "bad_line_end"},
	{"only bare LF", "GET / HTTP/1.1\nHost: x\n\n", 400, "bad_line_end"},
	{"bare CR in the request line", "GET /\rHTTP/1.1 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_target"},
	{"NUL in the target", "GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_target"},
	{"no Host in 1.1", "GET / HTTP/1.1\r\nA: b\r\n\r\n", 400, "host_missing"},
	{"no field at all in 1.1", "GET / HTTP/1.1\r\n\r\n", 400, "host_missing"},
	{"two Hosts", "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400, "host_duplicate"},
	{"two Hosts in 1.0", "GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", 400, "host_duplicate"},
	{"authority target", "GET x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_target"},
	{"CONNECT", "CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", 501, "method_not_implemented"},
	{"asterisk target of GET", "GET * HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_target"},
	{"relative target", "GET a/b HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_target"},
	{"relative target, dots", "GET ../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_target"},
	{"query for a target", "GET ?a HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_target"},
	{"empty target", "GET  HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_request_line"},
	{"no target", "GET HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_request_line"},
	{"fragment in the target", "GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_target"},
	{"high byte in the target", "GET /\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_target"},
	{"malformed escape in the path", "GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_target"},
	{"cut escape in the path", "GET /a%4 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_target"},
	{"absolute target, other scheme", "GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_target"},
	{"absolute target, user information", "GET http://a@x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_target"},
	{"absolute target, no host", "GET http:///a HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_target"},
	{"absolute target, bad port", "GET http://x:a/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_target"},
	{"absolute target, bad address", "GET http://[::1/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_target"},
	{"two spaces behind the method", "GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_request_line"},
	{"two spaces behind the target", "GET /  HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_request_line"},
	{"space behind the version", "GET / HTTP/1.1 \r\nHost: x\r\n\r\n", 400, "bad_request_line"},
	{"tab for a space", "GET\t/\tHTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_request_line"},
	{"space before the method", " GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_request_line"},
	{"method that is no token", "G(T / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_request_line"},
	{"method of 33 characters", strings.Repeat("A", 33) + " / HTTP/1.1\r\nHost: x\r\n\r\n", 501, "method_not_implemented"},
	{"HTTP/0.9", "GET /\r\nHost: x\r\n\r\n", 400, "bad_request_line"},
	{"HTTP/1.2", "GET / HTTP/1.2\r\nHost: x\r\n\r\n", 505, "version_unsupported"},
	{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "version_unsupported"},
	{"lower-case version", "GET / http/1.1\r\nHost: x\r\n\r\n", 400, "bad_request_line"},
	{"version of two digits", "GET / HTTP/1.10\r\nHost: x\r\n\r\n", 400, "bad_request_line"},
	{"version with sign", "GET / HTTP/+1.1\r\nHost: x\r\n\r\n", 400, "bad_request_line"},
	{"two empty lines first", "\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_request_line"},
	{"bare LF first", "\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_line_end"},
	{"TLS hello at a plain port", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "bad_request_line"},
	{"huge target", "GET /" + strings.Repeat("a", 9<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", 414, "uri_too_long"},
	{"target without end", "GET /" + strings.Repeat("a", 40<<10), 414, "uri_too_long"},
	{"huge header", "GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 40<<10) + "\r\n\r\n", 431, "head_too_large"},
	{"header without end", "GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 40<<10), 431, "head_too_large"},
	{"too many fields", "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 100) + "\r\n", 431, "too_many_fields"},
	{"other expectations", "POST / HTTP/1.1\r\nHost: x\r\nExpect: 200-ok\r\nContent-Length: 0\r\n\r\n", 417, "expectation_failed"},
	{"100-continue and another", "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue, a\r\nContent-Length: 0\r\n\r\n", 417, "expectation_failed"},
}

func TestHeadsThatAreNotRFC9112AreRefusedAndTheConnectionCloses(t *testing.T) {
	var served []string
	r := serve(t, func(x *exchange.Exchange) { served = append(served, string(x.Target)); echo(x) })
	for _, c := range refusedHeads {
		t.Run(c.trap, func(t *testing.T) {
			rigOf := *r
			rigOf.t = t
			// What stands behind must not be served, whatever it looks like.
			conn := rigOf.dial()
			conn.send("%s", c.request+"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
			got := conn.expect(c.status, c.code)
			if rep := r.done(); rep.Status != c.status || rep.code != c.code {
				t.Errorf("reported as %+v", rep)
			}
			if c.status == 417 {
				// A good head all the same: the connection is in order.
				conn.expect(200, "GET /smuggled ")
				r.done()
				served = nil
				return
			}
			if !got.Close {
				t.Error("the answer does not say Connection: close")
			}
			conn.finish()
			conn.closed()
			if len(served) > 0 {
				t.Errorf("served %q", served)
				served = nil
			}
		})
	}
}

func TestARefusalComesAsSoonAsTheBytesAllowIt(t *testing.T) {
	r := serve(t, echo)
	for _, c := range []struct{ name, beginning, code string }{
		{"bare LF", "GET / HTTP/1.1\nHo", "bad_line_end"},
		{"bad version", "GET / HTTP/3.0\r\nHos", "version_unsupported"},
		{"not HTTP", "\x80\x01", "bad_request_line"},
		{"bad target", "GET #a HTTP/1.1\r\n", "bad_target"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := r.dial()
			conn.send("%s", c.beginning)
			if got := conn.answer("GET"); got.body != c.code {
				t.Errorf("refused with %q, want %q", got.body, c.code)
			}
		})
	}
}

func TestHeadsOfRFC9112AreServed(t *testing.T) {
	answered := make(chan string, 1)
	r := serve(t, func(x *exchange.Exchange) {
		seen := fmt.Sprintf("%s|%s|%s|%s|%s|%d|up=%s|te=%v", x.Method, x.Version, x.RawPath, x.Query, x.Host, x.Length, x.Upgrade, x.TrailersOK)
		for _, f := range x.Fields {
			seen += fmt.Sprintf("|%s=%s", f.Name, f.Value)
		}
		answered <- seen
		say(x, 200, "")
	})
	for _, c := range []struct{ name, request, want string }{
		{"origin form", "GET /a/b?c=d?e HTTP/1.1\r\nHost: x\r\n\r\n", "GET|HTTP/1.1|/a/b|c=d?e||0|up=|te=false|Host=x"},
		{"path of two slashes", "GET //a HTTP/1.1\r\nHost: x\r\n\r\n", "GET|HTTP/1.1|//a|||0|up=|te=false|Host=x"},
		{"escapes survive", "GET /%2F%c3%A9?%zz% HTTP/1.1\r\nHost: x\r\n\r\n", "GET|HTTP/1.1|/%2F%c3%A9|%zz%||0|up=|te=false|Host=x"},
		{"what browsers do not escape", "GET /a|b?c={d}|\"^`\\ HTTP/1.1\r\nHost: x\r\n\r\n", "GET|HTTP/1.1|/a|b|c={d}|\"^`\\||0|up=|te=false|Host=x"},
		{"absolute form, Host taken from it", "GET http://y:81/a?b HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n", "GET|HTTP/1.1|/a|b|y:81|0|up=|te=false|Host=y:81|A=b"},
		{"absolute form without path", "GET HTTPS://[::1]?b HTTP/1.1\r\nHost: x\r\n\r\n", "GET|HTTP/1.1|/|b|[::1]|0|up=|te=false|Host=[::1]"},
		{"absolute form in 1.0 without Host", "GET http://y/ HTTP/1.0\r\nA: b\r\n\r\n", "GET|HTTP/1.0|/||y|0|up=|te=false|Host=y|A=b"},
		{"asterisk form", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "OPTIONS|HTTP/1.1|*|||0|up=|te=false|Host=x"},
		{"HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n", "GET|HTTP/1.0|/|||0|up=|te=false"},
		{"any method", "M-SEARCH! / HTTP/1.1\r\nHost: x\r\n\r\n", "M-SEARCH!|HTTP/1.1|/|||0|up=|te=false|Host=x"},
		{"order, case and duplicates are kept", "GET / HTTP/1.1\r\nb: 1\r\nHOST: x\r\nB:2\r\nA: \t 3 4\t \r\nc:\r\n\r\n", "GET|HTTP/1.1|/|||0|up=|te=false|b=1|HOST=x|B=2|A=3 4|c="},
		{"obs-text in a value", "GET / HTTP/1.1\r\nHost: x\r\nA: \xe9\xff\r\n\r\n", "GET|HTTP/1.1|/|||0|up=|te=false|Host=x|A=\xe9\xff"},
		{"an empty line before the request line", "\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET|HTTP/1.1|/|||0|up=|te=false|Host=x"},
		{"chunked in any case", "POST / HTTP/1.1\r\nHost: x\r\ntransfer-encoding: ChunKed \r\n\r\n0\r\n\r\n", "POST|HTTP/1.1|/|||-1|up=|te=false|Host=x|transfer-encoding=ChunKed"},
		{"length with zeros", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 00\r\n\r\n", "POST|HTTP/1.1|/|||0|up=|te=false|Host=x|Content-Length=00"},
		{"upgrade with Connection: keep-alive, Upgrade", "GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n", "GET|HTTP/1.1|/|||0|up=websocket|te=false|Host=x|Connection=keep-alive, Upgrade|Upgrade=WebSocket"},
		{"upgrade to h2c", "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n", "GET|HTTP/1.1|/|||0|up=|te=false|Host=x|Connection=Upgrade, HTTP2-Settings|Upgrade=h2c"},
		{"upgrade to what nobody knows", "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: my-websocket, xwebsocket/13\r\n\r\n", "GET|HTTP/1.1|/|||0|up=|te=false|Host=x|Connection=Upgrade|Upgrade=my-websocket, xwebsocket/13"},
		{"upgrade to one of several", "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: tls/1.0, websocket\r\n\r\n", "GET|HTTP/1.1|/|||0|up=websocket|te=false|Host=x|Connection=Upgrade|Upgrade=h2c|Upgrade=tls/1.0, websocket"},
		{"upgrade without Connection", "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n", "GET|HTTP/1.1|/|||0|up=|te=false|Host=x|Upgrade=websocket"},
		{"upgrade in 1.0", "GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "GET|HTTP/1.0|/|||0|up=|te=false|Connection=upgrade|Upgrade=websocket"},
		{"TE: trailers", "GET / HTTP/1.1\r\nHost: x\r\nTE: gzip;q=0.5, Trailers\r\n\r\n", "GET|HTTP/1.1|/|||0|up=|te=true|Host=x|TE=gzip;q=0.5, Trailers"},
		{"99 fields and Host", "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A:b\r\n", 99) + "\r\n", "GET|HTTP/1.1|/|||0|up=|te=false|Host=x" + strings.Repeat("|A=b", 99)},
		{"a head larger than the first buffer", "GET /" + strings.Repeat("p", 8000) + " HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("v", 20000) + "\r\n\r\n",
			"GET|HTTP/1.1|/" + strings.Repeat("p", 8000) + "|||0|up=|te=false|Host=x|A=" + strings.Repeat("v", 20000)},
	} {
		t.Run(c.name, func(t *testing.T) {
			rigOf := *r
			rigOf.t = t
			rigOf.dial().send("%s", c.request).expect(200, "")
			if seen := <-answered; seen != c.want {
				t.Errorf("\n got %q\nwant %q", seen, c.want)
			}
		})
	}
}

func TestAHeadMayArriveByteByByte(t *testing.T) {
	everywhere(t, func(t *testing.T, o option) {
		r := serve(t, echo, o)
		c := r.dial()
		for _, b := range []byte("\r\nPOST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok") {
			c.send("%s", string(b))
		}
		c.expect(200, "POST /slow ok")
	})
}

func TestTheLimitsOfAHeadAreThoseThatAreSet(t *testing.T) {
	r := serve(t, echo, limited(func(l *lane.Limits) { l.HeadBytes, l.TargetBytes, l.Fields = 200, 50, 3 }))
	r.dial().send("GET /%s HTTP/1.1\r\nHost: x\r\n\r\n", strings.Repeat("a", 49)).expect(200, "GET /"+strings.Repeat("a", 49)+" ")
	r.dial().send("GET /%s HTTP/1.1\r\nHost: x\r\n\r\n", strings.Repeat("a", 50)).expect(414, "uri_too_long")
	fits := "GET / HTTP/1.1\r\nHost: x\r\nA: "
	fits += strings.Repeat("a", 200-len(fits)-4) + "\r\n\r\n"
	r.dial().send("%s", fits).expect(200, "GET / ")
	r.dial().send("%s", strings.Replace(fits, "A: ", "A: a", 1)).expect(431, "head_too_large")
	r.dial().send("GET / HTTP/1.1\r\nHost: x\r\nA: b\r\nA: b\r\n\r\n").expect(200, "GET / ")
	r.dial().send("GET / HTTP/1.1\r\nHost: x\r\nA: b\r\nA: b\r\nA: b\r\n\r\n").expect(431, "too_many_fields")
}
