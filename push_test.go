package guado_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado"
	"github.com/guado-server/guado/test/harness"
)

// pagesSite is a server with an application whose pages it knows. What it was told is in
// dir, so that another one can go on where it stopped.
func pagesSite(t *testing.T, dir, more string) *site {
	t.Helper()
	configure(t, dir, more)
	return siteOf(t, dir)
}

// siteOf is a server as the guado.toml of a folder says.
func siteOf(t *testing.T, dir string) *site {
	t.Helper()
	s, _ := newSite(t, "")
	load := func() (*guado.Config, error) { return guado.Load(filepath.Join(dir, "guado.toml")) }
	c, err := load()
	if err != nil {
		t.Fatal(err)
	}
	log, stdout := s.Log, s.Stdout
	s.Server = guado.NewResolved(c)
	s.Log, s.Stdout, s.Stderr, s.Load = log, stdout, stdout, load
	s.run()
	return s
}

func configure(t *testing.T, dir, more string) {
	t.Helper()
	server := "phase = 3"
	if strings.Contains(more, "stores_app") || strings.Contains(more, "resident_app") || strings.Contains(more, "many_pages") || strings.Contains(more, "shared_app") {
		server = "phase = 5\nring = \"64KiB\"" // so that state goes in many frames
	}
	write(t, dir, "guado.toml", fmt.Sprintf("[server]\nlisten = [\"127.0.0.1:0\"]\n%s\nstate_dir = \"state\"\ncache_dir = \"cache\"\n"+
		"[[app]]\nname = \"shop\"\ndir = %q\npython = %q\n%s", server, harness.Apps(), harness.Python(t, "newest"), more))
}

const flaskPages = "target = \"pages_flask:app\"\n"

func TestAPageAsksAnUnchangedApplicationOverItsSocket(t *testing.T) {
	s := pagesSite(t, t.TempDir(), flaskPages)
	b := s.browser()
	tab := b.tab(`{"path":"/whoami"}`)
	who, is := tab.ask(`{"x":[1]}`, "").(map[string]any)
	if !is {
		t.Fatalf("the application answered %v", who)
	}
	if who["message"] != "1" || who["page"] != tab.page || len(who["connection"].(string)) != 22 || who["origin"] != s.url || who["path"] != "/whoami" {
		t.Errorf("the application saw %v", who)
	}
	if body, is := who["body"].(map[string]any); !is || fmt.Sprint(body["x"]) != "[1]" {
		t.Errorf("body %v", who["body"])
	}
	// The session of Flask is a cookie: it comes over HTTP, and goes with what follows.
	for i := 1; i <= 3; i++ {
		if got := tab.ask(`{}`, "/count"); got != float64(i) {
			t.Errorf("visit %d is counted as %v", i, got)
		}
	}
	if _, text := b.post("/whoami", "{}"); !strings.Contains(text, `"visits":3`) {
		t.Errorf("over HTTP the session is %s", text)
	}
	if got := tab.ask(`{}`, "/none"); got != "http_404" {
		t.Errorf("a path that there is not: %v", got)
	}
	all := s.Pages()
	if len(all) != 1 || all[0].Page != tab.page || !all[0].Connected || all[0].Got != tab.sent || all[0].Path != "/whoami" {
		t.Errorf("the pages: %+v", all)
	}
	if st := s.Status().Push; st == nil || st.Pages != 1 || st.Connected != 1 || st.Requests != tab.sent {
		t.Errorf("push: %+v", st)
	}
}

const identityMount = "[[mount]]\napp = \"shop\"\nidentity = true\n"

