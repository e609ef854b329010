package guado_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// browser is a client with its cookies, of which each tab is a page.
type browser struct {
	s      *site
	client *http.Client
}

func (s *site) browser() *browser {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	b := &browser{s: s, client: &http.Client{Jar: jar, Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: patience}}}
	return b
}

func (b *browser) post(path, body string, fields ...string) (int, string) {
	b.s.t.Helper()
	r, err := http.NewRequestWithContext(b.s.t.Context(), "POST", b.s.url+path, strings.NewReader(body))
	if err != nil {
		b.s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Origin", b.s.url)
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.Set(name, value)
	}
	res, err := b.client.Do(r)
	if err != nil {
		b.s.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		b.s.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// tab is the client of a page.
type tab struct {
	*browser
	page   string
	conn   net.Conn
	client string
	epoch  string
	at     uint64
	sent   uint64
}

// tab opens a page, as the script of a tab does.
func (b *browser) tab(opening string) *tab {
	b.s.t.Helper()
	status, text := b.post("/_guado/page", opening)
	var answer struct{ Page string }
	if err := json.Unmarshal([]byte(text), &answer); err != nil || status != 200 {
		b.s.t.Fatalf("no page: %d %s", status, text)
	}
	return b.connect(answer.Page)
}

// connect connects to a page that there is.
func (b *browser) connect(page string) *tab {
	b.s.t.Helper()
	t := &tab{browser: b, page: page, client: "client-of-" + page}
	if h := t.dial(); h["t"] != "hello" {
		b.s.t.Fatalf("no hello but %v", h)
	}
	return t
}

// dial connects and says hello; it gives what the host says to that.
func (t *tab) dial() map[string]any {
	t.s.t.Helper()
	t.socket()
	return t.hello()
}

// socket connects, and says nothing yet.
func (t *tab) socket() {
	t.s.t.Helper()
	r, err := http.NewRequest("GET", t.s.url, nil)
	if err != nil {
		t.s.t.Fatal(err)
	}
	for _, c := range t.browser.client.Jar.Cookies(r.URL) {
		r.AddCookie(c)
	}
	r.Header.Set("Origin", t.s.url)
	ctx, cancel := context.WithTimeout(t.s.t.Context(), patience)
	defer cancel()
	dialer := ws.Dialer{Header: ws.HandshakeHeaderHTTP(r.Header)}
	if t.conn, _, _, err = dialer.Dial(ctx, "ws"+strings.TrimPrefix(t.s.url, "http")+"/_guado/push"); err != nil {
		t.s.t.Fatal(err)
	}
	conn := t.conn
	t.s.t.Cleanup(func() { _ = conn.Close() })
}

func (t *tab) hello() map[string]any {
	t.s.t.Helper()
	hello := fmt.Sprintf(`{"t":"hello","v":1,"page":%q,"client":%q`, t.page, t.client)
	if t.epoch != "" {
		hello += fmt.Sprintf(`,"epoch":%q,"at":%d`, t.epoch, t.at)
	}
	t.write(hello + "}")
	h := t.next()
	if h["t"] == "hello" {
		t.epoch, t.at = h["epoch"].(string), uint64(h["at"].(float64))
	}
	return h
}

func (t *tab) write(frame string) {
	t.s.t.Helper()
	if err := wsutil.WriteClientText(t.conn, []byte(frame)); err != nil {
		t.s.t.Fatal(err)
	}
}

// next gives the next frame. A close frame is {"close": CODE}.
func (t *tab) next() map[string]any {
	t.s.t.Helper()
	if err := t.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.s.t.Fatal(err)
	}
	data, err := wsutil.ReadServerText(t.conn)
	var closed wsutil.ClosedError
	if errors.As(err, &closed) {
		return map[string]any{"close": float64(closed.Code)}
	}
	if err != nil {
		t.s.t.Fatal(err)
	}
	var f map[string]any
	if err := json.Unmarshal(data, &f); err != nil {
		t.s.t.Fatalf("%q: %v", data, err)
	}
	if n, ok := f["n"].(float64); ok {
		if uint64(n) != t.at+1 {
			t.s.t.Fatalf("frame %v after %d: %s", n, t.at, data)
		}
		t.at++
		t.write(fmt.Sprintf(`{"a":%d}`, t.at))
	}
	return f
}

// numbered gives the next numbered frame, or the close frame.
func (t *tab) numbered() map[string]any {
	t.s.t.Helper()
	for {
		f := t.next()
		if f["n"] != nil || f["close"] != nil {
			return f
		}
	}
}

func (t *tab) send(data, to string) {
	t.sent++
	t.write(fmt.Sprintf(`{"c":%d,"to":%q,"m":%s}`, t.sent, to, data))
}

// ask sends a request and gives its reply: data, or the code of the error.
func (t *tab) ask(data, to string) any {
	t.s.t.Helper()
	t.sent++
	where := ""
	if to != "" {
		where = fmt.Sprintf(`"to":%q,`, to)
	}
	t.write(fmt.Sprintf(`{"c":%d,%s"q":%s}`, t.sent, where, data))
	return t.reply()
}

func (t *tab) reply() any {
	t.s.t.Helper()
	for {
		f := t.numbered()
		if f["close"] != nil {
			t.s.t.Fatalf("closed with %v instead of a reply", f["close"])
		}
		if f["r"] != float64(t.sent) {
			continue
		}
		if token, is := f["k"].(string); is {
			if status, text := t.post("/_guado/push", fmt.Sprintf(`{"t":"cookies","page":%q,"k":%q}`, t.page, token)); status != 204 {
				t.s.t.Fatalf("cookies of a reply: %d %s", status, text)
			}
		}
		if e, is := f["e"].(map[string]any); is {
			return e["code"]
		}
		return f["d"]
	}
}

// stream says hello over server-sent events; the function gives the frames that come.
func (b *browser) stream(hello string) (next func() map[string]any) {
	b.s.t.Helper()
	ctx, cancel := context.WithTimeout(b.s.t.Context(), 2*patience)
	r, err := http.NewRequestWithContext(ctx, "POST", b.s.url+"/_guado/push", strings.NewReader(hello))
	if err != nil {
		b.s.t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Origin", b.s.url)
	res, err := b.client.Do(r)
	if err != nil {
		b.s.t.Fatal(err)
	}
	b.s.t.Cleanup(func() {
		cancel()
		_ = res.Body.Close()
	})
	lines := bufio.NewScanner(res.Body)
	return func() map[string]any {
		b.s.t.Helper()
		for lines.Scan() {
			if text, is := strings.CutPrefix(lines.Text(), "data: "); is {
				var f map[string]any
				if err := json.Unmarshal([]byte(text), &f); err != nil {
					b.s.t.Fatal(text, err)
				}
				return f
			}
		}
		b.s.t.Fatalf("the stream ended: %v", lines.Err())
		return nil
	}
}
