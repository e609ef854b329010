package genropy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// browser asks what a browser asks: one page, with its cookie.
type browser struct {
	t      *testing.T
	s      *stack
	client *http.Client
	page   string // its id
	calls  int
}

func newBrowser(t *testing.T, s *stack) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &browser{t: t, s: s, client: &http.Client{Jar: jar, Transport: transport, Timeout: patience}}
}

// answer is what a client sees of an answer.
type answer struct {
	status int
	kind   string // content type
	fields string // names of those that the site sets
	body   string
}

func (b *browser) try(method, path, form string) (*http.Response, string, error) {
	r, err := http.NewRequestWithContext(context.Background(), method, b.s.url+path, strings.NewReader(form))
	if err != nil {
		return nil, "", err
	}
	if form != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := b.client.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close() //nolint:errcheck // read to its end
	body, err := io.ReadAll(res.Body)
	return res, string(body), err
}

func (b *browser) ask(method, path, form string) answer {
	b.t.Helper()
	res, body, err := b.try(method, path, form)
	if err != nil {
		b.t.Fatalf("%s: %s %s: %v", b.s.name, method, path, err)
	}
	var fields []string
	for _, name := range []string{"Set-Cookie", "Cache-Control", "Pragma", "X-Gnrtime", "X-Gnrsqltime", "X-Gnrsqlcount", "Last-Modified", "Etag", "Location"} {
		if res.Header.Get(name) != "" {
			fields = append(fields, name)
		}
	}
	return answer{res.StatusCode, res.Header.Get("Content-Type"), strings.Join(fields, " "), body}
}

var pageID = regexp.MustCompile(`page_id:'(\w{22})'`)

// open loads the page.
func (b *browser) open() answer {
	b.t.Helper()
	a := b.ask(http.MethodGet, "/", "")
	m := pageID.FindStringSubmatch(a.body)
	if a.status != http.StatusOK || m == nil {
		b.t.Fatalf("%s: no page: %d %.300s", b.s.name, a.status, a.body)
	}
	b.page = m[1]
	return a
}

// call posts as the page's script does.
func (b *browser) call(path, form string) answer {
	b.t.Helper()
	b.calls++
	return b.ask(http.MethodPost, path, fmt.Sprintf("%s&page_id=%s&callcounter=%d", form, b.page, b.calls))
}

// ping is what a page asks every few seconds.
func (b *browser) ping() answer {
	b.t.Helper()
	return b.call("/_ping", "reason=auto&_no_cache_=&_lastUserEventTs=&_lastRpc=")
}

// leave is the beacon of a page that is closed.
func (b *browser) leave() answer {
	b.t.Helper()
	return b.ask(http.MethodPost, "/_beacon?"+url.Values{"page_id": {b.page}, "method": {"onClosedPage"}}.Encode(), "")
}

// pong opens a WebSocket, sends a ping of GenroPy's and waits for its answer.
func (s *stack) pong() error {
	conn, err := s.websocket()
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is lost
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "GET /websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"); err != nil {
		return err
	}
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		return errors.New(res.Status)
	}
	// A short text frame, masked with zeros.
	message := `{"command":"ping","lastEventAge":"840::L"}`
	frame := append([]byte{0x81, 0x80 | byte(len(message)), 0, 0, 0, 0}, message...)
	if _, err := conn.Write(frame); err != nil {
		return err
	}
	reply := make([]byte, len("\x81\x04pong"))
	if _, err := io.ReadFull(in, reply); err != nil {
		return err
	}
	if string(reply) != "\x81\x04pong" {
		return fmt.Errorf("the answer to a ping is %q", reply)
	}
	return nil
}
