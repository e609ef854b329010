package guado_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/guado-server/guado/test/harness"
)

// everyShared runs one body with an application that shares stores with its clients.
func everyShared(t *testing.T, body func(t *testing.T, s *site)) {
	t.Helper()
	kinds := []string{"wsgi", "asgi"}
	for i, transport := range harness.Transports() {
		kind := kinds[i%2]
		t.Run(kind+"/"+transport, func(t *testing.T) {
			body(t, sharedSite(t, t.TempDir(), fmt.Sprintf("env = {TEST_KIND = %q}\n", kind)))
		})
	}
}

func sharedSite(t *testing.T, dir, more string) *site {
	t.Helper()
	return pagesSite(t, dir, "target = \"shared_app:app\"\n"+more)
}

// values gives the next frame that tells of shared values, as JSON: "h" all, "v" changes.
func (t *tab) values() string {
	t.s.t.Helper()
	for {
		f := t.numbered()
		if f["close"] != nil {
			t.s.t.Fatalf("closed with %v instead of values", f["close"])
		}
		for _, kind := range []string{"h", "v"} {
			if list, is := f[kind]; is {
				return kind + text(list)
			}
		}
	}
}

func (t *tab) wantValues(want string) {
	t.s.t.Helper()
	if got := t.values(); got != want {
		t.s.t.Errorf("the client has %s, want %s", got, want)
	}
}

// set writes as the client does; it gives the reply.
func (t *tab) set(changes string) any {
	t.s.t.Helper()
	t.sent++
	t.write(fmt.Sprintf(`{"c":%d,"w":%s}`, t.sent, changes))
	return t.reply()
}