func TestALoginKeepsThePagesOfAGuestAndALogoutEndsThem(t *testing.T) {
	s := pagesSite(t, t.TempDir(), flaskPages+identityMount)
	for name, login := range map[string]func(b *browser) (keeps *tab){
		"over HTTP": func(b *browser) *tab {
			if status, text := b.post("/login", `{"user":"anna"}`); status != 200 || text != "in" {
				t.Fatalf("login: %d %s", status, text)
			}
			return nil
		},
		"over the socket of a page": func(b *browser) *tab {
			tab := b.tab(`{"path":"/whoami"}`)
			if got := tab.ask(`{"user":"anna"}`, "/login"); got != "in" {
				t.Fatalf("login: %v", got)
			}
			return tab
		},
	} {
		b := s.browser()
		tab := b.tab(`{"path":"/whoami"}`)
		before := tab.ask("{}", "").(map[string]any)
		if before["user"] != "" {
			t.Fatalf("%s: a guest is %v", name, before)
		}
		if keeps := login(b); keeps != nil {
			if who := keeps.ask("{}", "").(map[string]any); who["user"] != "anna" {
				t.Errorf("%s: in the page that logged in %v", name, who)
			}
		}
		// The tab comes back by itself, with the cookie that the browser has now.
		if f := tab.numbered(); f["close"] != 3008.0 {
			t.Fatalf("%s: the tab after the login: %v", name, f)
		}
		if h := tab.dial(); h["resumed"] != true {
			t.Errorf("%s: hello after the login: %v", name, h)
		}
		after := tab.ask("{}", "").(map[string]any)
		if after["user"] != "anna" || after["connection"] != before["connection"] || after["page"] != tab.page {
			t.Errorf("%s: after the login the application sees %v, before it saw %v", name, after, before)
		}
		if status, text := b.post("/logout", "{}"); status != 200 || text != "out" {
			t.Fatalf("%s: logout: %d %s", name, status, text)
		}
		if f := tab.numbered(); f["close"] != 3504.0 {
			t.Errorf("%s: after the logout: %v", name, f)
		}
	}
}

// Somebody has planted his cookie in the victim's browser, and has opened a page himself.
func TestWhoPlantedACookieGetsNothingOfTheUserWhoLogsIn(t *testing.T) {
	s := pagesSite(t, t.TempDir(), flaskPages+identityMount)
	victim, thief := s.browser(), s.browser()
	planted := victim.tab(`{"path":"/whoami"}`)
	thief.client.Jar.SetCookies(mustParse(t, s.url), victim.client.Jar.Cookies(mustParse(t, s.url)))
	page := thief.tab(`{"path":"/whoami"}`)
	// A message of his is under way while the victim logs in, and another one waits.
	dir := t.TempDir()
	release := filepath.Join(dir, "release")
	page.send(fmt.Sprintf(`{"file":%q}`, release), "/wait")
	s.awaitFile(release+".begun", "begun")
	page.send(`{}`, "/whoami")
	if status, _ := victim.post("/login", `{"user":"anna"}`); status != 200 {
		t.Fatalf("login: %d", status)
	}
	write(t, dir, "release", "")
	if f := page.numbered(); f["close"] != 3008.0 {
		t.Fatalf("the thief's page after the login: %v", f)
	}
	for _, p := range []string{page.page, planted.page} {
		again := &tab{browser: thief, page: p, client: page.client}
		if f := again.dial(); f["close"] != 3008.0 && f["close"] != 3502.0 {
			t.Errorf("with the cookie of before: %v", f)
		}
	}
	if status, text := thief.post("/_guado/page", `{"path":"/"}`); status != 409 || !strings.Contains(text, "login_under_way") {
		t.Errorf("a new page with the cookie of before: %d %s", status, text)
	}
	// The messages of before were not the user's.
	s.awaitPages(func(all []guado.PageStatus) bool {
		for _, p := range all {
			if p.Running+p.Waiting > 0 {
				return false
			}
		}
		return true
	})
	if log := s.log.String(); !strings.Contains(log, "identity: the user has logged in or out meanwhile") {
		t.Error("what waited was done as the user")
	}
}

