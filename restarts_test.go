package guado_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// survivor is a client that goes on while its server stops and starts: it writes numbers,
// one after the other, by requests and by messages of its page.
type survivor struct {
	*tab
	name string
	url  *atomic.Pointer[string] // of the server that is there now

	written int // told to be
	opened  int // connections of its page
}

var errAway = errors.New("the server is away")

// dials connects the client's page again, and asks for the reply that it waits for.
func (c *survivor) dials(pending string) error {
	url := *c.url.Load()
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return err
	}
	for _, cookie := range c.browser.client.Jar.Cookies(r.URL) {
		r.AddCookie(cookie)
	}
	r.Header.Set("Origin", url)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	d := ws.Dialer{Header: ws.HandshakeHeaderHTTP(r.Header)}
	conn, _, _, err := d.Dial(ctx, "ws"+strings.TrimPrefix(url, "http")+"/_guado/push")
	if err != nil {
		return errAway
	}
	c.conn = conn
	hello := fmt.Sprintf(`{"t":"hello","v":1,"page":%q,"client":%q,"epoch":%q,"at":%d}`, c.page, c.client, c.epoch, c.at)
	if wsutil.WriteClientText(conn, []byte(hello)) != nil {
		return errAway
	}
	h, err := c.reads()
	if err != nil {
		return err
	}
	if h["t"] != "hello" || h["resumed"] != true || h["epoch"] != c.epoch {
		return fmt.Errorf("the page was not resumed: %v", h)
	}
	c.opened++
	if pending != "" && h["got"].(float64) < float64(c.sent) && wsutil.WriteClientText(conn, []byte(pending)) != nil {
		return errAway
	}
	return nil
}

// reads gives the next frame; errAway: the host has said that it comes back, or went.
func (c *survivor) reads() (map[string]any, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, errAway
	}
	data, err := wsutil.ReadServerText(c.conn)
	var closed wsutil.ClosedError
	var late net.Error
	switch {
	case errors.As(err, &closed) && closed.Code >= 3500:
		return nil, fmt.Errorf("the page has ended: %w", err)
	case errors.As(err, &late) && late.Timeout():
		return nil, fmt.Errorf("no reply: %w", err)
	case err != nil:
		_ = c.conn.Close()
		return nil, errAway
	}
	var f map[string]any
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, err
	}
	if n, is := f["n"].(float64); is {
		if uint64(n) != c.at+1 {
			return nil, fmt.Errorf("frame %v after %d", n, c.at)
		}
		c.at++
		_ = wsutil.WriteClientText(c.conn, fmt.Appendf(nil, `{"a":%d}`, c.at)) // the next read hears of it
	}
	return f, nil
}

// asksOnce has one message done once, over as many connections as that takes.
func (c *survivor) asksOnce(data string) (reply any, err error) {
	c.sent++
	frame := fmt.Sprintf(`{"c":%d,"q":%s}`, c.sent, data)
	err = errAway
	if wsutil.WriteClientText(c.conn, []byte(frame)) == nil {
		err = nil
	}
	for {
		var f map[string]any
		if err == nil {
			f, err = c.reads()
		}
		switch {
		case errors.Is(err, errAway):
			time.Sleep(5 * time.Millisecond) // as clients do who come back
			err = c.dials(frame)
		case err != nil:
			return nil, err
		case f["r"] == float64(c.sent):
			if e, is := f["e"].(map[string]any); is && e["code"] == "busy" {
				return c.asksOnce(data) // nothing was done
			} else if is {
				return nil, fmt.Errorf("%s: %v", data, e)
			}
			return f["d"], nil
		}
	}
}

// requests has something done by a request, again where no server is there.
func (c *survivor) requests(data string) (string, error) {
	for {
		r, err := http.NewRequest("POST", *c.url.Load()+"/", strings.NewReader(data))
		if err != nil {
			return "", err
		}
		r.Header.Set("Guado-Page", c.page)
		status, text := c.answer(r)
		if status == 200 {
			return text, nil
		}
		if status != 0 && status != 503 {
			return "", fmt.Errorf("%s: %d %s", data, status, text)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// answer gives what a request is answered; 0: nothing.
func (b *browser) answer(r *http.Request) (int, string) {
	res, err := b.client.Do(r)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, ""
	}
	return res.StatusCode, strings.TrimSpace(string(text))
}

func (c *survivor) lives(enough <-chan struct{}) error {
	for n := 1; ; n++ {
		select {
		case <-enough:
			return nil
		default:
		}
		data := fmt.Sprintf(`{"set":{"n":%d},"get":"n"}`, n)
		var got string
		var err error
		if n%2 == 0 {
			got, err = c.requests(data)
		} else {
			var reply any
			reply, err = c.asksOnce(data)
			got = text(reply)
		}
		if err == nil && got != fmt.Sprint(n) {
			err = fmt.Errorf("call %d found %s", n, got)
		}
		if err != nil {
			return fmt.Errorf("%s, page %s: %w", c.name, c.page, err)
		}
		c.written = n
	}
}

// restarts stops and starts a server so many times while clients use it: the stops are
// graceful, the kind of the application changes, and nobody may notice more than a pause.
func restarts(t *testing.T, times int) {
	t.Helper()
	dir := t.TempDir()
	site := func(n int) *site {
		return storeSite(t, dir, fmt.Sprintf("env = {TEST_KIND = %q}\n", []string{"wsgi", "asgi"}[n%2]))
	}
	s := site(0)
	var url atomic.Pointer[string]
	url.Store(&s.url)
	var clients []*survivor
	for i := range 8 {
		c := &survivor{tab: s.browser().tab(`{"path":"/","class":"Cart"}`), name: fmt.Sprintf("user-%d", i), url: &url}
		c.do(fmt.Sprintf(`{"login":%q}`, c.name))
		c.wantDone(fmt.Sprintf(`{"of":"","set":{"mine":%q},"get":"mine"}`, c.name), fmt.Sprintf("%q", c.name))
		clients = append(clients, c)
	}
	enough := make(chan struct{})
	var living sync.WaitGroup
	for _, c := range clients {
		living.Go(func() {
			if err := c.lives(enough); err != nil {
				t.Error(err)
			}
		})
	}
	for n := 1; n <= times && !t.Failed(); n++ {
		if err := s.end(); err != nil {
			t.Fatal(err)
		}
		s = site(n)
		url.Store(&s.url)
		s.eventually("all clients are back", func() bool { return s.Status().Push.Connected == len(clients) || t.Failed() })
	}
	close(enough)
	living.Wait()
	for _, c := range clients {
		c.s = s
		c.wantDone(`{"get":"n"}`, fmt.Sprint(c.written))
		c.wantDone(`{"of":"","get":"mine"}`, fmt.Sprintf("%q", c.name)) // still logged in
		if c.opened < times {
			t.Errorf("%s came back %d times of %d", c.name, c.opened, times)
		}
	}
	st := s.Status()
	if len(st.Registry.Pages.Ended) > 0 || st.Registry.Pages.Now != len(clients) || st.Registry.Users.Now != len(clients) || st.Registry.Connections.Now != len(clients) {
		t.Errorf("the index has %+v", st.Registry)
	}
}

func TestRestartsUnderLoadLoseNoLoginAndNoPage(t *testing.T) { restarts(t, 5) }

func TestSoakRestartsUnderLoadLoseNoLoginAndNoPage(t *testing.T) {
	if os.Getenv("GUADO_SOAK") == "" {
		t.Skip("make soak runs it")
	}
	restarts(t, 100)
}
