package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/guado-server/guado/test/harness"
)

// wsxServer serves an application below /shop that is asked over WSX.
func wsxServer(t *testing.T, more string) *harness.Server {
	t.Helper()
	return harness.Start(t, harness.Options{Config: fmt.Sprintf(`
[server]
listen = ["127.0.0.1:0"]
%s
[[app]]
name = "shop"
kind = "wsgi"
target = "wsx_app:app"
dir = %q
python = %q
[[mount]]
path = "/shop"
app = "shop"
wsx = true
identity = true
`, more, harness.Apps(), harness.Python(t, "newest"))})
}

// wsxReply is an answer; Data is unwrapped.
type wsxReply struct {
	ID     string
	Status int
	Data   string
}

// ask sends a message as GenroPy's client does: data is JSON between quotes.
func (c *socket) ask(id, path, page, data string) {
	c.t.Helper()
	message := map[string]string{"method": "WSK", "path": path}
	if id != "" {
		message["id"] = id
	}
	if page != "" {
		message["page_id"] = page
	}
	if data != "" {
		message["data"] = `"` + data + `"`
	}
	text, err := json.Marshal(message)
	if err != nil {
		c.t.Fatal(err)
	}
	c.send(ws.NewTextFrame(append([]byte("WSX://"), text...)))
}

func (c *socket) reply() wsxReply {
	c.t.Helper()
	_, text := c.message()
	rest, ok := strings.CutPrefix(text, "WSX://")
	var r wsxReply
	if err := json.Unmarshal([]byte(rest), &r); err != nil || !ok {
		c.t.Fatalf("%.300s: %v", text, err)
	}
	if r.Data != "" {
		r.Data = r.Data[1 : len(r.Data)-1]
	}
	return r
}

func (c *socket) wantReply(id string, status int, data string) {
	c.t.Helper()
	if r := c.reply(); r.ID != id || r.Status != status || r.Data != data {
		c.t.Fatalf("answered %.300v, want %s %d %s", r, id, status, data)
	}
}

func TestMessagesOfGenroPysClientsReachAnApplicationThatKnowsNothingOfThem(t *testing.T) {
	s := wsxServer(t, "")
	for _, path := range []string{"/shop/_wsx", "/shop/websocket"} {
		c := openSocket(t, s, path, "Cookie: shop=ada", "Origin: "+s.URL, "Accept-Encoding: gzip")
		c.ask("w1", "/_wsx/ping", "P1", "")
		c.wantReply("w1", 200, `"pong"`)
		c.ask("w2", "/shop/_wsx/ping", "P1", "")
		c.wantReply("w2", 200, `"pong"`)
		c.ask("w3", "/shop/page", "P1", `{"form":"method=main"}`)
		c.wantReply("w3", 409, `"openchannel must come before the calls of a page"`)
		c.ask("w4", "/_wsx/openchannel", "", `{}`)
		c.wantReply("w4", 400, `"page_id is missing"`)
		c.ask("w5", "/shop/_wsx/openchannel", "P1", `{"parameters":{"sequential":true}}`)
		c.wantReply("w5", 200, `"open"`)
		c.ask("w6", "/_wsx/openchannel", "P2", `{"parameters":{"sequential":true}}`)
		c.wantReply("w6", 403, `"this socket is another page's"`)
		c.ask("w7", "/_wsx/else", "P1", "")
		c.wantReply("w7", 404, `"there is no /_wsx/else"`)

		t.Run("a call of a page is its form", func(t *testing.T) {
			c.ask("f1", "/shop/page", "P1", `{"form":"method=main&value=7%3A%3AL&page_id=P1"}`)
			c.wantReply("f1", 200, `{"body":"<GenRoBag><page>P1</page><value>7::L</value></GenRoBag>","headers":{"content-type":"text/xml","x-gnrtime":"7"}}`)
			c.ask("f2", "/shop/page", "P1", `{"form":"method=main"}`)
			c.wantReply("f2", 200, `{"body":"<GenRoBag><page>P1</page><value>None</value></GenRoBag>","headers":{"content-type":"text/xml","x-gnrtime":"7"}}`)
			c.ask("f3", "/shop/page", "P1", `{"form":"method=main&page_id=P2"}`)
			c.wantReply("f3", 400, `"page_id of the form is another one"`)
			c.ask("f4", "/shop/page", "P1", `{"form":"method=fail"}`)
			c.wantReply("f4", 412, `"<GenRoBag><page>P1</page><value>None</value></GenRoBag>"`)
		})
		t.Run("any other message is a request with JSON", func(t *testing.T) { checkMessage(t, c, s) })
		t.Run("answers that no message can be are told", func(t *testing.T) {
			c.ask("e1", "/shop/bytes", "P1", "{}")
			if r := c.reply(); r.Status != 500 || !strings.HasPrefix(r.Data, `"not_text, request id `) {
				t.Error(r)
			}
			c.ask("e2", "/shop/raise", "P1", "{}")
			if r := c.reply(); r.Status != 500 || !strings.HasPrefix(r.Data, `"application_error, request id `) {
				t.Error(r)
			}
			c.ask("e3", "/nowhere", "P1", "{}")
			if r := c.reply(); r.Status != 404 || !strings.HasPrefix(r.Data, `"no_mount, request id `) {
				t.Error(r)
			}
			c.ask("e4", "/shop/../etc", "P1", "{}")
			if r := c.reply(); r.Status != 400 {
				t.Error(r)
			}
			c.ask("e5", "/shop/nothing", "P1", "{}")
			c.wantReply("e5", 204, "")
			c.ask("e6", "/shop/large?3000000", "P1", "")
			if r := c.reply(); r.Status != 200 || len(r.Data) != 3_000_002 {
				t.Error(r.Status, len(r.Data))
			}
		})
		t.Run("what is no message is dropped", func(t *testing.T) {
			c.send(ws.NewTextFrame([]byte("pong")))
			c.send(ws.NewTextFrame([]byte("WSX://{")))
			c.send(ws.NewBinaryFrame([]byte(`{"id":"b1","path":"/_wsx/ping"}`)))
			c.send(ws.NewTextFrame([]byte(`{"id":7,"path":"/_wsx/ping"}`)))
			c.want(`{"id":7,"status":200,"data":"\"\"pong\"\""}`)
		})
		_ = c.Close()
	}
	if _, err := trySocket(t, s, "/shop/_wsx", "Origin: https://elsewhere.example"); err == nil || err.(*refused).status != 403 { //nolint:errorlint // as it is made
		t.Errorf("another site's page: %v", err)
	}
	if _, err := trySocket(t, s, "/shop/else"); err == nil {
		t.Error("a WSGI application accepted a WebSocket")
	}
}