// He has connected before the login, and says only after it what for.
func TestWhatWasConnectedBeforeALoginOpensNothingAfterIt(t *testing.T) {
	s := pagesSite(t, t.TempDir(), flaskPages+identityMount)
	victim, thief := s.browser(), s.browser()
	page := victim.tab(`{"path":"/whoami"}`)
	thief.client.Jar.SetCookies(mustParse(t, s.url), victim.client.Jar.Cookies(mustParse(t, s.url)))
	socket := &tab{browser: thief, page: page.page, client: page.client}
	socket.socket()
	hello := fmt.Sprintf(`{"t":"hello","v":1,"page":%q,"client":%q}`, page.page, page.client)
	stream := thief.heldPost("/_guado/push", len(hello), "Accept: text/event-stream")
	batch := fmt.Sprintf("{\"t\":\"on\",\"page\":%q,\"id\":2}\n{\"c\":1,\"to\":\"/whoami\",\"m\":{}}", page.page)
	frames := thief.heldPost("/_guado/push", len(batch))
	if status, text := victim.post("/login", `{"user":"anna"}`); status != 200 {
		t.Fatalf("login: %d %s", status, text)
	}
	if f := page.numbered(); f["close"] != 3008.0 {
		t.Fatalf("the victim's tab after the login: %v", f)
	}
	if h := page.dial(); h["t"] != "hello" || h["id"] != 2.0 {
		t.Fatalf("the victim's tab comes back: %v", h)
	}
	if f := socket.hello(); f["close"] != 3008.0 {
		t.Errorf("a socket of before the login: %v", f)
	}
	if status, text := stream(hello); !strings.Contains(text, `"code":3008`) || strings.Contains(text, `"t":"hello"`) {
		t.Errorf("a stream of before the login: %d %s", status, text)
	}
	if status, text := frames(batch); status != 409 || !strings.Contains(text, `"code":3008`) {
		t.Errorf("frames of before the login: %d %s", status, text)
	}
	if who := page.ask("{}", "").(map[string]any); who["user"] != "anna" {
		t.Errorf("the victim is %v", who)
	}
}

// heldPost sends the head of a POST, which the server has seen when it returns, and later
// its body.
func (b *browser) heldPost(path string, length int, fields ...string) func(body string) (int, string) {
	b.s.t.Helper()
	body, feed := io.Pipe()
	seen := make(chan struct{})
	ctx := httptrace.WithClientTrace(b.s.t.Context(), &httptrace.ClientTrace{Got100Continue: func() { close(seen) }})
	r, err := http.NewRequestWithContext(ctx, "POST", b.s.url+path, body)
	if err != nil {
		b.s.t.Fatal(err)
	}
	r.ContentLength = int64(length)
	r.Header.Set("Expect", "100-continue")
	r.Header.Set("Origin", b.s.url)
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.Set(name, value)
	}
	type answer struct {
		status int
		text   string
		err    error
	}
	done := make(chan answer, 1)
	go func() {
		res, err := b.client.Do(r)
		if err != nil {
			done <- answer{err: err}
			return
		}
		text, err := io.ReadAll(res.Body)
		done <- answer{res.StatusCode, string(text), errors.Join(err, res.Body.Close())}
	}()
	select {
	case <-seen:
	case a := <-done:
		b.s.t.Fatalf("answered at once: %+v", a)
	}
	return func(text string) (int, string) {
		b.s.t.Helper()
		if _, err := io.WriteString(feed, text); errors.Join(err, feed.Close()) != nil {
			b.s.t.Fatal(err)
		}
		a := <-done
		if a.err != nil {
			b.s.t.Fatal(a.err)
		}
		return a.status, a.text
	}
}

func TestAPageOfAnotherBrowserIsUnknown(t *testing.T) {
	s := pagesSite(t, t.TempDir(), flaskPages)
	mine := s.browser().tab(`{"path":"/"}`)
	other := &tab{browser: s.browser(), page: mine.page, client: "another"}
	if f := other.dial(); f["close"] != 3502.0 {
		t.Errorf("the page of another browser: %v", f)
	}
	if status, text := other.post("/_guado/page", `{"path":"/"}`, "Origin: http://elsewhere.example"); status != 403 || !strings.Contains(text, "origin_not_allowed") {
		t.Errorf("a page of another site: %d %s", status, text)
	}
}

