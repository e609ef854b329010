package guado_test

import (
	"encoding/json"
	"fmt"
	neturl "net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/guado-server/guado"
)

// both asks two tabs at once, lets them go on when both have begun, and gives what they were
// answered, the one that was let in first.
func both(s *site, ask func(i int, gate string) string) (refused string) {
	t := s.t
	t.Helper()
	dir := t.TempDir()
	var said [2]string
	var all sync.WaitGroup
	for i := range said {
		all.Go(func() { said[i] = ask(i, filepath.Join(dir, fmt.Sprint(i))) })
	}
	for i := range said {
		s.awaitFile(filepath.Join(dir, fmt.Sprint(i)+".begun"), "begun")
	}
	for i := range said {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all.Wait()
	if strings.Contains(said[1], "had both") {
		said[0], said[1] = said[1], said[0]
	}
	if !strings.Contains(said[0], "had both") || !strings.Contains(said[1], " waits for ") {
		t.Fatalf("%q and %q: one has both, and the other one is told of the cycle", said[0], said[1])
	}
	return said[1]
}

// Requests, coroutines and handlers that would wait for each other for ever are told so at once:
// whatever they have, the turn of a page or the lock of a store.
func TestACycleOverTurnsAndLocksIsRefusedAtOnceAndNamesBothSides(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		var tabs [2]*tab
		for i := range tabs {
			tabs[i] = s.browser().tab(`{"path":"/","class":"Cart"}`)
		}
		things := []string{"turn", "lock", "transaction"}
		for _, has := range things {
			for _, wants := range things {
				kinds := [2]string{has, wants}
				told := both(s, func(i int, gate string) string {
					_, text := tabs[i].post("/", fmt.Sprintf(`{"across":{"has":[%q,%q],"wants":[%q,%q],"wait":%q}}`,
						kinds[i], tabs[i].page, kinds[1-i], tabs[1-i].page, gate), "Guado-Page: "+tabs[i].page)
					return text
				})
				for i, kind := range kinds {
					what := "the lock of page "
					if kind == "turn" {
						what = "the turn of page "
					}
					if !strings.Contains(told, what+tabs[i].page) || !strings.Contains(told, "POST /") {
						t.Errorf("%s and %s: %s", has, wants, told)
					}
				}
			}
		}
		// Handlers have the turns of their pages.
		told := both(s, func(i int, gate string) string {
			return fmt.Sprint(tabs[i].ask(fmt.Sprintf(`{"wants":{"wants":["turn",%q],"wait":%q}}`, tabs[1-i].page, gate), ""))
		})
		for _, tab := range tabs {
			if !strings.Contains(told, "the turn of page "+tab.page) || !strings.Contains(told, "which a turn of page "+tab.page+" has") {
				t.Errorf("handlers: %s", told)
			}
		}
		told = both(s, func(i int, gate string) string {
			if i == 0 {
				return fmt.Sprint(tabs[0].ask(fmt.Sprintf(`{"wants":{"wants":["lock",%q],"wait":%q}}`, tabs[1].page, gate), ""))
			}
			_, text := tabs[1].post("/", fmt.Sprintf(`{"across":{"has":["lock",%q],"wants":["turn",%q],"wait":%q}}`, tabs[1].page, tabs[0].page, gate))
			return text
		})
		if !strings.Contains(told, "the turn of page "+tabs[0].page) || !strings.Contains(told, "the lock of page "+tabs[1].page) {
			t.Errorf("a handler and a request: %s", told)
		}
	})
}

// What finds the page's mailbox full is refused in a way its sender can read, a message as well
// as a request.
func TestAFullMailboxRefusesRequestsAndMessagesAndSaysSo(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		tab := s.browser().tab(`{"path":"/","class":"Cart"}`)
		at := "/_guado/page/" + tab.page
		goOn := tab.held(`{"turn":{"wait":%q}}`)
		const requests, most = 4, 64
		for range most - requests {
			tab.sent++
			tab.write(fmt.Sprintf(`{"c":%d,"q":{"seen":1}}`, tab.sent))
		}
		var leave []func()
		for range requests {
			leave = append(leave, tab.begins(at))
		}
		s.awaitPages(func(all []guado.PageStatus) bool { return len(all) == 1 && all[0].Waiting == most })
		if status, text := tab.post(at, ""); status != 503 || !strings.Contains(text, `"code":"busy"`) || !strings.Contains(text, `"request_id":"`) {
			t.Errorf("a request: %d %s", status, text)
		}
		if got := tab.ask(`{"seen":1}`, ""); got != "busy" {
			t.Errorf("a message that wants a reply: %v", got)
		}
		tab.send(`{"seen":1}`, "")
		if got := tab.reply(); got != "busy" {
			t.Errorf("a message that wants none: %v", got)
		}
		if status, text := tab.post("/", `{"get":"x"}`, "Guado-Page: "+tab.page); status != 200 {
			t.Errorf("a plain route, which needs no turn: %d %s", status, text)
		}
		for _, l := range leave {
			l()
		}
		if status, text := goOn(); status != 200 {
			t.Errorf("the request with the turn: %d %s", status, text)
		}
		s.awaitPages(func(all []guado.PageStatus) bool { return all[0].Waiting == 0 })
		if status, text := tab.post(at, ""); status != 200 {
			t.Errorf("once there is room again: %d %s", status, text)
		}
	})
}