// checkMessage looks at what the application sees of a message that is no form.
func checkMessage(t *testing.T, c *socket, s *harness.Server) {
	t.Helper()
	c.ask("m1", "/shop/look%20here?q=%20", "P1", `{"a":[1,"é"]}`)
	r := c.reply()
	got := map[string]string{}
	if err := json.Unmarshal([]byte(r.Data), &got); err != nil {
		// Fields that are not there are null.
		if typed := (*json.UnmarshalTypeError)(nil); !errors.As(err, &typed) {
			t.Fatalf("%v: %s", err, r.Data)
		}
	}
	for key, want := range map[string]string{
		"REQUEST_METHOD": "POST", "SCRIPT_NAME": "/shop", "PATH_INFO": "/look here", "QUERY_STRING": "q=%20",
		"CONTENT_TYPE": "application/json", "HTTP_COOKIE": "shop=ada", "HTTP_ORIGIN": s.URL, "HTTP_HOST": s.Addr,
		"REMOTE_ADDR": "127.0.0.1", "HTTP_GUADO_MESSAGE": "1", "HTTP_SEC_WEBSOCKET_KEY": "", "wsgi.url_scheme": "http",
		"HTTP_ACCEPT_ENCODING": "", "body": `{"a":[1,"é"]}`,
	} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
	c.ask("m2", "/shop/typed", "P1", `{"day":"2026-01-02::D"}::JS`)
	if r := c.reply(); !strings.Contains(r.Data, `"application/vnd.tytx+json"`) || !strings.Contains(r.Data, `\"day\":\"2026-01-02::D\"}::JS`) {
		t.Error(r)
	}
	c.ask("m3", "/shop/anybody", "", "1")
	if r := c.reply(); r.Status != 200 {
		t.Errorf("a call of no page: %v", r)
	}
	// An event has no answer: the next one is that of the call behind it.
	c.ask("", "/shop/note", "P1", `"an event"`)
	c.ask("m4", "/shop/seen", "P1", "")
	if r := c.reply(); r.ID != "m4" || !strings.Contains(r.Data, "an event") {
		t.Error(r)
	}
}