// changes asks for those that wait; without an acknowledgement they are handed out once.
func (t *tab) changes(ack string) (list string, number uint64) {
	t.s.t.Helper()
	status, text := t.getChanges(ack)
	var got struct {
		Changes json.RawMessage
		Number  uint64
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil || status != 200 {
		t.s.t.Fatalf("changes: %d %s", status, text)
	}
	return string(got.Changes), got.Number
}

func (t *tab) getChanges(ack string) (int, string) {
	t.s.t.Helper()
	r, err := http.NewRequestWithContext(t.s.t.Context(), "GET", t.s.url+"/_guado/changes", nil)
	if err != nil {
		t.s.t.Fatal(err)
	}
	r.Header.Set("Guado-Page", t.page)
	if ack != "" {
		r.Header.Set("Guado-Ack", ack)
	}
	return t.answer(r)
}

func TestAPagesClientHasWhatIsSharedWithItOverItsSession(t *testing.T) {
	everyShared(t, func(t *testing.T, s *site) {
		tab := s.browser().tab(`{"path":"/"}`)
		tab.do(`{"set":{"cart":{"items":[1],"net":{"x":1}},"other":1},"share":{"cart":{}}}`)
		tab.wantValues(`h[{"path":["cart"],"value":{"items":[1],"net":{"x":1}}}]`)
		tab.do(`{"set":{"cart.net.x":2,"other":2,"cart.net.y":{"z":[]}},"append":{"cart.items":[2,3]}}`)
		tab.wantValues(`v[{"path":["cart","net","x"],"value":2},{"path":["cart","net","y"],"value":{"z":[]}},{"items":[2,3],"path":["cart","items"]}]`)
		// A worker that dies before its commit has written nothing, and nobody hears of it.
		if status, text := tab.post("/", `{"set":{"cart.net.x":"lost"},"die":1}`, "Guado-Page: "+tab.page); status != 502 {
			t.Errorf("%d %s", status, text)
		}
		tab.do(`{"share":{"cart":{}},"tell":{"path":"cart.net","value":1,"reason":"why","attributes":{"a":2}}}`)
		tab.wantValues(`v[{"attributes":{"a":2},"path":["cart","net"],"reason":"why","value":1}]`)
		tab.do(`{"later":{"cart.late":1}}`) // by code of no request
		tab.wantValues(`v[{"path":["cart","late"],"value":1}]`)
		tab.do(`{"delete":"cart"}`)
		tab.wantValues(`v[{"delete":true,"path":["cart"]}]`)
		// Another instance of the client knows nothing.
		tab.do(`{"set":{"cart":{"items":[7]}}}`)
		_ = tab.conn.Close()
		tab.client, tab.epoch = "another", ""
		s.eventually("the first client is gone", func() bool { return tab.dial()["t"] == "hello" })
		tab.wantValues(`h[{"path":["cart"],"value":{"items":[7]}}]`)
		tab.do(`{"share":{"cart":{"off":true}}}`)
		tab.wantValues(`h[]`)
	})
}

func TestAClientThatAsksGetsEachChangeOnceAndInOrder(t *testing.T) {
	everyShared(t, func(t *testing.T, s *site) {
		tab := s.browser().tab(`{"path":"/"}`)
		tab.do(`{"set":{"cart":{"n":1}},"share":{"cart":{"over":"requests"}}}`)
		if list, _ := tab.changes(""); list != `[{"path":["cart"],"value":{"n":1}}]` {
			t.Errorf("at first: %s", list)
		}
		tab.do(`{"set":{"cart.n":2,"cart.b":1,"z":1}}`)
		tab.do(`{"set":{"cart.c":{"d":1},"cart.n":3}}`)
		tab.do(`{"set":{"cart.c.d":2}}`)
		tab.kill()
		if list, _ := tab.changes(""); list != `[{"path":["cart","b"],"value":1},{"path":["cart","c"],"value":{"d":2}},{"path":["cart","n"],"value":3}]` {
			t.Errorf("what was written: %s", list)
		}
		if list, _ := tab.changes(""); list != "[]" {
			t.Errorf("handed out a second time: %s", list)
		}
		tab.do(`{"tell":{"path":"cart","value":{},"reason":"emptied","attributes":{"by":"hand"}}}`)
		if list, _ := tab.changes(""); list != `[{"path":["cart"],"value":{},"reason":"emptied","attributes":{"by":"hand"}}]` {
			t.Errorf("with a reason: %s", list)
		}
	})
}

// Between the hand-out and its acknowledgement anything may happen: an answer that never came,
// the end of the worker. What a client has acknowledged never comes again.
func TestWithGuadoAckAChangeComesUntilItIsAcknowledgedAndNeverAgain(t *testing.T) {
	everyShared(t, func(t *testing.T, s *site) {
		tab := s.browser().tab(`{"path":"/"}`)
		tab.do(`{"set":{"cart":{}},"share":{"cart":{"over":"requests"}}}`)
		list, number := tab.changes("0")
		tab.do(`{"set":{"cart.a":1}}`)
		if again, _ := tab.changes("0"); list != `[{"path":["cart"],"value":{}}]` || again != `[{"path":["cart"],"value":{"a":1}}]` {
			t.Errorf("handed out %s, then %s", list, again)
		}
		// The first answer came, the second one is lost, and the worker with it.
		tab.kill()
		if list, number = tab.changes(fmt.Sprint(number)); list != `[{"path":["cart","a"],"value":1}]` {
			t.Errorf("what was not acknowledged: %s", list)
		}
		tab.do(`{"set":{"cart.b":2}}`)
		// It may ride along with any request of the page.
		if status, text := tab.post("/", `{"get":"cart.b"}`, "Guado-Page: "+tab.page, fmt.Sprintf("Guado-Ack: %d", number)); status != 200 || text != "2" {
			t.Errorf("%d %s", status, text)
		}
		if st := s.Status().Stores; st.Sharing != 1 || st.Waiting != 1 {
			t.Errorf("%d pages share something, and %d changes wait", st.Sharing, st.Waiting)
		}
		if list, number = tab.changes("0"); list != `[{"path":["cart","b"],"value":2}]` {
			t.Errorf("behind an acknowledgement: %s", list)
		}
		if list, _ = tab.changes(fmt.Sprint(number)); list != "[]" {
			t.Errorf("all is acknowledged, and %s comes", list)
		}
		for ack, want := range map[string]string{"x": "bad_ack", "-1": "bad_ack", "": "", fmt.Sprint(number + 1): "ack_unknown"} {
			if ack == "" {
				continue
			}
			if status, text := tab.getChanges(ack); !strings.Contains(text, want) || status != map[string]int{"bad_ack": 400, "ack_unknown": 409}[want] {
				t.Errorf("Guado-Ack: %s gives %d %s", ack, status, text)
			}
			if status, text := tab.post("/", `{}`, "Guado-Page: "+tab.page, "Guado-Ack: "+ack); !strings.Contains(text, want) {
				t.Errorf("Guado-Ack: %s of a request gives %d %s", ack, status, text)
			}
		}
		// When nothing is shared any more, what it has is known all the same.
		tab.do(`{"share":{"cart":{"off":true}}}`)
		if list, _ := tab.changes(fmt.Sprint(number)); list != "[]" {
			t.Errorf("what is not shared any more: %s", list)
		}
		stranger := s.browser().tab(`{"path":"/"}`)
		stranger.page = tab.page
		if status, text := stranger.getChanges("0"); status != 404 || !strings.Contains(text, "no_page") {
			t.Errorf("a stranger gets %d %s", status, text)
		}
	})
}

func TestAStoreThatSeveralPagesShareIsToldToEachOfThemOnce(t *testing.T) {
	everyShared(t, func(t *testing.T, s *site) {
		b := s.browser()
		one, two, asks := b.tab(`{"path":"/"}`), b.tab(`{"path":"/"}`), b.tab(`{"path":"/"}`)
		one.do(`{"of":"","set":{"seen":{"n":0}}}`)
		for _, tab := range []*tab{one, two} {
			tab.do(`{"share":{"seen":{"of":"","write":true}}}`)
			tab.wantValues(`h[{"path":["seen"],"store":"user","value":{"n":0},"write":true}]`)
		}
		asks.do(`{"share":{"seen":{"of":"","over":"requests"}}}`)
		asks.changes("")
		for i := 1; i <= 3; i++ {
			one.do(fmt.Sprintf(`{"of":"","set":{"seen.n":%d}}`, i))
			if i == 2 {
				one.kill()
			}
		}
		for i := 1; i <= 3; i++ {
			want := fmt.Sprintf(`v[{"path":["seen","n"],"store":"user","value":%d}]`, i)
			one.wantValues(want)
			two.wantValues(want)
		}
		if list, _ := asks.changes(""); list != `[{"path":["seen","n"],"store":"user","value":3}]` {
			t.Errorf("who asks gets %s", list)
		}
		// What a client writes the others hear of, and it itself only that it is done.
		if got := two.set(`[{"store":"user","path":"seen.by","value":{"$date":"2026-02-03"}}]`); got != nil {
			t.Errorf("written: %v", got)
		}
		one.wantValues(`v[{"path":["seen","by"],"store":"user","value":{"$date":"2026-02-03"}}]`)
		one.do(`{"of":"","set":{"seen.n":4}}`)
		two.wantValues(`v[{"path":["seen","n"],"store":"user","value":4}]`)
	})
}

func TestAClientWritesWhatIsSharedWithItForThat(t *testing.T) {
	everyShared(t, func(t *testing.T, s *site) {
		tab := s.browser().tab(`{"path":"/"}`)
		tab.do(`{"set":{"form":{"a":1},"cart":{}},"share":{"form":{"write":true},"cart":{}}}`)
		tab.values()
		tab.sent++
		tab.write(fmt.Sprintf(`{"c":%d,"w":[{"path":"form.a","value":2},{"path":["form","b"],"value":{"$decimal":"1.10"}}]}`, tab.sent))
		tab.wantValues(`v[{"own":1,"path":["form","a"],"value":2},{"own":1,"path":["form","b"],"value":{"$decimal":"1.10"}}]`)
		if got := tab.reply(); got != nil {
			t.Errorf("written: %v", got)
		}
		tab.wantDone(`{"get":"form.a"}`, "2")
		big := strings.Repeat("x", 1<<20-100)
		for changes, code := range map[string]string{
			`[{"path":"form.a","value":3},{"path":"cart.a","value":1}]`:   "not_shared",
			`[{"path":"form.a","value":3},{"path":"other","value":1}]`:    "not_shared",
			`[{"store":"user","path":"form","value":1}]`:                  "not_shared",
			`[{"path":"form.a","value":3},{"path":"form.a.b","value":1}]`: "bad_change",
			`[{"path":"form.a","value":{"$pickle":"gASVAg=="}}]`:          "bad_change",
			`{"path":"form.a"}`:   "bad_change",
			`[{"path":"form.a"}]`: "bad_change",
			fmt.Sprintf(`[{"path":"form.a","value":3},{"path":"form.b","value":%q},{"path":"form.c","value":%q}]`, big[:1<<19], big[:1<<19-100]): "store_full",
		} {
			if got := tab.set(changes); got != code {
				t.Errorf("%.80s: %v, and not %s", changes, got, code)
			}
			tab.wantDone(`{"get":"form.a"}`, "2")
		}
		// Without a session, the same.
		for body, want := range map[string]string{
			`{"changes":[{"path":"form.c","value":1},{"path":"form.b","delete":true}]}`: "200 null",
			`{"changes":[{"path":"cart.c","value":1}]}`:                                 `403 {"code":"not_shared","message":"the page may not write cart.c"}`,
		} {
			if status, text := tab.post("/_guado/changes", body, "Guado-Page: "+tab.page); fmt.Sprintf("%d %s", status, text) != want {
				t.Errorf("%s: %d %s", body, status, text)
			}
		}
		if status, text := tab.post("/_guado/changes", `{"as":7}`, "Guado-Page: "+tab.page); status != 400 || !strings.HasPrefix(text, `{"code":"bad_change"`) {
			t.Errorf("no changes: %d %s", status, text)
		}
		tab.kill()
		tab.wantDone(`{"get":"form"}`, `{"a": 2, "c": 1}`)
	})
}

func TestAPageClassMayRefuseWhatItsClientWrites(t *testing.T) {
	everyShared(t, func(t *testing.T, s *site) {
		tab := s.browser().tab(`{"path":"/","class":"Form"}`)
		tab.wantValues(`h[{"path":["form"],"value":{"name":"","size":1},"write":true}]`)
		if got := tab.set(`[{"path":"form.size","value":2},{"path":"form.name","value":"refused"}]`); got != "not_that" {
			t.Errorf("%v", got)
		}
		if got := tab.set(`[{"path":"form.name","value":"counted"}]`); got != nil {
			t.Errorf("%v", got)
		}
		if got := text(tab.ask(`{"get":"form"}`, "")); got != `{"name":"counted","size":1,"writes":1}` {
			t.Errorf("the form is %s", got)
		}
	})
}

// The page's client is another instance by the time that the write is done: it never had the value.
func TestWhatAnInstanceOfTheClientWroteTheNextOneHasToo(t *testing.T) {
	s := sharedSite(t, t.TempDir(), "")
	tab := s.browser().tab(`{"path":"/","class":"Form"}`)
	tab.values()
	path := filepath.Join(t.TempDir(), "go")
	tab.sent++
	tab.write(fmt.Sprintf(`{"c":%d,"q":{"wait":%q}}`, tab.sent, path))
	s.awaitFile(path+".begun", "begun")
	tab.sent++
	tab.write(fmt.Sprintf(`{"c":%d,"w":[{"path":"form.name","value":"anna"}]}`, tab.sent))
	tab.write(`{"p":1}`)
	for tab.next()["p"] == nil {
		continue // until the host has what was sent before
	}
	_ = tab.conn.Close()
	tab.client, tab.epoch = "another", ""
	s.eventually("the first client is gone", func() bool { return tab.dial()["t"] == "hello" })
	tab.wantValues(`h[{"path":["form"],"value":{"name":"","size":1},"write":true}]`)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tab.wantValues(`v[{"own":2,"path":["form","name"],"value":"anna"}]`)
}

// Nobody can tell a request whose answer was lost from one that never came.
func TestAClientThatAsksGetsWhatItHasWrittenItself(t *testing.T) {
	s := sharedSite(t, t.TempDir(), "")
	tab := s.browser().tab(`{"path":"/"}`)
	tab.do(`{"set":{"form":{}},"share":{"form":{"write":true,"over":"requests"}}}`)
	_, number := tab.changes("0")
	if status, text := tab.post("/_guado/changes", `{"changes":[{"path":"form.a","value":1}]}`, "Guado-Page: "+tab.page); status != 200 {
		t.Errorf("%d %s", status, text)
	}
	list, number := tab.changes(fmt.Sprint(number))
	if list != `[{"path":["form","a"],"value":1}]` {
		t.Errorf("what it wrote: %s", list)
	}
	if list, _ = tab.changes(fmt.Sprint(number)); list != "[]" {
		t.Errorf("acknowledged: %s", list)
	}
}

func TestWhatIsSharedSurvivesAGracefulStopAndAStart(t *testing.T) {
	dir := t.TempDir()
	s := sharedSite(t, dir, "")
	b := s.browser()
	tab, asks := b.tab(`{"path":"/"}`), b.tab(`{"path":"/"}`)
	tab.do(`{"set":{"cart":1},"share":{"cart":{}}}`)
	tab.wantValues(`h[{"path":["cart"],"value":1}]`)
	asks.do(`{"set":{"cart":1},"share":{"cart":{"over":"requests"}}}`)
	_, number := asks.changes("0")
	_, _ = tab.conn.Close(), asks.conn.Close()
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	again := sharedSite(t, dir, "")
	tab.goTo(again)
	asks.browser = tab.browser
	if h := tab.dial(); h["resumed"] != true {
		t.Errorf("behind the start the session says %v", h)
	}
	tab.do(`{"set":{"cart":2}}`)
	tab.wantValues(`v[{"path":["cart"],"value":2}]`)
	if list, now := asks.changes(fmt.Sprint(number)); list != `[{"path":["cart"],"value":1}]` || now <= number {
		t.Errorf("behind the start: %s, number %d after %d", list, now, number)
	}
}

// A client hears of nothing that the server could still lose, and has all of it behind a crash.
func TestWhatIsSharedIsToldWhenItIsKeptAndWholeWhenTheServerWasKilled(t *testing.T) {
	dir := t.TempDir()
	s := sharedSite(t, dir, keptByHost)
	b := s.browser()
	tab, asks := b.tab(`{"path":"/"}`), b.tab(`{"path":"/"}`)
	tab.do(`{"set":{"cart":{"n":0}},"share":{"cart":{"write":true}}}`)
	tab.wantValues(`h[{"path":["cart"],"value":{"n":0},"write":true}]`)
	asks.do(`{"set":{"cart":1},"share":{"cart":{"over":"requests"}}}`)
	_, number := asks.changes("0")
	for i := 1; i <= 3; i++ {
		tab.do(fmt.Sprintf(`{"set":{"cart.n":%d},"push":%d}`, i, i))
		var value, pushed any // what a plain request pushes does not wait for its commit
		for value == nil || pushed == nil {
			f := tab.numbered()
			if f["close"] != nil {
				t.Fatalf("closed with %v", f["close"])
			}
			if f["v"] != nil {
				value = text(f["v"])
			} else {
				pushed = f["m"]
			}
		}
		if want := fmt.Sprintf(`[{"path":["cart","n"],"value":%d}]`, i); value != want || pushed != float64(i) {
			t.Errorf("the client has %v and was pushed %v, want %s and %d", value, pushed, want, i)
		}
	}
	image := crashed(t, dir, "state")
	again := sharedSite(t, image, keptByHost)
	tab.goTo(again)
	if h := tab.dial(); h["resumed"] != false {
		t.Errorf("behind the crash the session says %v", h)
	}
	tab.wantValues(`h[{"path":["cart"],"value":{"n":3},"write":true}]`)
	if list, now := asks.changes(fmt.Sprint(number)); list != `[{"path":["cart"],"value":1}]` || now <= number {
		t.Errorf("behind the crash: %s, number %d after %d", list, now, number)
	}
	tab.sent = 0
	if got := tab.set(`[{"path":"cart.n","value":4}]`); got != nil {
		t.Errorf("written: %v", got)
	}
	tab.wantDone(`{"get":"cart.n"}`, "4")
}

func TestAPageThatSharesMoreThanAMessageHoldsEnds(t *testing.T) {
	s := sharedSite(t, t.TempDir(), "[push]\nmessage = \"64KiB\"\n")
	tab := s.browser().tab(`{"path":"/"}`)
	big := strings.Repeat("x", 40_000)
	tab.do(fmt.Sprintf(`{"set":{"a":%q,"b":%q},"share":{"a":{}}}`, big, big))
	if got := tab.values(); len(got) < len(big) {
		t.Errorf("%.80s", got)
	}
	tab.do(`{"share":{"b":{}}}`)
	if f := tab.numbered(); f["close"] != 3507.0 {
		t.Errorf("more than a message: %.80v", f)
	}
	s.eventually("the log says why", func() bool { return strings.Contains(s.log.String(), "cannot be sent") })
}

func TestBehindALoginAPageSharesTheStoreOfItsUser(t *testing.T) {
	everyShared(t, func(t *testing.T, s *site) {
		tab := s.browser().tab(`{"path":"/"}`)
		tab.do(`{"set":{"cart":1},"share":{"cart":{"over":"requests"}}}`) // the worker has the store as a guest's
		tab.changes("")
		tab.do(`{"login":"anna"}`)
		tab.do(`{"of":"","set":{"seen":1},"share":{"seen":{"of":"","over":"requests","write":true}}}`)
		if list, _ := tab.changes(""); list != `[{"path":["seen"],"store":"user","value":1}]` {
			t.Errorf("behind the login: %s", list)
		}
		if status, text := tab.post("/_guado/changes", `{"changes":[{"path":"seen","store":"user","value":2}]}`, "Guado-Page: "+tab.page); status != 200 {
			t.Errorf("%d %s", status, text)
		}
		tab.wantDone(`{"of":"","get":"seen"}`, "2")
		tab.wantDone(`{"get":"cart"}`, "1")
	})
}
