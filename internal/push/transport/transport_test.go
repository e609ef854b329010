package transport_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/guado-server/guado/internal/push"
)

// post sends lines to push and gives status and body.
func (r *rig) post(cookie string, lines ...string) (int, string) {
	r.t.Helper()
	return r.postAs(map[string]string{"Cookie": "id=" + cookie}, lines...)
}

func (r *rig) postAs(fields map[string]string, lines ...string) (int, string) {
	r.t.Helper()
	answer, body := r.request(context.Background(), fields, strings.Join(lines, "\n"))
	defer body.Close()
	text, err := io.ReadAll(body)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

func (r *rig) request(ctx context.Context, fields map[string]string, body string) (*http.Response, io.ReadCloser) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	for name, value := range fields {
		req.Header.Set(name, value)
	}
	client := http.DefaultClient
	if fields["Lane"] == "2" {
		client = r.client2
	}
	answer, err := client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer, answer.Body
}

// events is a stream of server-sent events.
type events struct {
	t    testing.TB
	in   *bufio.Reader
	stop func()
}

func (r *rig) stream(cookie, hello string) *events {
	r.t.Helper()
	return r.streamIn("1", cookie, hello)
}

// streamIn opens a stream in HTTP/1.1 or 2.
func (r *rig) streamIn(lane, cookie, hello string) *events {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	answer, body := r.request(ctx, map[string]string{"Cookie": "id=" + cookie, "Accept": "text/event-stream", "Lane": lane}, hello)
	if answer.StatusCode != 200 || answer.Header.Get("Content-Type") != "text/event-stream" {
		r.t.Fatalf("%s, %v", answer.Status, answer.Header)
	}
	e := &events{r.t, bufio.NewReader(body), func() { cancel(); _ = body.Close() }}
	r.t.Cleanup(e.stop)
	return e
}

// next gives the next frame; empty: the stream ended.
func (e *events) next() string {
	e.t.Helper()
	line, err := e.in.ReadString('\n')
	if err != nil {
		return ""
	}
	if end, err := e.in.ReadString('\n'); err != nil || end != "\n" || !strings.HasPrefix(line, "data: ") {
		e.t.Fatalf("%q %q %v", line, end, err)
	}
	return strings.TrimSpace(strings.TrimPrefix(line, "data: "))
}

func (e *events) want(part string) string {
	e.t.Helper()
	got := e.next()
	if !strings.Contains(got, part) {
		e.t.Fatalf("got %q, want %s", got, part)
	}
	return got
}

func hello(page string, more string) string {
	return `{"t":"hello","v":1,"page":"` + page + `","client":"c"` + more + `}`
}

func position(t *testing.T, greeting string, at int) string {
	t.Helper()
	var g struct{ Epoch string }
	if err := json.Unmarshal([]byte(greeting), &g); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`,"epoch":%q,"at":%d`, g.Epoch, at)
}