func TestCallsOfASequentialPageComeOneAfterTheOther(t *testing.T) {
	s := wsxServer(t, "")
	c := openSocket(t, s, "/shop/_wsx")
	c.ask("open", "/_wsx/openchannel", "P1", `{"parameters":{"sequential":true}}`)
	c.wantReply("open", 200, `"open"`)
	c.ask("first", "/shop/wait?one", "P1", "")
	for i := range 100 {
		c.ask(fmt.Sprint(i), "/shop/slowly", "P1", fmt.Sprint(i))
	}
	c.ask("aside", "/shop/slowly", "", `"of no page"`)
	c.wantReply("aside", 200, `"of no page"`)
	c.ask("go", "/shop/go?one", "", "")
	for range 2 {
		switch r := c.reply(); {
		case r.ID == "go", r.ID == "first" && r.Data == `"one"`:
		default:
			t.Fatal(r)
		}
	}
	for i := range 100 {
		c.wantReply(fmt.Sprint(i), 200, fmt.Sprint(i))
	}
}

func TestCallsBeyondTheBoundAreRefusedAndTheOthersAnswered(t *testing.T) {
	s := wsxServer(t, "")
	c := openSocket(t, s, "/shop/_wsx")
	c.ask("open", "/_wsx/openchannel", "P1", `{"parameters":{"sequential":true}}`)
	c.wantReply("open", 200, `"open"`)
	c.ask("first", "/shop/wait?one", "P1", "")
	const more = 300
	for i := range more {
		c.ask(fmt.Sprint(i), "/shop/slowly", "P1", "1")
	}
	for i := 256; i < more; i++ {
		c.wantReply(fmt.Sprint(i), 503, `"too many calls wait on this socket"`)
	}
	c.ask("go", "/shop/go?one", "", "")
	ids := map[string]bool{}
	for range 258 {
		r := c.reply()
		if r.Status != 200 || ids[r.ID] {
			t.Fatal(r)
		}
		ids[r.ID] = true
	}
}

func TestCallsOfAClientThatLeftAreCancelled(t *testing.T) {
	s := wsxServer(t, "")
	c := openSocket(t, s, "/shop/_wsx")
	c.ask("open", "/_wsx/openchannel", "P1", `{"parameters":{"sequential":true}}`)
	c.wantReply("open", 200, `"open"`)
	c.ask("1", "/shop/wait?two", "P1", "")
	c.ask("2", "/shop/note", "P1", `"after the end"`)
	other := openSocket(t, s, "/shop/_wsx")
	seen := func() string {
		other.ask("seen", "/shop/seen", "", "")
		return other.reply().Data
	}
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(seen(), "began two") {
		if time.Now().After(deadline) {
			t.Fatal("the call did not begin")
		}
	}
	c.send(ws.NewCloseFrame(nil))
	if _, err := io.Copy(io.Discard, c.br); err != nil { // to the end: by then the host has heard of it
		t.Fatal(err)
	}
	other.ask("go", "/shop/go?two", "", "")
	other.wantReply("go", 200, "true")
	for !strings.Contains(seen(), "ended two") {
		if time.Now().After(deadline) {
			t.Fatal("the call did not end")
		}
	}
	if strings.Contains(seen(), "after the end") {
		t.Error("a call that waited was done for nobody")
	}
}

// newPage opens a page and gives its id and the cookie of its connection.
func newPage(t *testing.T, s *harness.Server, cookie string) (page, itsCookie string) {
	t.Helper()
	r := request(t, "POST", s.URL+"/_guado/page", strings.NewReader(`{"path":"/shop/"}`))
	if cookie != "" {
		r.Header.Set("Cookie", cookie)
	}
	res, body := do(t, harness.Client(t, "http1"), r)
	var got struct{ Page string }
	if err := json.Unmarshal([]byte(body), &got); err != nil || got.Page == "" {
		t.Fatalf("%d %s: %v", res.StatusCode, body, err)
	}
	if field := res.Header.Get("Set-Cookie"); field != "" {
		cookie, _, _ = strings.Cut(field, ";")
	}
	return got.Page, cookie
}

