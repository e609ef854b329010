package http1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
)

// memConn is a connection whose client has sent all it will, in pieces of a size.
type memConn struct {
	in    []byte
	piece int
	out   bytes.Buffer
}

func (c *memConn) Read(p []byte) (int, error) {
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.piece)], c.in)
	c.in = c.in[n:]
	return n, nil
}

func (c *memConn) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (*memConn) Close() error                       { return nil }
func (*memConn) LocalAddr() net.Addr                { return nil }
func (*memConn) RemoteAddr() net.Addr               { return nil }
func (*memConn) SetDeadline(time.Time) error        { return nil }
func (*memConn) SetReadDeadline(time.Time) error    { return nil }
func (*memConn) SetWriteDeadline(t time.Time) error { return nil }

// taken is what the lane made of one request.
type taken struct {
	method, target, host string
	version              exchange.Version
	fields, trailers     http.Header
	length               int64
	body                 []byte
	err                  error // how the body ended
}

// through gives what a handler sees of the requests in a stream.
func through(stream []byte, piece int) (all []taken, answers []byte) {
	handler := func(x *exchange.Exchange) {
		got := taken{
			method: x.Method, target: string(x.Target), version: x.Version, length: x.Length,
			fields: http.Header{}, trailers: http.Header{},
		}
		for _, f := range x.Fields {
			if f.Is("host") {
				got.host = string(f.Value)
				continue
			}
			got.fields.Add(string(f.Name), string(f.Value))
		}
		got.body, got.err = io.ReadAll(bodyReader{x})
		for _, f := range x.Body.Trailers() {
			got.trailers.Add(string(f.Name), string(f.Value))
		}
		all = append(all, got)
		say(x, 200, "")
	}
	s := New(lane.Limits{BodyBytes: 1 << 20}, lane.Hooks{
		Handler: exchange.HandlerFunc(handler),
		Render: func(_ *exchange.Exchange, p *exchange.Problem) (exchange.Head, []byte) {
			return exchange.Head{Status: p.Status}, nil
		},
	}, slog.New(slog.DiscardHandler))
	c := &memConn{in: bytes.Clone(stream), piece: max(piece, 1)}
	s.ServeConn(c, &lane.Conn{})
	if err := s.Wait(context.Background()); err != nil {
		panic(err) // never: nothing ends that context
	}
	return all, c.out.Bytes()
}

// compare holds the lane against net/http, and says that they have read the stream in
// the same way as far as the lane took it for good. What the lane refuses, net/http
// may take.
func compare(t *testing.T, stream []byte, all []taken) {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(stream))
	for i, got := range all {
		// net/http does not know the empty line that RFC 9112, 2.2 lets pass.
		if b, err := r.Peek(2); err == nil && string(b) == "\r\n" {
			_, _ = r.Discard(2)
		}
		req, err := http.ReadRequest(r)
		if err != nil {
			if strings.Contains(err.Error(), "bad trailer key") {
				return // it reads what Trailer announces, we what comes: and drop that
			}
			t.Fatalf("request %d: the lane takes %+v, net/http says %v", i, got, err)
		}
		body, err := io.ReadAll(req.Body)
		if got.err != nil {
			return // refused in the body: the last of the connection
		}
		if err != nil {
			t.Fatalf("request %d: the lane takes body %q, net/http says %v", i, got.body, err)
		}
		if req.Method != got.method || req.RequestURI != got.target || req.Host != got.host ||
			req.Proto != got.version.String() || !bytes.Equal(body, got.body) || req.ContentLength != got.length {
			t.Fatalf("request %d: the lane reads %+v,\nnet/http %q %q %q %q length %d body %q", i, got,
				req.Method, req.RequestURI, req.Proto, req.Host, req.ContentLength, body)
		}
		compareFields(t, got, req)
	}
}

