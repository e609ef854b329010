package guado_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

const changingPages = "target = \"changing:app\"\n"

// become has the page's own message change the user, and holds it once that is done.
func (t *tab) become(user string) (goOn func()) {
	t.s.t.Helper()
	dir := t.s.t.TempDir()
	hold := filepath.Join(dir, "hold")
	t.sent++
	t.write(fmt.Sprintf(`{"c":%d,"to":"/as","q":{"user":%q,"hold":%q}}`, t.sent, user, hold))
	t.s.awaitFile(hold+".begun", "begun")
	return func() { write(t.s.t, dir, "hold", "") }
}

// token waits for the reply to the message of this number, which sets cookies.
func (t *tab) token(number uint64, want string) string {
	t.s.t.Helper()
	for {
		switch f := t.numbered(); {
		case f["close"] != nil:
			t.s.t.Fatalf("closed with %v before the reply", f["close"])
		case f["r"] != float64(number):
		case f["d"] != want || f["k"] == nil:
			t.s.t.Fatalf("the reply is %v", f)
		default:
			return f["k"].(string)
		}
	}
}

func (b *browser) wantUser(want string) {
	b.s.t.Helper()
	if _, text := b.post("/who", "{}"); text != fmt.Sprintf("%q", want) {
		b.s.t.Errorf("the browser is %s, want %s", text, want)
	}
}

func (b *browser) wantTold(user, want string) {
	b.s.t.Helper()
	if _, text := b.post("/tell", fmt.Sprintf(`{"user":%q}`, user)); trimmed(text) != want {
		b.s.t.Errorf("a push to %s: %s, want %s", user, text, want)
	}
}

// A page whose own message logs out, or changes the user, ends like the others; but its
// client has the reply before, and the cookie by which the browser is the new one.
func TestAPageThatChangesItsUserHasItsReplyAndTheCookie(t *testing.T) {
	s := pagesSite(t, t.TempDir(), changingPages)
	watcher := s.browser()
	for _, to := range []string{"", "bob"} {
		name := to
		if to == "" {
			name = "guest"
		}
		b := s.browser()
		if status, text := b.post("/as", `{"user":"ada"}`); status != 200 {
			t.Fatal(status, text)
		}
		tab, other := b.tab(`{"path":"/who"}`), b.tab(`{"path":"/who"}`)
		thief := s.browser()
		stranger := *other
		stranger.browser = thief
		thief.client.Jar.SetCookies(mustParse(t, s.url), b.client.Jar.Cookies(mustParse(t, s.url)))
		thief.wantUser("ada")
		watcher.wantTold("ada", "[2,2,null]")
		tab.numbered()
		other.numbered()

		goOn := tab.become(to)
		changes := tab.sent
		closed := 3504.0
		if to != "" { // it comes back to hear of it
			closed = 3008.0
		}
		if f := other.numbered(); f["close"] != closed {
			t.Errorf("to %s: the other tab %v", name, f)
		}
		if f := other.dial(); f["close"] != 3008.0 {
			t.Errorf("to %s: the other tab with the cookie of before: %v", name, f)
		}
		// From here on nothing of the user of before reaches it, and it does nothing as that.
		watcher.wantTold("ada", "[0,0,null]")
		thief.wantUser("guest")
		for _, p := range s.Pages() {
			if p.Page == tab.page || p.Page == other.page {
				t.Errorf("to %s: there still is %+v", name, p)
			}
		}
		if got := tab.ask("{}", "/who"); got != "identity" {
			t.Errorf("to %s: a message after the change: %v", name, got)
		}
		goOn()
		token := tab.token(changes, name)
		fetch := fmt.Sprintf(`{"t":"cookies","page":%q,"k":%q}`, tab.page, token)
		if status, text := b.post("/_guado/push", fetch); status != 204 {
			t.Fatalf("to %s: cookies: %d %s", name, status, text)
		}
		b.wantUser(name) // a reload right after
		if status, text := b.post("/_guado/push", fetch, "Accept: application/json"); status == 204 {
			t.Errorf("to %s: cookies are given twice: %d %s", name, status, text)
		}
		if f := tab.numbered(); f["close"] != 3504.0 {
			t.Errorf("to %s: at the end %v", name, f)
		}
		fresh := b.tab(`{"path":"/who"}`)
		if got := fresh.ask("{}", ""); got != name {
			t.Errorf("to %s: a new page is of %v", name, got)
		}
		if again := tab.dial(); again["close"] != 3502.0 {
			t.Errorf("to %s: the old page %v", name, again)
		}
		want := 3502.0
		if to != "" {
			want = 3504.0
		}
		if f := other.dial(); f["close"] != want {
			t.Errorf("to %s: the other tab with the new cookie: %v", name, f)
		}
		if f := stranger.dial(); f["close"] == 3504.0 {
			t.Errorf("to %s: a stranger hears of the other tab's end", name)
		}
		thief.wantUser("guest")
	}
}