// A handler that asks its own page by HTTP waits for itself. Nobody sees that but by the clock:
// the request that cannot begin is refused, and meanwhile other pages are answered.
func TestAHandlerThatAsksItsOwnPageIsToldThatItIsBusy(t *testing.T) {
	for _, kind := range []string{"wsgi", "asgi"} {
		t.Run(kind, func(t *testing.T) {
			s := storeSite(t, t.TempDir(), fmt.Sprintf("env = {TEST_KIND = %q}\nqueue_wait = \"2s\"\n", kind))
			tab, other := s.browser().tab(`{"path":"/","class":"Cart"}`), s.browser().tab(`{"path":"/","class":"Cart"}`)
			at := "/_guado/page/" + tab.page
			url, err := neturl.Parse(s.url)
			if err != nil {
				t.Fatal(err)
			}
			begun := filepath.Join(t.TempDir(), "inside")
			done := make(chan string, 1)
			go func() {
				_, text := tab.post(at+"/myself", fmt.Sprintf(`{"url":%q,"cookie":%q,"begun":%q}`,
					s.url+at, tab.browser.client.Jar.Cookies(url)[0].String(), begun))
				done <- text
			}()
			s.awaitFile(begun, "begun")
			if status, text := other.post("/_guado/page/"+other.page, ""); status != 200 {
				t.Errorf("another page: %d %s", status, text)
			}
			if text := <-done; !strings.HasPrefix(text, `[503,`) || !strings.Contains(text, "queue_wait") || !strings.Contains(text, "waits for itself") {
				t.Errorf("the request to itself: %s", text)
			}
			if status, text := tab.post(at, ""); status != 200 {
				t.Errorf("behind it: %d %s", status, text)
			}
		})
	}
}

// The same as with requests that poll a long message: messages poll a long request.
func TestWhileARequestToAPageWaitsItsConcurrentMessagesAreAnswered(t *testing.T) {
	everyResident(t, "", func(t *testing.T, s *site) {
		const polls = 20
		tab := s.browser().tab(`{"path":"/","class":"LongRequest"}`)
		done := make(chan string, 1)
		go func() {
			_, text := tab.post("/_guado/page/"+tab.page, "")
			done <- text
		}()
		s.eventually("the long request has begun", func() bool {
			return strings.Contains(fmt.Sprint(tab.ask("null", "")), "begun")
		})
		before, _ := tab.ask("null", "").([]any)
		for range polls {
			tab.sent++
			tab.write(fmt.Sprintf(`{"c":%d,"q":null}`, tab.sent))
		}
		for n := 0; n < polls; { // all are answered, and the event is not set
			if f := tab.numbered(); f["r"] != nil {
				if said := fmt.Sprint(f["d"]); !strings.Contains(said, "begun") {
					t.Fatalf("a poll: %v", f)
				}
				n++
			}
		}
		select {
		case text := <-done:
			t.Errorf("the long request did not wait: %s", text)
		default:
		}
		if status, text := tab.post("/set", "", "Guado-Page: "+tab.page); status != 200 {
			t.Fatalf("%d %s", status, text)
		}
		if text, want := <-done, fmt.Sprint(before[0].(float64)+polls); text != want {
			t.Errorf("the long request has seen %s of %s polls", text, want)
		}
	})
}

// Who has a store in a transaction has it until his answer leaves, and that is the loop's to do:
// its thread must not wait for him, whether he runs in a thread or in a task.
func TestTheThreadOfALoopDoesNotWaitForATransactionThatItHasToEnd(t *testing.T) {
	s := storeSite(t, t.TempDir(), "env = {TEST_KIND = \"asgi\"}\n")
	tab := s.browser().tab(`{"path":"/"}`)
	goOn := tab.held(`{"transaction":{"set":{"x":1}},"wait":%q,"get":"x"}`)
	for _, what := range []string{`{"get":"x"}`, `{"transaction":{"get":"x"}}`} {
		if got := tab.do(fmt.Sprintf(`{"on_loop":1,"refused":%s}`, what)); !strings.Contains(got, "Deadlock") || !strings.Contains(got, "which POST / has") || !strings.Contains(got, "use async with") {
			t.Errorf("%s: %s", what, got)
		}
	}
	if status, text := goOn(); status != 200 || text != "1" {
		t.Errorf("the transaction: %d %s", status, text)
	}
	tab.wantDone(`{"on_loop":1,"transaction":{"get":"x"}}`, "1")
}

// What fails is found in the log by what the client was answered.
func TestAPageThatFailsAnswersWithTheIDThatTheLogHas(t *testing.T) {
	s := storeSite(t, t.TempDir(), "")
	tab := s.browser().tab(`{"path":"/","class":"Cart"}`)
	status, text := tab.post("/_guado/page/"+tab.page+"/fail", "")
	var said struct {
		Code      string `json:"code"`
		RequestID string `json:"request_id"`
	}
	if err := json.Unmarshal([]byte(text), &said); err != nil || status != 500 || said.Code != "failed" || said.RequestID == "" {
		t.Fatalf("%d %s", status, text)
	}
	s.eventually("the log has the id of the answer", func() bool {
		return strings.Contains(s.log.String(), "request_id="+said.RequestID)
	})
}