// dial opens a WebSocket.
func (r *rig) dial(cookie, origin string) (net.Conn, error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	d := ws.Dialer{Header: ws.HandshakeHeaderHTTP{"Cookie": {"id=" + cookie}}}
	if origin != "" {
		d.Header = ws.HandshakeHeaderHTTP{"Origin": {origin}}
	}
	c, _, _, err := d.Dial(ctx, "ws"+strings.TrimPrefix(r.url, "http"))
	if err != nil {
		return nil, err
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return c, c.SetDeadline(time.Now().Add(patience))
}

// direct opens a WebSocket without a network between.
func (r *rig) direct() net.Conn {
	r.t.Helper()
	c, _, _, err := ws.Dial(r.t.Context(), "ws://"+r.addr+"/_guado/push")
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *rig) socket(cookie string) net.Conn {
	r.t.Helper()
	c, err := r.dial(cookie, "")
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func write(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if err := wsutil.WriteClientText(c, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, c net.Conn, part string) string {
	t.Helper()
	p, err := wsutil.ReadServerText(c)
	if err != nil || !strings.Contains(string(p), part) {
		t.Fatalf("got %q, %v, want %s", p, err, part)
	}
	return string(p)
}

func closedWith(t *testing.T, c net.Conn, code push.Code) {
	t.Helper()
	for {
		_, err := wsutil.ReadServerText(c)
		if err == nil {
			continue
		}
		closed, ok := err.(wsutil.ClosedError) //nolint:errorlint // the library gives it so
		if !ok || closed.Code != ws.StatusCode(code) || closed.Reason != code.Name() {
			t.Fatalf("closed with %v, want %d", err, code)
		}
		return
	}
}

func TestOneSessionGoesFromOneTransportToTheOtherWithoutLoss(t *testing.T) {
	r := start(t, push.Options{})
	r.open("p", push.Owner{Connection: "k"})
	c := r.socket("k")
	write(t, c, hello("p", ""))
	greeting := read(t, c, `"resumed":true`)
	r.push("p", 1)
	read(t, c, `{"n":1,"m":1}`)
	write(t, c, `{"c":1,"m":"over the socket"}`)
	r.await(`message "over the socket"`)

	// The stream takes the session over while the socket is still there.
	r.push("p", 2)
	e := r.stream("k", hello("p", position(t, greeting, 1)))
	e.want(`"id":2`)
	e.want(`{"n":2,"m":2}`)
	closedWith(t, c, push.CodeReplaced)
	if status, body := r.post("k", `{"t":"on","page":"p","id":2}`, `{"a":2,"c":2,"m":"by POST"}`, `{"c":3,"q":"?"}`); status != 204 || body != "" {
		t.Fatalf("%d %s", status, body)
	}
	r.await(`message "by POST"`)
	e.want(`"r":3,"d":"?"`)
	if status, body := r.post("k", `{"t":"on","page":"p","id":1}`, `{"c":4,"m":"late"}`); status != 409 || !strings.Contains(body, `"code":3005,"reason":"stale"`) {
		t.Fatalf("%d %s", status, body)
	}

	// And back.
	c = r.socket("k")
	write(t, c, hello("p", position(t, greeting, 3)))
	read(t, c, `"got":3`)
	e.want(`"code":3001,"reason":"replaced"`)
	if rest := e.next(); rest != "" {
		t.Errorf("then came %s", rest)
	}
	r.push("p", 4)
	read(t, c, `{"n":4,"m":4}`)
}

func TestWhoHasNotTheCookieOfThePageIsToldThatThereIsNone(t *testing.T) {
	r := start(t, push.Options{})
	r.open("p", push.Owner{Connection: "k"})
	for _, page := range []string{"p", "unknown"} {
		r.stream("other", hello(page, "")).want(`"code":3502,"reason":"gone"`)
		c := r.socket("other")
		write(t, c, hello(page, ""))
		closedWith(t, c, push.CodeGone)
		for _, line := range []string{`{"t":"on","page":"` + page + `","id":1}`, `{"t":"bye","page":"` + page + `","client":"c"}`} {
			if status, body := r.post("other", line); status != 409 || !strings.Contains(body, `"gone"`) {
				t.Errorf("%d %s", status, body)
			}
		}
	}
}

func TestPagesOfOtherOriginsMayNeitherConnectNorPost(t *testing.T) {
	r := start(t, push.Options{})
	r.open("p", push.Owner{})
	if _, err := r.dial("", "https://evil.test"); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("a WebSocket: %v", err)
	}
	for _, origin := range []string{"https://evil.test", "null", "http://127.0.0.1"} {
		if status, _ := r.postAs(map[string]string{"Origin": origin, "Accept": "text/event-stream"}, hello("p", "")); status != 403 {
			t.Errorf("a stream from %s: %d", origin, status)
		}
		if status, _ := r.postAs(map[string]string{"Origin": origin}, `{"t":"bye","page":"p","client":"c"}`); status != 403 {
			t.Errorf("a bye from %s: %d", origin, status)
		}
	}
	answer, err := http.Get(r.url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != 405 || answer.Header.Get("Allow") != "POST" {
		t.Errorf("GET: %v", answer)
	}
}

func TestASocketThatSendsNoHelloIsClosed(t *testing.T) {
	r := start(t, push.Options{Hello: 50 * time.Millisecond})
	closedWith(t, r.socket(""), push.CodeHello)
}

func TestFramesAgainstTheProtocolCloseForGood(t *testing.T) {
	r := start(t, push.Options{Message: 1000})
	for name, v := range map[string]struct {
		frame string
		code  push.Code
	}{
		"no JSON":           {"{", push.CodeProtocol},
		"a second hello":    {hello("p", ""), push.CodeProtocol},
		"a gap":             {`{"c":2,"m":1}`, push.CodeProtocol},
		"over the limit":    {`{"c":1,"m":"` + strings.Repeat("x", 1000) + `"}`, push.CodeTooBig},
		"a number too high": {`{"a":1}`, push.CodeProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			page := r.open(name, push.Owner{}).Page()
			c := r.socket("")
			write(t, c, hello(page, ""))
			read(t, c, `"hello"`)
			write(t, c, v.frame)
			closedWith(t, c, v.code)
			e := r.stream("", hello(page, `,"epoch":"0000000000000000","at":0`))
			e.want(`"id":2`)
			e.want(`"s":"snapshot"`)
			want := fmt.Sprintf(`"code":%d`, v.code)
			if status, body := r.post("", `{"t":"on","page":"`+page+`","id":2}`, v.frame); status != 409 || !strings.Contains(body, want) {
				if v.code == push.CodeProtocol && strings.Contains(v.frame, `"a":1`) {
					return // the snapshot was frame 1: this one is right here
				}
				t.Errorf("%d %s", status, body)
			}
			e.want(want)
		})
	}
	c := r.socket("")
	if err := wsutil.WriteClientBinary(c, []byte(hello("p", ""))); err != nil {
		t.Fatal(err)
	}
	closedWith(t, c, push.CodeProtocol)
}

func TestAClientThatReadsNothingIsLetGoAndComesBackToAll(t *testing.T) {
	r := start(t, push.Options{Waiting: 256 << 10, TailBytes: 64 << 20})
	s := r.open("p", push.Owner{})
	data := strings.Repeat("x", 100<<10)
	for _, over := range []string{"websocket", "sse"} {
		t.Run(over, func(t *testing.T) {
			var stop func()
			if over == "sse" {
				e := r.stream("", hello("p", `,"epoch":"0000000000000000","at":0`))
				stop = e.stop
			} else {
				c := r.socket("")
				write(t, c, hello("p", ""))
				read(t, c, `"hello"`)
				stop = func() { _ = c.Close() }
			}
			before := r.hub().Status().Slow
			for range 400 {
				r.push("p", data)
				if !s.Status().Connected {
					break
				}
			}
			if n := r.hub().Status().Slow; n != before+1 {
				t.Errorf("%d were slow", n-before)
			}
			stop()
		})
	}
}

func TestABeaconEndsThePage(t *testing.T) {
	r := start(t, push.Options{})
	r.open("p", push.Owner{})
	e := r.stream("", hello("p", ""))
	e.want(`"hello"`)
	if status, _ := r.post("", `{"t":"bye","page":"p","client":"another"}`); status != 204 || r.hub().Page("p") == nil {
		t.Errorf("another instance: %d", status)
	}
	if status, _ := r.post("", `{"t":"bye","page":"p","client":"c"}`); status != 204 || r.hub().Page("p") != nil {
		t.Errorf("%d", status)
	}
	e.want(`"code":3507,"reason":"ended"`)
}

func TestCookiesOfAReplyAreFetchedOverHTTPBeforeTheReplyIsGiven(t *testing.T) {
	r := start(t, push.Options{})
	r.open("p", push.Owner{Connection: "k"})
	c := r.socket("k")
	write(t, c, hello("p", ""))
	read(t, c, `"hello"`)
	write(t, c, `{"c":1,"to":"/login","q":"me"}`)
	read(t, c, `{"n":1,"r":1,"k":"token1","d":"me"}`)
	line := `{"t":"cookies","page":"p","k":"token1"}`
	answer, body := r.request(t.Context(), map[string]string{"Cookie": "id=k"}, line)
	defer body.Close()
	if got := answer.Header.Values("Set-Cookie"); answer.StatusCode != 204 || strings.Join(got, "|") != "a=1; Path=/|b=2" {
		t.Errorf("%s, %q", answer.Status, got)
	}
	if status, _ := r.post("other", line); status != 409 {
		t.Errorf("another browser: %d", status)
	}

	r.open("live", push.Owner{})
	o := r.client(plan{Page: "live", Transport: "websocket", Requests: 1, To: "/login"})
	r.await("cookies live token1")
	o()
}

func TestABodyOverTheLimitIsRefused(t *testing.T) {
	r := start(t, push.Options{Message: 1000})
	u, err := url.Parse(r.url)
	if err != nil {
		t.Fatal(err)
	}
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The head alone: net/http's client gives up a body that it is still writing, and the
	// answer with it.
	if _, err := fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n", u.Path, u.Host, 300<<10); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != 413 {
		t.Error(answer.Status)
	}
}

func TestAStreamWhoseClientLeavesIsNoticed(t *testing.T) {
	for _, lane := range []string{"1", "2"} {
		t.Run("HTTP/"+lane, func(t *testing.T) {
			r := start(t, push.Options{})
			s := r.open("p", push.Owner{})
			e := r.streamIn(lane, "", hello("p", ""))
			e.want(`"hello"`)
			r.push("p", "at once")
			e.want(`{"n":1,"m":"at once"}`)
			e.stop()
			r.await("away p")
			if s.Status().Connected {
				t.Error("it counts as connected")
			}
		})
	}
}
