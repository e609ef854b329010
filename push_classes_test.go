package guado_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/guado-server/guado"
	"github.com/guado-server/guado/test/harness"
)

// everyClass runs one body with page classes of WSGI and ASGI applications, over both
// transports.
func everyClass(t *testing.T, body func(t *testing.T, dir, more string)) {
	t.Helper()
	kinds := []string{"wsgi", "asgi"}
	for i, transport := range harness.Transports() {
		kind := kinds[i%2]
		t.Run(kind+"/"+transport, func(t *testing.T) {
			body(t, t.TempDir(), fmt.Sprintf("target = \"pages_classes:app\"\nenv = {TEST_KIND = %q}\n", kind))
		})
	}
}

// told gives the next message.
func (t *tab) told() any {
	t.s.t.Helper()
	for {
		f := t.numbered()
		if f["close"] != nil {
			t.s.t.Fatalf("closed with %v instead of a message", f["close"])
		}
		if m, is := f["m"]; is {
			return m
		}
	}
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (t *tab) wantTold(want string) {
	t.s.t.Helper()
	if got := text(t.told()); got != want {
		t.s.t.Errorf("the client was told %s, want %s", got, want)
	}
}

func TestAPageOfAClassLivesInItsWorker(t *testing.T) {
	everyClass(t, func(t *testing.T, dir, more string) {
		s := pagesSite(t, dir, more)
		b := s.browser()
		trace := filepath.Join(dir, "trace")
		tab := b.tab(fmt.Sprintf(`{"path":"/","class":"Board","args":{"trace":%q}}`, trace))
		tab.wantTold(fmt.Sprintf(`{"opened":{"trace":%q},"reopened":false,"user":null}`, trace))
		for i := 1; i <= 3; i++ {
			if got, is := tab.ask(fmt.Sprintf(`"m%d"`, i), "").(map[string]any); !is || got["count"] != float64(i) {
				t.Errorf("message %d: %v", i, got)
			}
		}
		for data, code := range map[string]string{`{"fail":"no_move"}`: "no_move", `{"raise":1}`: "failed"} {
			if got := tab.ask(data, ""); got != code {
				t.Errorf("%s: %v", data, got)
			}
		}
		if got := text(tab.ask(`{}`, "/elsewhere")); got != `{"path":"/elsewhere"}` {
			t.Errorf("a request to a path: %s", got)
		}
		// From a request of the application, which waits for the client.
		done := make(chan string, 1)
		go func() {
			_, text := b.post("/push", fmt.Sprintf(`{"page":%q,"data":"hello"}`, tab.page))
			done <- text
		}()
		tab.wantTold(`"hello"`)
		if got := <-done; got != `{"pages": 1, "connected": 1, "acknowledged": 1}` {
			t.Errorf("the push gave %s", got)
		}
		b.post("/broadcast", `"all"`)
		tab.wantTold(`"all"`)
		tab.write(`{"t":"bye"}`)
		s.awaitFile(trace, "closed ended\n")
		if _, text := b.post("/push", fmt.Sprintf(`{"page":%q,"data":"late"}`, tab.page)); !strings.Contains(text, "500") && !strings.Contains(text, "application_error") {
			t.Errorf("a push to a page that has ended: %s", text)
		}
	})
}

// awaitFile waits until a file has this text.
func (s *site) awaitFile(path, want string) {
	s.t.Helper()
	s.awaitPages(func([]guado.PageStatus) bool {
		got, err := os.ReadFile(path)
		return err == nil && string(got) == want
	})
}

func TestWhatAHandlerPushesComesBeforeWhatItReturns(t *testing.T) {
	everyClass(t, func(t *testing.T, dir, more string) {
		s := pagesSite(t, dir, more)
		tab := s.browser().tab(`{"class":"Board"}`)
		tab.told()
		for range 10 {
			tab.sent++
			tab.write(fmt.Sprintf(`{"c":%d,"q":{"push":50}}`, tab.sent))
			for i := range 50 {
				tab.wantTold(fmt.Sprint(i))
			}
			if f := tab.numbered(); f["r"] != float64(tab.sent) {
				t.Fatalf("after 50 messages comes %v", f)
			}
		}
	})
}

func TestAPageIsMadeAnewWhenItsWorkerIsKilledInItsTurn(t *testing.T) {
	everyClass(t, func(t *testing.T, dir, more string) {
		s := pagesSite(t, dir, more)
		b := s.browser()
		tab, other := b.tab(`{"class":"Board","args":{"a":1}}`), b.tab(`{"class":"Board"}`)
		tab.told()
		other.told()
		// What on_open pushes is there before it has come to its end.
		s.awaitPages(func(all []guado.PageStatus) bool { return len(all) == 2 && all[0].Opened && all[1].Opened })
		if got := tab.ask(`{"die":1}`, ""); got != "lost" {
			t.Errorf("the request in whose turn the worker died: %v", got)
		}
		// Both are told by their new objects, without asking for it, over the same sockets.
		tab.wantTold(`{"opened":{"a":1},"reopened":true,"user":null}`)
		other.wantTold(`{"opened":{},"reopened":true,"user":null}`)
		if got, is := tab.ask(`1`, "").(map[string]any); !is || got["count"] != 1.0 {
			t.Errorf("the next message: %v", got)
		}
	})
}

func TestAPageGoesOnInTheNextServerWhereItWas(t *testing.T) {
	everyClass(t, func(t *testing.T, dir, more string) {
		s := pagesSite(t, dir, more)
		tab := s.browser().tab(`{"class":"Board","args":{"a":1}}`)
		tab.told()
		release := filepath.Join(dir, "release")
		tab.sent++
		tab.write(fmt.Sprintf(`{"c":%d,"q":{"wait":%q}}`, tab.sent, release))
		s.awaitFile(release+".begun", "begun")
		// This one waits for its turn, which the stop lets it still have.
		tab.write(fmt.Sprintf(`{"c":%d,"m":{"push":3}}`, tab.sent+1))
		s.awaitPages(func(all []guado.PageStatus) bool { return len(all) == 1 && all[0].Waiting == 1 })
		s.stop()
		for f := tab.next(); f["close"] != 3000.0; f = tab.next() {
			if f["t"] != "window" && f["g"] == nil { // what was taken is told within a while
				t.Fatalf("at the stop the client is told %v", f)
			}
		}
		write(t, dir, "release", "")
		if err := s.end(); err != nil {
			t.Fatal(err)
		}
		tab.goTo(pagesSite(t, dir, more))
		if h := tab.dial(); h["resumed"] != true {
			t.Errorf("hello after the start: %v", h)
		}
		if got, is := tab.reply().(map[string]any); !is || got["count"] != 1.0 {
			t.Errorf("the request that was under way: %v", got)
		}
		tab.wantTold("0")
		tab.wantTold("1")
		tab.wantTold("2")
		tab.sent++
		if got, is := tab.ask(`1`, "").(map[string]any); !is || got["count"] != 1.0 {
			t.Errorf("a message to the page's new object: %v", got)
		}
	})
}

func TestAClassMayRefuseAPage(t *testing.T) {
	s := pagesSite(t, t.TempDir(), "target = \"pages_classes:app\"\n")
	b := s.browser()
	tab := b.tab(`{"class":"Board","args":{"refuse":true}}`)
	said := false
	for f := tab.next(); f["close"] == nil; f = tab.next() {
		if f["t"] == "close" && fmt.Sprint(f["code"], f["e"]) != "3508 map[code:forbidden message:not yours]" {
			t.Errorf("a page that was refused: %v", f)
		}
		said = said || f["t"] == "close"
	}
	if !said {
		t.Error("the client of a page that was refused does not know why")
	}
	if status, text := b.post("/_guado/page", `{"class":"Bored"}`); status != 404 || !strings.Contains(text, "no_class") {
		t.Errorf("a class that there is not: %d %s", status, text)
	}
	b.post("/_guado/page", `{"class":"Bored2","path":"/x"}`)
	const line = "a browser asks for a page class that there is not"
	if log := s.log.String(); strings.Count(log, line) != 1 || !strings.Contains(log, "class=Bored app=\"\" declared=\"Beside, Board\" request_id=") {
		t.Error("the operator is not told of it, once")
	}
	// While its HTML is rendered.
	_, body := b.post("/new", "{}")
	var made struct{ Page string }
	if err := json.Unmarshal([]byte(body), &made); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	rendered := b.connect(made.Page)
	rendered.wantTold(`{"opened":{"id":7},"reopened":false,"user":null}`)
	// A handler that is marked so runs beside another one.
	beside := b.tab(`{"class":"Beside"}`)
	if got := beside.ask("1", ""); got != 1.0 {
		t.Fatalf("at first: %v", got)
	}
	release := filepath.Join(t.TempDir(), "release")
	beside.sent++
	beside.write(fmt.Sprintf(`{"c":%d,"q":%q}`, beside.sent, release))
	if got := beside.ask("2", ""); got != 2.0 {
		t.Errorf("beside the one that waits: %v", got)
	}
	write(t, filepath.Dir(release), "release", "")
	if f := beside.numbered(); f["d"] != release {
		t.Errorf("the one that waited: %v", f)
	}
}

// What it answers to a request that needs a new object is what it says of the page.
func TestAClassMayRefuseAPageWhenItIsMadeAnew(t *testing.T) {
	everyClass(t, func(t *testing.T, dir, more string) {
		s := pagesSite(t, dir, more)
		tab := s.browser().tab(`{"class":"Board","args":{"refuse":"anew"}}`)
		tab.told()
		if got := tab.ask("1", ""); got == "forbidden" {
			t.Fatalf("at first: %v", got)
		}
		tab.sent++
		tab.write(fmt.Sprintf(`{"c":%d,"q":{"die":1}}`, tab.sent))
		var said any
		for f := tab.next(); f["close"] == nil; f = tab.next() {
			if f["t"] == "close" {
				said = fmt.Sprint(f["code"], f["e"])
			}
		}
		if said != "3508 map[code:forbidden message:not yours]" {
			t.Errorf("its client was told %v", said)
		}
	})
}

func TestAReloadMovesPagesIntoTheNewWorker(t *testing.T) {
	dir := t.TempDir()
	s := pagesSite(t, dir, "target = \"pages_classes:app\"\n")
	tab := s.browser().tab(`{"class":"Board"}`)
	tab.told()
	before := tab.ask("1", "").(map[string]any)
	configure(t, dir, "target = \"pages_classes:app\"\nthreads = 3\n")
	if done, err := s.Reload(t.Context()); err != nil || len(done.Replaced) != 1 {
		t.Fatalf("%+v %v", done, err)
	}
	tab.wantTold(`{"opened":{},"reopened":true,"user":null}`)
	after := tab.ask("1", "").(map[string]any)
	if after["pid"] == before["pid"] || after["count"] != 1.0 {
		t.Errorf("before the reload %v, after it %v", before, after)
	}
}