func compareFields(t *testing.T, got taken, req *http.Request) {
	t.Helper()
	got.fields = got.fields.Clone()
	// net/http takes these out of Header, or puts one in that was not sent.
	for _, name := range []string{"Transfer-Encoding", "Trailer", "Content-Length"} {
		got.fields.Del(name)
		req.Header.Del(name)
	}
	if req.Header.Get("Pragma") != "" && got.fields["Cache-Control"] == nil {
		req.Header.Del("Cache-Control")
	}
	if len(got.fields) != len(req.Header) {
		t.Fatalf("the lane reads fields %q,\nnet/http %q", got.fields, req.Header)
	}
	for name, values := range got.fields {
		if strings.Join(values, "\x00") != strings.Join(req.Header[name], "\x00") {
			t.Fatalf("the lane reads %s as %q, net/http as %q", name, values, req.Header[name])
		}
	}
	for name, values := range got.trailers {
		if strings.Join(values, "\x00") != strings.Join(req.Trailer[name], "\x00") {
			t.Fatalf("the lane reads trailer %s as %q, net/http as %q", name, values, req.Trailer[name])
		}
	}
}

// FuzzHead: whatever head the lane accepts, net/http reads the same way.
func FuzzHead(f *testing.F) {
	for _, c := range refusedHeads {
		if len(c.request) < 2000 {
			f.Add([]byte(c.request))
		}
	}
	for _, s := range []string{
		leanRequest, fullRequest,
		"GET http://y:81/a?b HTTP/1.1\r\nHost: x\r\nConnection: a, close\r\nA: b\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nhost: [::1]:80\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
		"\r\nPUT //%2f/?%% HTTP/1.0\r\nPragma: no-cache\r\nA:\r\nA: \t\xe9\r\n\r\n",
		"GET http://[::1]/ HTTP/1.1\r\nHost:\r\nTE: trailers\r\nUpgrade: a\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, head []byte) {
		all, answers := through(head, len(head))
		compare(t, head, all)
		checkAnswers(t, answers)
		// However the bytes come, the same is made of them.
		again, _ := through(head, 1+len(head)/3)
		compareRuns(t, all, again)
	})
}

// FuzzChunked: whatever chunked body the lane gives as complete, net/http reads the
// same way, and so is what follows it.
func FuzzChunked(f *testing.F) {
	for _, c := range malformedBodies {
		if len(c.body) < 2000 {
			f.Add([]byte(c.body), uint8(0))
		}
	}
	for _, s := range []string{
		"0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "00A;a=\"b\" ; c\r\n0123456789\r\n1\r\nx\r\n000\r\nA: b\r\nDigest: c\r\n\r\n",
		"5\r\nhello\r\n0\r\n\r\nGET /next HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		f.Add([]byte(s), uint8(3))
	}
	f.Fuzz(func(t *testing.T, body []byte, piece uint8) {
		stream := append([]byte(chunkedHead), body...)
		all, answers := through(stream, len(stream))
		compare(t, stream, all)
		checkAnswers(t, answers)
		again, _ := through(stream, int(piece))
		compareRuns(t, all, again)
		for _, got := range all {
			if got.err != nil && !errors.Is(got.err, exchange.ErrMalformedBody) && !errors.Is(got.err, exchange.ErrClientGone) &&
				!errors.Is(got.err, exchange.ErrBodyTooLarge) {
				t.Fatalf("the body ends with %v", got.err)
			}
		}
	})
}

// checkAnswers asserts that the lane answers in well-formed HTTP whatever it is asked.
func checkAnswers(t *testing.T, answers []byte) {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(answers))
	for {
		if _, err := r.Peek(1); err != nil {
			return
		}
		// Every answer of these tests is without a body; HEAD leaves it so.
		if _, err := http.ReadResponse(r, &http.Request{Method: "HEAD"}); err != nil {
			t.Fatalf("the lane answers %q: %v", answers, err)
		}
	}
}

func compareRuns(t *testing.T, a, b []taken) {
	t.Helper()
	if len(a) != len(b) {
		t.Fatalf("in one piece %d requests, in several %d:\n%+v\n%+v", len(a), len(b), a, b)
	}
	for i := range a {
		if a[i].method != b[i].method || a[i].target != b[i].target || (a[i].err == nil) != (b[i].err == nil) ||
			a[i].err == nil && !bytes.Equal(a[i].body, b[i].body) || len(a[i].fields) != len(b[i].fields) {
			t.Fatalf("in one piece %+v, in several %+v", a[i], b[i])
		}
	}
}