func TestFromPhase3OnAPageSpeaksOnTheSocketOfItsConnectionAlone(t *testing.T) {
	s := wsxServer(t, "phase = 3\nstate_dir = "+fmt.Sprintf("%q", t.TempDir())+"\n")
	first, ada := newPage(t, s, "")
	second, _ := newPage(t, s, ada)
	foreign, _ := newPage(t, s, "")
	c := openSocket(t, s, "/shop/_wsx", "Cookie: "+ada)
	for _, page := range []string{first, second} {
		c.ask("open", "/_wsx/openchannel", page, "{}")
		c.wantReply("open", 200, `"open"`)
	}
	c.ask("foreign", "/_wsx/openchannel", foreign, "{}")
	c.wantReply("foreign", 403, `"the page is not this connection's"`)
	c.ask("call", "/shop/look", foreign, "{}")
	c.wantReply("call", 409, `"openchannel must come before the calls of a page"`)
	stranger := openSocket(t, s, "/shop/_wsx")
	stranger.ask("open", "/_wsx/openchannel", first, "{}")
	stranger.wantReply("open", 403, `"the page is not this connection's"`)

	for _, page := range []string{first, second} {
		c.ask("look", "/shop/look", page, "{}")
		r := c.reply()
		for _, part := range []string{`"HTTP_GUADO_MESSAGE": "1"`, `"HTTP_GUADO_PAGE": "` + page + `"`} {
			if r.Status != 200 || !strings.Contains(r.Data, part) || strings.Contains(r.Data, `"HTTP_GUADO_CONNECTION": null`) {
				t.Errorf("%s is not in %v", part, r)
			}
		}
	}
}

// TestASocketOfBeforeALoginIsNobodysAfterIt: whoever planted a guest's cookie in somebody's
// browser has a socket of that guest open himself.
func TestASocketOfBeforeALoginIsNobodysAfterIt(t *testing.T) {
	s := wsxServer(t, "phase = 3\nstate_dir = "+fmt.Sprintf("%q", t.TempDir())+"\n")
	page, guest := newPage(t, s, "")
	c := openSocket(t, s, "/shop/_wsx", "Cookie: "+guest)
	c.ask("open", "/_wsx/openchannel", page, "{}")
	c.wantReply("open", 200, `"open"`)

	r := request(t, "POST", s.URL+"/shop/login", nil)
	r.Header.Set("Cookie", guest)
	res, body := do(t, harness.Client(t, "http1"), r)
	user, _, _ := strings.Cut(res.Header.Get("Set-Cookie"), ";")
	if res.StatusCode != 200 || user == "" || user == guest {
		t.Fatalf("%d %s %q", res.StatusCode, body, user)
	}
	c.ask("again", "/_wsx/openchannel", page, "{}")
	c.wantReply("again", 403, `"the page is not this connection's"`)
	c.ask("look", "/shop/look", page, "{}")
	if r := c.reply(); r.Status != 200 || !strings.Contains(r.Data, `"HTTP_GUADO_USER": null`) || !strings.Contains(r.Data, `"HTTP_GUADO_PAGE": null`) {
		t.Errorf("with the cookie of before: %v", r)
	}
	c = openSocket(t, s, "/shop/_wsx", "Cookie: "+user)
	c.ask("open", "/_wsx/openchannel", page, "{}")
	c.wantReply("open", 200, `"open"`)
	c.ask("look", "/shop/look", page, "{}")
	if r := c.reply(); !strings.Contains(r.Data, `"HTTP_GUADO_USER": "ada"`) || !strings.Contains(r.Data, page) {
		t.Errorf("with the new cookie: %v", r)
	}
}

func TestAClientThatReadsSlowlyGetsAllItsAnswers(t *testing.T) {
	s := wsxServer(t, "")
	c := openSocket(t, s, "/shop/_wsx")
	const n = 24
	for i := range n {
		c.ask(fmt.Sprint(i), "/shop/large?900000", "", "")
	}
	other := openSocket(t, s, "/shop/_wsx")
	for deadline := time.Now().Add(time.Minute); ; {
		other.ask("seen", "/shop/seen", "", "")
		if strings.Count(other.reply().Data, "large") == n { // all are answered, and nothing was read
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the calls were not done")
		}
	}
	got := map[string]bool{}
	for range n {
		r := c.reply()
		if got[r.ID] = true; r.Status != 200 || len(r.Data) != 900_002 {
			t.Fatal(r.ID, r.Status, len(r.Data))
		}
	}
	if len(got) != n {
		t.Errorf("%d calls were answered", len(got))
	}
}

func TestASocketOutlivesAReloadAndIsToldOfAStop(t *testing.T) {
	s := wsxServer(t, "")
	c := openSocket(t, s, "/shop/_wsx")
	c.ask("open", "/_wsx/openchannel", "P1", `{"parameters":{"sequential":true}}`)
	c.wantReply("open", 200, `"open"`)
	s.Signal(syscall.SIGHUP)
	s.WaitLog("reloaded: ", time.Minute)
	c.ask("after", "/shop/slowly", "P1", `"still here"`)
	c.wantReply("after", 200, `"still here"`)
	s.Signal(syscall.SIGTERM)
	c.wantClose(1012, "the server restarts")
	if code := s.Wait(time.Minute); code != 0 {
		t.Errorf("exit %d", code)
	}
}