// The connection is cut between the change and the reply: the page's client alone may come
// back with the cookie of before.
func TestAPageThatChangesItsUserHasItsReplyAlsoOverAnotherConnection(t *testing.T) {
	s := pagesSite(t, t.TempDir(), changingPages)
	for _, change := range []struct{ from, to string }{{"", "ada"}, {"ada", "bob"}} {
		b := s.browser()
		if change.from != "" {
			b.post("/as", fmt.Sprintf(`{"user":%q}`, change.from))
		}
		tab := b.tab(`{"path":"/who"}`)
		goOn := tab.become(change.to)
		changes := tab.sent
		if err := tab.conn.Close(); err != nil {
			t.Fatal(err)
		}
		guess := *tab
		guess.client = "another-client"
		if f := guess.dial(); f["close"] != 3008.0 {
			t.Errorf("%+v: another client with the cookie of before: %v", change, f)
		}
		if h := tab.dial(); h["t"] != "hello" || h["resumed"] != true {
			t.Fatalf("%+v: it comes back: %v", change, h)
		}
		goOn()
		token := tab.token(changes, change.to)
		if status, text := b.post("/_guado/push", fmt.Sprintf(`{"t":"cookies","page":%q,"k":%q}`, tab.page, token)); status != 204 {
			t.Fatalf("%+v: cookies: %d %s", change, status, text)
		}
		b.wantUser(change.to)
		if change.from == "" { // the guest's page is the user's now
			if got := tab.ask("{}", "/who"); got != change.to {
				t.Errorf("%+v: then the page is of %v", change, got)
			}
		} else if f := tab.numbered(); f["close"] != 3504.0 {
			t.Errorf("%+v: at the end %v", change, f)
		}
	}
}

// From phase 4 on a login takes place with the commit of its request.
func TestAPageWithStoresThatChangesItsUserHasItsReplyAndTheCookie(t *testing.T) {
	s := pagesSite(t, t.TempDir(), changingPages+"# as stores_app has it\n")
	b, watcher := s.browser(), s.browser()
	for _, to := range []string{"ada", "bob", "guest", "ada"} {
		tab := b.tab(`{"path":"/who"}`)
		guest := tab.ask("{}", "") == "guest"
		if got := tab.ask(fmt.Sprintf(`{"user":%q}`, strings.TrimPrefix(to, "guest")), "/as"); got != to {
			t.Errorf("to %s: the reply is %v", to, got)
		}
		b.wantUser(to)
		if guest { // its page is the user's now
			if got := tab.ask("{}", ""); got != to {
				t.Errorf("to %s: then the page is of %v", to, got)
			}
			watcher.wantTold(to, "[1,1,null]")
		} else if f := tab.numbered(); f["close"] != 3504.0 {
			t.Errorf("to %s: at the end %v", to, f)
		}
		if status, text := b.post("/_guado/push", fmt.Sprintf(`{"t":"bye","page":%q,"client":%q}`, tab.page, tab.client)); guest && status != 204 {
			t.Errorf("bye: %d %s", status, text)
		}
	}
}

// Over server-sent events the client's POSTs come with the cookie of before meanwhile.
func TestAPageThatChangesItsUserOverServerSentEventsIsNotCutMeanwhile(t *testing.T) {
	s := pagesSite(t, t.TempDir(), changingPages)
	b := s.browser()
	b.post("/as", `{"user":"ada"}`)
	_, text := b.post("/_guado/page", `{"path":"/who"}`)
	var opened struct{ Page string }
	if err := json.Unmarshal([]byte(text), &opened); err != nil {
		t.Fatal(text, err)
	}
	listen := b.stream(fmt.Sprintf(`{"t":"hello","v":1,"page":%q,"client":"sse-client-1"}`, opened.Page))
	if f := listen(); f["t"] != "hello" {
		t.Fatal(f)
	}
	on := fmt.Sprintf(`{"t":"on","page":%q,"id":1}`, opened.Page)
	dir := t.TempDir()
	hold := filepath.Join(dir, "hold")
	if status, text := b.post("/_guado/push", on+"\n"+fmt.Sprintf(`{"c":1,"to":"/as","q":{"user":"","hold":%q}}`, hold)); status != 204 {
		t.Fatal(status, text)
	}
	s.awaitFile(hold+".begun", "begun")
	if status, text := b.post("/_guado/push", on+"\n{\"p\":1}\n{\"c\":2,\"to\":\"/who\",\"q\":1}"); status != 204 {
		t.Errorf("frames with the cookie of before: %d %s", status, text)
	}
	if f := listen(); f["p"] != 1.0 {
		t.Errorf("a probe: %v", f)
	}
	if f := listen(); f["r"] != 2.0 || !strings.Contains(fmt.Sprint(f["e"]), "identity") {
		t.Errorf("a request after the logout: %v", f)
	}
	write(t, dir, "hold", "")
	f := listen()
	if f["r"] != 1.0 || f["d"] != "guest" {
		t.Fatalf("the reply: %v", f)
	}
	if status, text := b.post("/_guado/push", fmt.Sprintf(`{"t":"cookies","page":%q,"k":%q}`, opened.Page, f["k"])); status != 204 {
		t.Fatalf("cookies: %d %s", status, text)
	}
	if f := listen(); f["code"] != 3504.0 {
		t.Errorf("at the end %v", f)
	}
	if status, _ := b.post("/_guado/page", `{"path":"/who"}`); status != 200 {
		t.Errorf("a new page: %d", status)
	}
}
