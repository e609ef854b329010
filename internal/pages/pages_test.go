package pages_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/pages"
	"github.com/guado-server/guado/internal/push"
)

func TestAPageCostsTheApplicationNothingBeforeItsClientComes(t *testing.T) {
	r := start(t, nil)
	page, cookie := r.open("", `{"path":"/board","class":"Board","args":{"id":7}}`)
	if cookie != "id=fresh; Path=/" {
		t.Errorf("Set-Cookie of a new connection: %q", cookie)
	}
	r.set(func(r *rig) {
		r.handle = func(c turn) (int, string) {
			r.note("args %s class %s connection %s", c.Args, c.Class, c.Connection)
			return 200, ""
		}
	})
	if did := r.did(); len(did) > 0 {
		t.Errorf("before the client came: %q", did)
	}
	r.connect(page, "id=fresh")
	r.await(`args {"id":7} class Board connection fresh`, 1)
	r.await("open opened=false", 1)
}

func TestArgumentsOfPagesThatNobodyLooksAtTakeABoundedRoom(t *testing.T) {
	p := pages.New(pages.Options{Args: 1 << 20, Push: push.Options{UserPages: 1 << 20}})
	defer p.Close()
	args := json.RawMessage(`{"x":"` + strings.Repeat("x", 6<<10) + `"}`)
	first, err := p.Open(pages.Opening{Connection: "robot", Args: args})
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ { // all of one moment are as old
		_, there := p.One(first)
		if i >= 500 && !there || i > 20_000 {
			break
		}
		if _, err := p.Open(pages.Opening{Connection: "robot", Args: args}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(p.List()); n > 1<<20/len(args) || n < 100 {
		t.Errorf("%d pages", n)
	}
	if _, is := p.One(first); is {
		t.Error("the oldest is still there")
	}
	for _, page := range p.List() {
		p.End(page.Page)
	}
	last, err := p.Open(pages.Opening{Connection: "somebody", Args: args})
	if _, is := p.One(last); err != nil || !is {
		t.Errorf("when there is room again: %v", err)
	}
}

func TestAPageIsNotOpenedForAForeignOriginAnUnknownClassOrWhereNothingIsMounted(t *testing.T) {
	r := start(t, nil)
	for _, c := range []struct {
		body, origin, code string
		status             int
	}{
		{`{"path":"/"}`, "http://elsewhere.example", "origin_not_allowed", 403},
		{`{"path":"/","class":"Unknown"}`, "", "no_class", 404},
		{`{"path":"/nowhere"}`, "", "no_page", 404},
		{`{"path":"nowhere"}`, "", "bad_page", 400},
		{`[]`, "", "bad_page", 400},
		{`{"path":"/","class":"Board","args":[1]}`, "", "bad_page", 400},
	} {
		status, text, _ := r.post("/_guado/page", "id=a", c.body, "Origin: "+c.origin, "Accept: application/json")
		if c.origin == "" {
			status, text, _ = r.post("/_guado/page", "id=a", c.body, "Accept: application/json")
		}
		if status != c.status || !strings.Contains(text, c.code) {
			t.Errorf("%s: %d %s, want %d %s", c.body, status, text, c.status, c.code)
		}
	}
}

func TestAMessageIsARequestOfTheApplicationWithTheSurroundingsOfItsPage(t *testing.T) {
	r := start(t, nil)
	r.serve = func(x *exchange.Exchange) {
		body := make([]byte, 100)
		n, _ := x.Body.Read(body)
		text, _ := json.Marshal(map[string]string{
			"method": x.Method, "target": string(x.Target), "host": string(x.Host), "cookie": string(x.Field("cookie")),
			"origin": string(x.Field("origin")), "message": string(x.Field("guado-message")), "agent": string(x.Field("user-agent")),
			"type": string(x.Field("content-type")), "body": string(body[:n]),
		})
		r.answer(x, 200, "application/json", string(text))
	}
	page, _ := r.open("id=a; theme=old", `{"path":"/board/1"}`)
	origin := "Origin: http://" + r.addr
	c := r.connect(page, "id=a; theme=new", origin)
	for to, target := range map[string]string{"": "/board/1", "/api/move?x=1": "/api/move?x=1"} {
		c.send("q", `{"move":"e4"}`, to)
		want := fmt.Sprintf(`{"agent":"test","body":"{\"move\":\"e4\"}","cookie":"id=a; theme=new","host":%q,"message":"1","method":"POST","origin":%q,"target":%q,"type":"application/json"}`,
			r.addr, "http://"+r.addr, target)
		if got := c.numbered(); got != fmt.Sprintf(`{"d":%s,"r":%d}`, want, c.sent) {
			t.Errorf("the application saw\n%s, want\n%s", got, want)
		}
	}
}

func TestWhatAnApplicationAnswersBecomesAReplyOrAnError(t *testing.T) {
	r := start(t, nil)
	page, _ := r.open("id=a", `{"path":"/"}`)
	c := r.connect(page, "id=a")
	for _, one := range []struct {
		status           int
		kind, text, want string
	}{
		{200, "application/json", `{"a": 1}`, `"d":{"a":1}`},
		{201, "application/problem+json; charset=utf-8", `[1]`, `"d":[1]`},
		{200, "text/html; charset=utf-8", `<p>hé</p>`, `"d":"<p>hé</p>"`},
		{204, "", ``, `"d":null`},
		{200, "image/png", `x`, `"e":{"code":"failed","message":"the answer is neither JSON nor text in UTF-8"}`},
		{200, "application/json", `{"a":`, `"e":{"code":"failed","message":"the reply is no JSON"}`},
		{404, "text/html", `<h1>`, `"e":{"code":"http_404","message":"Not Found"}`},
		{422, "text/plain", `no such move`, `"e":{"code":"http_422","message":"no such move"}`},
		{0, "worker_died", ``, `"e":{"code":"lost","message":"its worker died: it may have been done, or not"}`},
		{1, "queue_full", ``, `"e":{"code":"busy","message":"the server has no room now; nothing was done"}`},
	} {
		r.set(func(r *rig) {
			r.serve = func(x *exchange.Exchange) {
				if one.status < 100 {
					x.Fail(&exchange.Problem{Status: 502 + one.status, Code: one.kind})
					return
				}
				r.answer(x, one.status, one.kind, one.text)
			}
		})
		id := c.send("q", "1", "/x")
		if got, want := c.numbered(), fmt.Sprintf(`{%s,"r":%d}`, one.want, id); got != want {
			t.Errorf("%d %s %s: %s, want %s", one.status, one.kind, one.text, got, want)
		}
	}
	for to, says := range map[string]string{
		"//%zz": "cannot be read", "/a/../b": "cannot be read", "/_guado/push": "server's own", "nowhere": "a path begins with /",
	} {
		id := c.send("q", "1", to)
		if got := c.numbered(); !strings.Contains(got, `"bad_path"`) || !strings.Contains(got, says) || !strings.Contains(got, fmt.Sprint(id)) {
			t.Errorf("to %q: %s", to, got)
		}
	}
}

func TestCookiesOfAReplyAreFetchedOnceAndGoWithTheNextRequest(t *testing.T) {
	r := start(t, nil)
	page, _ := r.open("id=a", `{"path":"/"}`)
	c := r.connect(page, "id=a; old=1")
	r.set(func(r *rig) {
		r.serve = func(x *exchange.Exchange) {
			r.note("cookie %s", x.Field("cookie"))
			r.answer(x, 200, "text/plain", "in", "Set-Cookie: session=s1; Path=/; HttpOnly", "Set-Cookie: old=; Max-Age=0")
		}
	})
	id := c.send("q", `{}`, "/login")
	f := c.next()
	for f["r"] == nil {
		f = c.next()
	}
	token, _ := f["k"].(string)
	if f["r"] != float64(id) || f["d"] != "in" || token == "" {
		t.Fatalf("reply %v", f)
	}
	fetch := fmt.Sprintf(`{"t":"cookies","page":%q,"k":%q}`, page, token)
	if status, _, head := r.post("/_guado/push", "id=other", fetch); status == 204 || head.Get("Set-Cookie") != "" {
		t.Errorf("another connection got the cookies: %d %v", status, head)
	}
	status, _, head := r.post("/_guado/push", "id=a", fetch)
	if got := head.Values("Set-Cookie"); status != 204 || !slices.Equal(got, []string{"session=s1; Path=/; HttpOnly", "old=; Max-Age=0"}) {
		t.Errorf("cookies: %d %q", status, got)
	}
	if _, _, head := r.post("/_guado/push", "id=a", fetch); len(head.Values("Set-Cookie")) > 0 {
		t.Error("cookies were given twice")
	}
	c.send("q", `{}`, "/again")
	c.numbered()
	r.await("cookie id=a; old=1", 1)
	r.await("cookie id=a; session=s1", 1)
}

func TestAnApplicationThatRefusesAPageEndsIt(t *testing.T) {
	r := start(t, nil)
	r.handle = func(turn) (int, string) { return 403, `{"code":"forbidden","message":"not yours"}` }
	page, _ := r.open("id=a", `{"class":"Board"}`)
	c := r.connect(page, "id=a")
	if f := c.next(); f["t"] != "close" || f["code"] != float64(push.CodeRefused) || fmt.Sprint(f["e"]) != "map[code:forbidden message:not yours]" {
		t.Errorf("the client got %v", f)
	}
	if f := c.next(); f["close"] != float64(push.CodeRefused) {
		t.Errorf("then the client got %v", f)
	}
}

// Its object is gone with a worker, and the next one wants no such page any more: whichever
// turn comes first.
func TestAnApplicationThatRefusesAPageWhenItIsMadeAnewEndsIt(t *testing.T) {
	for _, first := range []string{"a request", "its client comes back", "a snapshot"} {
		r := start(t, nil)
		page, _ := r.open("id=a", `{"class":"Board"}`)
		c := r.connect(page, "id=a")
		r.await("open opened=false", 1)
		c.send("q", "1", "")
		c.numbered()
		r.set(func(r *rig) {
			r.handle = func(turn) (int, string) { return 403, `{"code":"forbidden","message":"not yours"}` }
		})
		switch first {
		case "a request":
			id := c.send("q", "2", "")
			if got, want := c.numbered(), fmt.Sprintf(`{"e":{"code":"forbidden","message":"not yours"},"r":%d}`, id); got != want {
				t.Errorf("reply %s, want %s", got, want)
			}
		case "its client comes back":
			r.pages.Reopen()
		default:
			c.anew("another", "id=a")
		}
		f := c.next()
		for f["t"] != "close" && f["close"] == nil {
			f = c.next()
		}
		if f["code"] != float64(push.CodeRefused) || fmt.Sprint(f["e"]) != "map[code:forbidden message:not yours]" {
			t.Errorf("%s: the client got %v", first, f)
		}
	}
}

func TestAPageThatCouldNotBeOpenedIsTriedAgainByItsNextMessage(t *testing.T) {
	r := start(t, nil)
	r.handle = func(turn) (int, string) { return 500, `{"code":"failed","message":"the database is down"}` }
	page, _ := r.open("id=a", `{"class":"Board"}`)
	c := r.connect(page, "id=a")
	r.await("open opened=false", 1)
	id := c.send("q", "1", "")
	if got, want := c.numbered(), fmt.Sprintf(`{"e":{"code":"failed","message":"the database is down"},"r":%d}`, id); got != want {
		t.Errorf("reply %s, want %s", got, want)
	}
	r.set(func(r *rig) { r.handle = nil })
	id = c.send("q", "2", "")
	if got, want := c.numbered(), fmt.Sprintf(`{"d":null,"r":%d}`, id); got != want {
		t.Errorf("reply %s, want %s", got, want)
	}
	r.await("request opened=true 2", 1)
}

func TestAClientThatStartsAnewGetsASnapshotAndNeverHalfAPage(t *testing.T) {
	r := start(t, nil)
	r.handle = func(c turn) (int, string) {
		if c.Do == exchange.TurnSnapshot {
			return 200, `{"all":1}`
		}
		return 200, ""
	}
	page, _ := r.open("id=a", `{"class":"Board"}`)
	c := r.connect(page, "id=a")
	r.await("open opened=false", 1)
	if h := c.anew("another", "id=a"); h["resumed"] != false || h["why"] != "client" {
		t.Fatalf("hello %v", h)
	}
	if got := c.numbered(); got != `{"s":{"all":1}}` {
		t.Errorf("snapshot %s", got)
	}
	r.set(func(r *rig) { r.handle = func(turn) (int, string) { return 500, `{"code":"failed"}` } })
	c.anew("third", "id=a")
	f := c.next()
	for f["close"] == nil {
		f = c.next()
	}
	if f["close"] != float64(push.CodeEnded) {
		t.Errorf("a page without a snapshot: %v", f)
	}
}

func TestACancelledRequestEndsItsExchange(t *testing.T) {
	r := start(t, nil)
	entered := make(chan struct{})
	r.serve = func(x *exchange.Exchange) {
		close(entered)
		for x.Gone() == exchange.Present {
			x.Wait()
		}
		r.note("gone")
		x.Fail(&exchange.Problem{Status: 499, Code: "client_gone"})
	}
	page, _ := r.open("id=a", `{"path":"/"}`)
	c := r.connect(page, "id=a")
	id := c.send("q", "1", "/slow")
	<-entered
	c.sent++
	c.write(fmt.Sprintf(`{"c":%d,"x":%d}`, c.sent, id))
	r.await("gone", 1)
}

func TestAPushCountsItsPagesAndWaitsForThem(t *testing.T) {
	r := start(t, nil)
	page, _ := r.open("id=a", `{"path":"/"}`)
	r.open("id=b", `{"path":"/"}`)
	c := r.connect(page, "id=a")
	sent, err := r.pages.Push(pages.Delivery{To: pages.To{All: true}, Data: []byte(`{"n": 1}`)})
	if err != nil || sent.Pages != 2 || sent.Connected != 1 {
		t.Errorf("%+v %v", sent, err)
	}
	if got := c.numbered(); got != `{"m":{"n":1}}` {
		t.Errorf("message %s", got)
	}
	d := pages.Delivery{To: pages.To{Connection: "a"}, Data: []byte(`2`), Ack: true}
	if sent, err = r.pages.Push(d); err != nil {
		t.Fatal(err)
	}
	if got := c.numbered(); got != `{"m":2,"w":1}` {
		t.Errorf("message %s", got)
	}
	if sent = r.pages.Wait(t.Context(), d, sent); sent.Acknowledged == nil || *sent.Acknowledged != 1 {
		t.Errorf("%+v", sent)
	}
	for _, to := range []pages.To{{}, {All: true, Page: page}} {
		if _, err := r.pages.Push(pages.Delivery{To: to, Data: []byte("1")}); err != pages.ErrTo { //nolint:errorlint // it is not wrapped
			t.Errorf("to %+v: %v", to, err)
		}
	}
	if _, err := r.pages.Push(pages.Delivery{To: pages.To{Page: "none"}, Data: []byte("1")}); !errors.Is(err, pages.ErrNoPage) {
		t.Error(err)
	}
}

func TestALoginKeepsTheSessionAndALogoutEndsIt(t *testing.T) {
	r := start(t, nil)
	page, _ := r.open("id=a", `{"path":"/"}`)
	c := r.connect(page, "id=a; session=guest")
	r.pages.LoggedIn("a", "anna", "")
	if f := c.next(); f["close"] != float64(push.CodeLogin) {
		t.Fatalf("after a login: %v", f)
	}
	if h := c.dial("id=a; session=anna"); h["resumed"] != true {
		t.Errorf("hello %v", h)
	}
	r.set(func(r *rig) {
		r.serve = func(x *exchange.Exchange) {
			r.answer(x, 200, "text/plain", string(x.Field("cookie")))
		}
	})
	c.send("q", "1", "/who")
	if got := c.numbered(); !strings.Contains(got, "session=anna") {
		t.Errorf("cookies after the login: %s", got)
	}
	if sent, err := r.pages.Push(pages.Delivery{To: pages.To{User: "anna"}, Data: []byte("1")}); err != nil || sent.Connected != 1 {
		t.Errorf("%+v %v", sent, err)
	}
	c.numbered()
	r.pages.LoggedOut("a", "", "")
	if f := c.next(); f["close"] != float64(push.CodeIdentity) {
		t.Errorf("after a logout: %v", f)
	}
}

func TestTheClientIsServedWithItsVersion(t *testing.T) {
	r := start(t, nil)
	res := r.get("/_guado/client.js", "")
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/javascript; charset=utf-8" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	if again := r.get("/_guado/client.js", res.Header.Get("ETag")); again.StatusCode != 304 {
		t.Errorf("again: %d", again.StatusCode)
	}
}

// Its successor is on its way: in an answer, or with the reply of a page of this browser.
func TestACookieOfBeforeALoginOpensNothingAndItsClientComesBack(t *testing.T) {
	r := start(t, nil)
	page, _ := r.open("id=a", `{"path":"/"}`)
	c := r.connect(page, "id=a")
	r.set(func(r *rig) {
		r.serve = func(x *exchange.Exchange) { r.answer(x, 200, "text/plain", "in", "Set-Cookie: id=b") }
	})
	c.send("q", "{}", "/login")
	f := c.next()
	for f["r"] == nil {
		f = c.next()
	}
	fetch := fmt.Sprintf(`{"t":"cookies","page":%q,"k":%q}`, page, f["k"])
	_ = c.conn.Close()
	stale := "id=a; stale=1"
	if h := c.tryDial(stale); h["close"] != float64(push.CodeLogin) {
		t.Errorf("over a WebSocket: %v", h)
	}
	hello := fmt.Sprintf(`{"t":"hello","v":1,"page":%q,"client":%q}`, page, c.token)
	status, text, _ := r.post("/_guado/push", stale, hello, "Accept: text/event-stream")
	if status != 200 || text != "data: {\"t\":\"close\",\"code\":3008,\"reason\":\"login\"}\n\n" {
		t.Errorf("over server-sent events: %d %q", status, text)
	}
	batch := fmt.Sprintf(`{"t":"on","page":%q,"id":1}`, page)
	if status, text, _ := r.post("/_guado/push", stale, batch); status != 409 || !strings.Contains(text, "3008") {
		t.Errorf("frames: %d %q", status, text)
	}
	status, _, head := r.post("/_guado/push", stale, fetch)
	if status != 204 || head.Get("Set-Cookie") != "id=b" {
		t.Errorf("the new cookie by its token: %d %v", status, head)
	}
}
