package guado_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/guado-server/guado/test/harness"
)

// everyResident runs one body with an application whose pages requests and messages meet.
func everyResident(t *testing.T, more string, body func(t *testing.T, s *site)) {
	t.Helper()
	kinds := []string{"wsgi", "asgi"}
	for i, transport := range harness.Transports() {
		kind := kinds[i%2]
		t.Run(kind+"/"+transport, func(t *testing.T) {
			body(t, pagesSite(t, t.TempDir(), fmt.Sprintf("target = \"resident_app:app\"\nenv = {TEST_KIND = %q}\nthreads = 8\n", kind)+more))
		})
	}
}

// keeps lets a browser's requests share their connections: there are many of them.
func (b *browser) keeps(connections int) *browser {
	b.client.Transport = &http.Transport{MaxIdleConnsPerHost: connections}
	b.s.t.Cleanup(b.client.CloseIdleConnections)
	return b
}

// A legacy page polls while its long call runs: such requests do not wait for it, nor do
// those of a page class that are marked as concurrent.
func TestWhileOneCallOfAPageWaitsItsPollsAreAnswered(t *testing.T) {
	everyResident(t, "", func(t *testing.T, s *site) {
		const polls = 20
		for _, way := range []string{"routes", "a page class"} {
			tab := s.browser().tab(`{"path":"/","class":"Long"}`)
			call, poll := "/wait", "/poll"
			done := make(chan string, 1)
			if way == "routes" {
				go func() {
					_, text := tab.post(call, "", "Guado-Page: "+tab.page)
					done <- text
				}()
			} else {
				poll = "/_guado/page/" + tab.page
				tab.sent++
				tab.write(fmt.Sprintf(`{"c":%d,"q":"wait"}`, tab.sent))
			}
			s.eventually("the long call has begun", func() bool {
				_, text := tab.post("/poll", "", "Guado-Page: "+tab.page)
				return strings.Contains(text, "begun")
			})
			var all sync.WaitGroup
			for range polls {
				all.Go(func() {
					if status, text := tab.post(poll, "", "Guado-Page: "+tab.page); status != 200 || !strings.Contains(text, `"begun"`) {
						t.Errorf("a poll over %s: %d %s", way, status, text)
					}
				})
			}
			all.Wait() // all are answered, and the event is not set
			select {
			case text := <-done:
				t.Errorf("the long call did not wait: %s", text)
			default:
			}
			if status, text := tab.post("/set", "", "Guado-Page: "+tab.page); status != 200 {
				t.Fatalf("%d %s", status, text)
			}
			if way == "routes" {
				if text := <-done; text != "true" {
					t.Errorf("the long call: %s", text)
				}
			} else if got := tab.reply(); got != float64(polls) {
				t.Errorf("the long call has seen %v of %d polls", got, polls)
			}
		}
	})
}

// meet lets clients, each with a page of its own, write by HTTP what the next message must
// see, and the reverse, so many times in all.
func meet(t *testing.T, s *site, times int) {
	t.Helper()
	const clients = 32
	var all sync.WaitGroup
	for range clients {
		tab := s.browser().keeps(1).tab(`{"path":"/","class":"Shared"}`)
		all.Go(func() {
			at := "/_guado/page/" + tab.page
			for n := 1; n <= times/clients; n++ {
				var got string
				if n%2 == 1 {
					_, got = tab.post(at, fmt.Sprint(n))
				} else {
					got = text(tab.ask(fmt.Sprint(n), ""))
				}
				if want := fmt.Sprintf("[%d,%d]", n-1, n-1); got != want {
					t.Errorf("call %d saw %s of the one before, not %s", n, got, want)
					return
				}
			}
		})
	}
	all.Wait()
}

func TestWhatARequestWritesTheNextMessageSeesAndTheReverse(t *testing.T) {
	everyResident(t, "", func(t *testing.T, s *site) { meet(t, s, 5_000) })
}

func TestSoakWhatARequestWritesTheNextMessageSeesAndTheReverse(t *testing.T) {
	if os.Getenv("GUADO_SOAK") == "" {
		t.Skip("make soak runs it")
	}
	everyResident(t, "", func(t *testing.T, s *site) { meet(t, s, 500_000) })
}

// Requests and messages of one page at once: its turns are one after the other, whichever way
// they came.
func TestRequestsAndMessagesOfAPageAtOnceAreOneAfterTheOther(t *testing.T) {
	everyResident(t, "", func(t *testing.T, s *site) {
		const clients, each = 16, 30
		tab := s.browser().keeps(clients).tab(`{"path":"/","class":"Shared"}`)
		var mu sync.Mutex
		seen := map[float64]int{}
		counted := func(text string) {
			var n float64
			if err := json.Unmarshal([]byte(text), &n); err != nil {
				t.Errorf("a call gave %s", text)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			seen[n]++
		}
		var all sync.WaitGroup
		for range clients {
			all.Go(func() {
				for range each {
					_, text := tab.post("/_guado/page/"+tab.page, "")
					counted(text)
				}
			})
		}
		const messages = clients * each
		for range messages / 16 {
			for range 16 {
				tab.sent++
				tab.write(fmt.Sprintf(`{"c":%d,"q":null}`, tab.sent))
			}
			for n := 0; n < 16; {
				if f := tab.numbered(); f["r"] != nil {
					counted(text(f["d"]))
					n++
				}
			}
		}
		all.Wait()
		for n := 1; n <= 2*messages; n++ {
			if seen[float64(n)] != 1 {
				t.Fatalf("%d was counted %d times", n, seen[float64(n)])
			}
		}
	})
}