func TestARequestOverTheSocketIsLostWithItsWorkerAndThePageGoesOn(t *testing.T) {
	s := pagesSite(t, t.TempDir(), flaskPages)
	tab := s.browser().tab(`{"path":"/"}`)
	if got := tab.ask("{}", "/die"); got != "lost" {
		t.Errorf("the worker died: %v", got)
	}
	if got := tab.ask("{}", "/count"); got != 1.0 {
		t.Errorf("the next request: %v", got)
	}
}

func TestAGracefulStopAndAStartLoseNothingOfASession(t *testing.T) {
	dir := t.TempDir()
	s := pagesSite(t, dir, flaskPages)
	tab := s.browser().tab(`{"path":"/"}`)
	if got := tab.ask("{}", "/count"); got != 1.0 {
		t.Fatalf("count: %v", got)
	}
	// This one is under way when the stop begins, which waits for it.
	tab.sent++
	release := filepath.Join(dir, "release")
	tab.write(fmt.Sprintf(`{"c":%d,"to":"/wait","q":{"file":%q}}`, tab.sent, release))
	s.awaitFile(release+".begun", "begun")
	s.stop()
	if f := tab.next(); f["t"] != "window" {
		t.Errorf("before the stop the client is told %v", f)
	}
	if f := tab.next(); f["close"] != 3000.0 {
		t.Errorf("at the stop the client is told %v", f)
	}
	write(t, dir, "release", "")
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	again := pagesSite(t, dir, flaskPages)
	tab.goTo(again)
	if h := tab.dial(); h["resumed"] != true {
		t.Errorf("hello after the start: %v", h)
	}
	if got := tab.reply(); got != "waited" {
		t.Errorf("the request that was under way: %v", got)
	}
	if got := tab.ask("{}", "/count"); got != 2.0 {
		t.Errorf("count after the start: %v", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "state", "push")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file of sessions is still there: %v", err)
	}
}

func mustParse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// goTo makes the browser speak to another server as if it were the same.
func (t *tab) goTo(s *site) {
	jar := t.browser.client.Jar
	jar.SetCookies(mustParse(t.s.t, s.url), jar.Cookies(mustParse(t.s.t, t.s.url)))
	t.s = s
}

func TestAReloadLeavesSessionsOpen(t *testing.T) {
	dir := t.TempDir()
	s := pagesSite(t, dir, flaskPages)
	tab := s.browser().tab(`{"path":"/"}`)
	if got := tab.ask("{}", "/count"); got != 1.0 {
		t.Fatalf("count: %v", got)
	}
	for i, more := range []string{flaskPages + "threads = 3\n", flaskPages + "threads = 3\n[push]\norigins = [\"https://example.org\"]\n"} {
		configure(t, dir, more)
		if done, err := s.Reload(t.Context()); err != nil || len(done.Changes) == 0 {
			t.Fatalf("%+v %v", done, err)
		}
		if got := tab.ask("{}", "/count"); got != float64(i+2) {
			t.Errorf("count after the reload, over the same socket: %v", got)
		}
	}
	if status, _ := tab.post("/_guado/page", `{"path":"/"}`, "Origin: https://example.org"); status != 200 {
		t.Errorf("an origin that was added: %d", status)
	}
}

func TestInPhase0ThereIsNothingOfPages(t *testing.T) {
	s, c := newSite(t, "")
	c.Apps = append(c.Apps, app(t, guado.WSGI("pages_flask:app")))
	s.run()
	for _, path := range []string{"/_guado/page", "/_guado/push", "/_guado/client.js"} {
		if status, _ := s.browser().post(path, `{"path":"/"}`); status != 404 {
			t.Errorf("%s: %d", path, status)
		}
	}
}

// awaitPages waits until the pages are so.
func (s *site) awaitPages(so func(all []guado.PageStatus) bool) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); !so(s.Pages()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("the pages are %+v", s.Pages())
		}
	}
}
