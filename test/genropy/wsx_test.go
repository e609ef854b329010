package genropy

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/guado-server/guado/test/harness"
)

// overWSX makes the calls of a page as GenroPy's newest client does, and those of another
// page over HTTP beside it.
func overWSX(t *testing.T, s *stack) {
	b := newBrowser(t, s)
	b.open()
	plain := []answer{b.call("/", "method=main"), b.ping(), b.call("/", "method=there_is_no_such_method")}
	first := b.page
	b.open() // another page of the same browser
	call := b.speakWSX()
	opened := call("/_wsx/openchannel", `{"parameters":{"sequential":true}}`)
	if opened.Status != http.StatusOK {
		t.Fatalf("openchannel: %+v", opened)
	}
	ping := "reason=auto&_no_cache_=&_lastUserEventTs=&_lastRpc=&callcounter=2&page_id=" + b.page
	for i, c := range []struct{ path, form string }{
		{"/", "method=main&callcounter=1&page_id=" + b.page}, {"/_ping", ping},
		{"/", "method=there_is_no_such_method&callcounter=3&page_id=" + b.page},
	} {
		text, err := json.Marshal(map[string]string{"form": c.form})
		if err != nil {
			t.Fatal(err)
		}
		a := call(c.path, string(text))
		var got struct {
			Body    string
			Headers map[string]string
		}
		if err := json.Unmarshal([]byte(a.data()), &got); err != nil {
			t.Fatalf("%s: %+v: %v", c.form, a, err)
		}
		normal := func(text, page string) string {
			return varies.ReplaceAllString(strings.ReplaceAll(text, page, "PAGE"), "VARIES")
		}
		same(t, step{c.form, answer{status: a.Status, kind: got.Headers["content-type"], body: normal(got.Body, b.page)}},
			step{c.form, answer{status: plain[i].status, kind: plain[i].kind, body: normal(plain[i].body, first)}})
		if strings.Contains(plain[i].fields, "X-Gnrtime") && got.Headers["x-gnrtime"] == "" {
			t.Errorf("%s: fields %v", c.form, got.Headers)
		}
	}
	if a := call("/_wsx/ping", ""); a.data() != `"pong"` {
		t.Errorf("ping: %+v", a)
	}
}

// wsxAnswer is an answer to a message.
type wsxAnswer struct {
	ID     string
	Status int
	Data   string
}

// data is the JSON within the quotes.
func (a wsxAnswer) data() string {
	if len(a.Data) < 2 {
		return a.Data
	}
	return a.Data[1 : len(a.Data)-1]
}

// speakWSX opens the socket of the page; what it gives makes a call.
func (b *browser) speakWSX() func(path, data string) wsxAnswer {
	b.t.Helper()
	conn, err := b.s.websocket()
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(2 * patience)); err != nil {
		b.t.Fatal(err)
	}
	at, err := url.Parse(b.s.url)
	if err != nil {
		b.t.Fatal(err)
	}
	var cookies []string
	for _, c := range b.client.Jar.Cookies(at) {
		cookies = append(cookies, c.Name+"="+c.Value)
	}
	head := "GET /_wsx HTTP/1.1\r\nHost: " + at.Host + "\r\nOrigin: " + b.s.url + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nCookie: " + strings.Join(cookies, "; ") + "\r\n\r\n"
	if _, err := io.WriteString(conn, head); err != nil {
		b.t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		b.t.Fatal(res, err)
	}
	n := 0
	return func(path, data string) wsxAnswer {
		b.t.Helper()
		n++
		message := map[string]string{"id": fmt.Sprint("wstk_", n), "method": "WSK", "path": path, "page_id": b.page}
		if data != "" {
			message["data"] = `"` + data + `"`
		}
		text, err := json.Marshal(message)
		if err != nil {
			b.t.Fatal(err)
		}
		if err := ws.WriteFrame(conn, ws.MaskFrame(ws.NewTextFrame(append([]byte("WSX://"), text...)))); err != nil {
			b.t.Fatal(err)
		}
		f, err := harness.ReadFrame(in)
		if err != nil {
			b.t.Fatalf("%s: %v", path, err)
		}
		var a wsxAnswer
		if err := json.Unmarshal([]byte(strings.TrimPrefix(string(f.Payload), "WSX://")), &a); err != nil || a.ID != message["id"] {
			b.t.Fatalf("%s: %.300s: %v", path, f.Payload, err)
		}
		return a
	}
}
