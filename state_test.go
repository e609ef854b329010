package guado_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/guado-server/guado/test/harness"
)

// everyStore runs one body with the stores of a WSGI and of an ASGI application, over both
// transports.
func everyStore(t *testing.T, body func(t *testing.T, s *site)) {
	t.Helper()
	kinds := []string{"wsgi", "asgi"}
	for i, transport := range harness.Transports() {
		kind := kinds[i%2]
		t.Run(kind+"/"+transport, func(t *testing.T) {
			body(t, storeSite(t, t.TempDir(), fmt.Sprintf("env = {TEST_KIND = %q}\n", kind)))
		})
	}
}

// storeSite serves an application with stores.
func storeSite(t *testing.T, dir, more string) *site {
	t.Helper()
	return pagesSite(t, dir, "target = \"stores_app:app\"\n"+more)
}

// do asks for something to be done in a request of a page.
func (t *tab) do(what string) string {
	t.s.t.Helper()
	status, text := t.post("/", what, "Guado-Page: "+t.page)
	if status != 200 {
		t.s.t.Errorf("%s: %d %s", what, status, text)
	}
	return strings.TrimSpace(text)
}

func (t *tab) wantDone(what, want string) {
	t.s.t.Helper()
	if got := t.do(what); got != want {
		t.s.t.Errorf("%s: %s, want %s", what, got, want)
	}
}

// kill ends the worker by kill -9, while it handles a request.
func (t *tab) kill() {
	t.s.t.Helper()
	if status, text := t.post("/", `{"die":1}`); status != 502 {
		t.s.t.Errorf("a request that kills its worker: %d %s", status, text)
	}
}

func TestWhatAClientWasToldIsThereWhenTheWorkerWasKilled(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		tab := s.browser().tab(`{"path":"/"}`)
		for i := 1; i <= 3; i++ {
			for _, of := range []string{"page", "connection"} {
				tab.wantDone(fmt.Sprintf(`{"of":%q,"set":{"x":%d,"cart.items":[{"sku":%d}]},"get":"x"}`, of, i, i), fmt.Sprint(i))
			}
			tab.kill()
			for _, of := range []string{"page", "connection"} {
				tab.wantDone(fmt.Sprintf(`{"of":%q,"get":"x"}`, of), fmt.Sprint(i))
				tab.wantDone(fmt.Sprintf(`{"of":%q,"get":"cart.items"}`, of), fmt.Sprintf(`[{"sku": %d}]`, i))
			}
		}
	})
}

// stop ends the server in order, and serves its folder again.
func (t *tab) stopAndStart(dir, more string) *site {
	s := t.s
	s.t.Helper()
	_ = t.conn.Close() // the stop would wait for its goodbye
	if err := s.end(); err != nil {
		s.t.Fatal(err)
	}
	again := storeSite(s.t, dir, more)
	t.goTo(again)
	return again
}

func TestStoresSurviveAGracefulStopAndAStart(t *testing.T) {
	dir := t.TempDir()
	s := storeSite(t, dir, "")
	tab := s.browser().tab(`{"path":"/"}`)
	tab.wantDone(`{"set":{"x":1,"a.b.c":[1,{"d":2}]},"get":"x"}`, "1")
	tab.wantDone(`{"of":"connection","set":{"y":2},"get":"y"}`, "2")
	tab.stopAndStart(dir, "")
	tab.wantDone(`{"get":"a.b.c"}`, `[1, {"d": 2}]`)
	tab.wantDone(`{"of":"connection","get":"y"}`, "2")
	tab.wantDone(`{"set":{"x":3},"get":"x"}`, "3")
}

func TestWhereTheFileOfStoresIsDamagedOnlyThatPageBeginsAnewAndNoneIsHalf(t *testing.T) {
	dir := t.TempDir()
	s := storeSite(t, dir, "")
	tab, other := s.browser().tab(`{"path":"/"}`), s.browser().tab(`{"path":"/"}`)
	tab.wantDone(`{"set":{"x":"damaged"},"get":"x"}`, `"damaged"`)
	other.wantDone(`{"set":{"x":"whole"},"get":"x"}`, `"whole"`)
	_ = tab.conn.Close() // as above
	_ = other.conn.Close()
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "state", "mirror")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, []byte(`"id":"`+tab.page+`","records"`))
	data[at+len(tab.page)+20] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	again := storeSite(t, dir, "")
	tab.goTo(again)
	other.goTo(again)
	if h := tab.dial(); h["t"] == "hello" {
		t.Errorf("a page without its store goes on: %v", h)
	}
	if h := other.dial(); h["t"] != "hello" {
		t.Errorf("a page whose store is whole has ended: %v", h)
	}
	other.wantDone(`{"get":"x"}`, `"whole"`)
	if _, err := os.Stat(path + ".damaged"); err != nil {
		t.Errorf("the damaged file is not kept: %v", err)
	}
}

func TestLoginTakesStoresAlongButForTheGuestsOwn(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		tab := s.browser().tab(`{"path":"/"}`)
		tab.wantDone(`{"set":{"x":1},"get":"x"}`, "1")
		tab.wantDone(`{"of":"connection","set":{"y":2},"get":"y"}`, "2")
		tab.wantDone(`{"of":"","set":{"z":3},"get":"z"}`, "3")
		// What the request of the login writes, before it and behind it, is kept, too.
		tab.wantDone(`{"set":{"before":1},"login":"anna","add":"x"}`, "2")
		for range 2 {
			tab.wantDone(`{"get":"x"}`, "2")
			tab.wantDone(`{"get":"before"}`, "1")
			tab.wantDone(`{"of":"connection","get":"y"}`, "2")
			tab.wantDone(`{"of":"anna","get":"z"}`, "null")
			tab.kill()
		}
		tab.wantDone(`{"set":{"x":5},"get":"x"}`, "5")
		tab.wantDone(`{"of":"anna","set":{"z":6},"get":"z"}`, "6")
	})
}

func TestBehindTheHeadStoresAreReadOnly(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		tab := s.browser().tab(`{"path":"/"}`)
		tab.wantDone(`{"stream":{"set":{"x":1}},"then":{"set":{"x":2}}}`, `[1,"ReadOnly"]`)
		tab.kill()
		tab.wantDone(`{"get":"x"}`, "1")
	})
}

func TestWhatWasWrittenIsKeptThoughTheRequestFailed(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		tab := s.browser().tab(`{"path":"/"}`)
		if status, text := tab.post("/", `{"set":{"x":1},"raise":"as the test wants it"}`, "Guado-Page: "+tab.page); status != 500 {
			t.Errorf("%d %s", status, text)
		}
		tab.kill()
		tab.wantDone(`{"get":"x"}`, "1")
	})
}

func TestTheHandlersOfAPageHaveTheStoresOfItsRequests(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		tab := s.browser().tab(`{"path":"/","class":"Cart"}`)
		for i := 1; i <= 4; i += 2 {
			if got := tab.ask(`{"count":1}`, ""); got != float64(i) {
				t.Errorf("message %d: %v", i, got)
			}
			tab.wantDone(`{"add":"count"}`, fmt.Sprint(i+1))
			tab.kill()
			if got := text(tab.ask(`{"restored":1}`, "")); got != fmt.Sprintf("[true,%d]", i+1) {
				t.Errorf("the object behind the kill: %v", got)
			}
		}
	})
}

// heldBy begins a request that waits in the application; the function lets it go on and
// gives its answer.
func (t *tab) held(what string) (goOn func() (int, string)) {
	t.s.t.Helper()
	path := filepath.Join(t.s.t.TempDir(), "go")
	type answer struct {
		status int
		text   string
	}
	done := make(chan answer, 1)
	go func() {
		status, text := t.post("/", fmt.Sprintf(what, path), "Guado-Page: "+t.page)
		done <- answer{status, text}
	}()
	t.s.awaitFile(path+".begun", "begun")
	return func() (int, string) {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.s.t.Error(err)
		}
		a := <-done
		return a.status, strings.TrimSpace(a.text)
	}
}

func TestAUsersRequestsGoOnInTheNextWorkerWhenTheLastOneIsThrough(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		tab := s.browser().tab(`{"path":"/"}`)
		tab.wantDone(`{"set":{"x":1},"get":"x"}`, "1")
		goOn := tab.held(`{"add":"x","wait":%q,"get":"x"}`)
		first := s.worker()
		s.Restart()
		s.eventually("the next worker is ready", func() bool { return s.worker() != first })
		next := make(chan string, 1)
		go func() { next <- tab.do(`{"add":"x"}`) }()
		if status, text := goOn(); status != 200 || text != "2" {
			t.Errorf("the request in the worker of before: %d %s", status, text)
		}
		if got := <-next; got != "3" {
			t.Errorf("the next worker counted %s, want 3", got)
		}
	})
}

// asks sends a request to the page's handler, and gives its reply and what was pushed before.
func (t *tab) asks(data string) (reply any, pushed []string) {
	t.s.t.Helper()
	t.sent++
	t.write(fmt.Sprintf(`{"c":%d,"q":%s}`, t.sent, data))
	for {
		f := t.numbered()
		switch {
		case f["close"] != nil:
			t.s.t.Fatalf("closed with %v instead of a reply", f["close"])
		case f["m"] != nil:
			pushed = append(pushed, text(f["m"]))
		case f["r"] == float64(t.sent):
			if e, is := f["e"].(map[string]any); is {
				return e["code"], pushed
			}
			return f["d"], pushed
		}
	}
}

func TestWhatAHandlerPushesLeavesWithWhatItWrote(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		tab := s.browser().tab(`{"path":"/","class":"Cart"}`)
		var all []string
		for _, c := range []struct {
			data  string
			reply any
			x     string
		}{
			// Neither is real when the worker dies before it is through, both when it has
			// committed, and who waits for a push commits.
			{`{"set":{"x":1},"push":"lost","die":1}`, "lost", "null"},
			{`{"set":{"x":2},"push":"kept","flush":1,"die":1}`, "lost", "2"},
			{`{"set":{"x":3},"wait_push":"waited"}`, 1.0, "3"},
			{`{"push":"told","set":{"x":4},"get":"x"}`, 4.0, "4"},
			{`{"push":"only"}`, nil, "4"},
		} {
			reply, pushed := tab.asks(c.data)
			if c.reply != nil && reply != c.reply {
				t.Errorf("%s: %v", c.data, reply)
			}
			// What a worker had pushed may come behind the news of its death.
			all = append(all, pushed...)
			tab.wantDone(`{"get":"x"}`, c.x)
		}
		if got := strings.Join(all, " "); got != `"kept" "waited" "told" "only"` {
			t.Errorf("the client got %s", got)
		}
	})
}

func TestWhatAHandlerPushesLeavesWithItsAnswerAlsoWithoutAStore(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		tab := s.browser().tab(`{"path":"/","class":"Cart"}`)
		before := s.Status().Stores.Commits
		reply, pushed := tab.asks(`{"push":"lost","die":1}`)
		if reply != "lost" || len(pushed) > 0 {
			t.Errorf("killed: %v, %v", reply, pushed)
		}
		// What came before its end came with it: there is nothing in between.
		if reply, pushed = tab.asks(`{"push":"told"}`); reply == "lost" || strings.Join(pushed, " ") != `"told"` {
			t.Errorf("%v, %v", reply, pushed)
		}
		if st := s.Status().Stores; st.Commits != before+1 {
			t.Errorf("%d commits, and before %d", st.Commits, before)
		}
	})
}

// worker is the process that serves new requests.
func (s *site) worker() int {
	for _, g := range s.Status().Groups {
		for _, w := range g.Workers {
			return w.PID
		}
	}
	return 0
}

func TestARequestWithThePagesTurnHasThePageForItself(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		tab := s.browser().tab(`{"path":"/","class":"Cart"}`)
		goOn := tab.held(`{"turn":{"set":{"count":10},"wait":%q,"add":"count"}}`)
		tab.sent++
		tab.write(fmt.Sprintf(`{"c":%d,"q":{"count":1}}`, tab.sent))
		// Others go on, and see nothing of what waits for its commit with a transaction; a
		// second one that wants the turn gives up in its time.
		if status, text := tab.post("/", `{"turn":{"timeout":0.2,"get":"count"}}`, "Guado-Page: "+tab.page); status != 500 {
			t.Errorf("a second turn: %d %s", status, text)
		}
		if status, text := goOn(); status != 200 || text != "11" {
			t.Errorf("the turn of a request: %d %s", status, text)
		}
		if got := tab.reply(); got != 12.0 {
			t.Errorf("the handler behind it counted %v", got)
		}
		// What was entered and not left ends with its request.
		for range 2 {
			if status, text := tab.post("/", `{"turn":{"get":"count"},"enter":1}`, "Guado-Page: "+tab.page); status != 200 {
				t.Errorf("behind a request that has not left its turn: %d %s", status, text)
			}
		}
		// Its own turn a handler has already; behind the head it is how to write.
		if got := tab.ask(`{"turn":{"add":"count"}}`, ""); got != 13.0 {
			t.Errorf("a handler that takes its own turn: %v", got)
		}
		tab.wantDone(`{"stream":{},"turn":{"set":{"count":20}},"then":{"set":{"count":30}}}`, `[1,"ReadOnly"]`)
		tab.kill()
		tab.wantDone(`{"get":"count"}`, "20")
		// A worker that dies with a turn gives it back.
		if status, text := tab.post("/", `{"turn":{"die":1}}`, "Guado-Page: "+tab.page); status != 502 {
			t.Errorf("%d %s", status, text)
		}
		if got := tab.ask(`{"count":1}`, ""); got != 21.0 {
			t.Errorf("the handler behind it counted %v", got)
		}
	})
}

// Large states over a small ring, clients that leave in the middle, a worker that is killed
// now and then: what was told is there, and no commit is taken for a broken one.
func TestUnderLoadNothingThatWasToldIsLost(t *testing.T) {
	for i, kind := range []string{"wsgi", "asgi"} {
		transport := harness.Transports()[i%len(harness.Transports())]
		t.Run(kind+"/"+transport, func(t *testing.T) {
			s := storeSite(t, t.TempDir(), fmt.Sprintf("env = {TEST_KIND = %q}\n", kind))
			tab := s.browser().tab(`{"path":"/"}`)
			big := strings.Repeat("0123456789", 6000)
			const clients, writes = 6, 30
			told := make([]int, clients)
			var all sync.WaitGroup
			for c := range clients {
				all.Go(func() {
					for n := 1; n <= writes; n++ {
						ctx, leave := context.WithCancel(t.Context())
						if n%7 == 0 {
							time.AfterFunc(time.Duration(c)*time.Millisecond, leave)
						}
						status, got := tab.tryPost(ctx, fmt.Sprintf(`{"set":{"big%d":"%d %s","k%d":%d},"get":"k%d"}`, c, n, big, c, n, c))
						if status == 200 && got == fmt.Sprint(n) {
							told[c] = n
						}
						leave()
						if c == 0 && n%10 == 0 {
							tab.tryPost(t.Context(), `{"die":1}`)
						}
					}
				})
			}
			all.Wait()
			tab.kill()
			for c := range clients {
				var last int
				if got := tab.do(fmt.Sprintf(`{"get":"k%d"}`, c)); json.Unmarshal([]byte(got), &last) != nil || last < told[c] || last > writes {
					t.Errorf("client %d was told %d, and the store has %s", c, told[c], got)
				}
				if got := tab.do(fmt.Sprintf(`{"get":"big%d"}`, c)); got != fmt.Sprintf(`"%d %s"`, last, big) {
					t.Errorf("client %d: half of write %d: %.40s", c, last, got)
				}
			}
			for _, line := range strings.Split(s.log.String(), "\n") {
				if strings.Contains(line, "broke") {
					t.Error(line)
				}
			}
		})
	}
}

// tryPost asks for something that may fail.
func (t *tab) tryPost(ctx context.Context, body string) (int, string) {
	r, err := http.NewRequestWithContext(ctx, "POST", t.s.url+"/", strings.NewReader(body))
	if err != nil {
		return 0, ""
	}
	r.Header.Set("Guado-Page", t.page)
	return t.answer(r)
}

func TestCodeOutsideOfRequestsWritesStoresToo(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		tab := s.browser().tab(`{"path":"/"}`)
		tab.do(`{"set":{"y":1},"later":{"x":1}}`)
		s.eventually("the thread's write is kept", func() bool { return s.Status().Stores.Commits >= 2 })
		tab.kill()
		tab.wantDone(`{"get":"x"}`, "1")
	})
}

// At its deadline a request is interrupted wherever it is: in the middle of a write, with a
// lock. What it had written is kept, as of any request that fails, and no write is half.
func TestARequestThatIsInterruptedLeavesNoWriteHalf(t *testing.T) {
	for i, kind := range []string{"wsgi", "asgi"} {
		t.Run(kind, func(t *testing.T) {
			s := storeSite(t, t.TempDir(), fmt.Sprintf("env = {TEST_KIND = %q}\nrequest_timeout = \"1s\"\n", kind))
			tab := s.browser().tab(`{"path":"/"}`)
			for range 2 - i {
				ask := func(what string) string { // of the next worker, when it is there
					var text string
					s.eventually("an answer", func() bool {
						status, got := tab.tryPost(t.Context(), what)
						text = got
						return status == 200
					})
					return text
				}
				ask(`{"set":{"x":1}}`)
				if status, text := tab.tryPost(t.Context(), `{"spin":1}`); status != 504 {
					t.Fatalf("a request past its deadline: %d %s", status, text)
				}
				var pair struct {
					A, C int
					B    []int
					D    struct{ E int }
				}
				if err := json.Unmarshal([]byte(ask(`{"get":"pair"}`)), &pair); err != nil {
					t.Fatal(err)
				}
				if n := pair.A; n == 0 || len(pair.B) != 20 || pair.B[0] != n || pair.B[19] != n || pair.C != pair.D.E || pair.C != 0 && pair.C != n {
					t.Errorf("half of a write: %+v", pair)
				}
				var list []any
				if err := json.Unmarshal([]byte(ask(`{"get":"list"}`)), &list); err != nil || len(list)%3 != 0 || len(list)/3 > pair.A {
					t.Errorf("half of a write: %d items behind number %d (%v)", len(list), pair.A, err)
				}
				if got := ask(`{"turn":{"set":{"y":2},"get":"y"}}`); got != "2" {
					t.Errorf("behind it: %s", got)
				}
			}
			if strings.Contains(s.log.String(), "broke") {
				t.Error("a commit was taken for a broken one")
			}
		})
	}
}

// A request that does not come to its end while its user waits for the next worker.
func TestWhatTheWorkerOfBeforeStillWritesIsRefused(t *testing.T) {
	s := storeSite(t, t.TempDir(), "")
	tab := s.browser().tab(`{"path":"/"}`)
	tab.wantDone(`{"set":{"x":1},"get":"x"}`, "1")
	goOn := tab.held(`{"set":{"x":"lost"},"wait":%q,"get":"x"}`)
	first := s.worker()
	s.Restart()
	s.eventually("the next worker is ready", func() bool { return s.worker() != first })
	tab.wantDone(`{"add":"x"}`, "2")
	if status, text := goOn(); status != 502 || !strings.Contains(text, "moved") {
		t.Errorf("the request in the worker of before: %d %s", status, text)
	}
	tab.wantDone(`{"get":"x"}`, "2")
	if st := s.Status().Stores; st.Stale != 1 || st.Moves != 1 || st.Stores == 0 || st.Bytes == 0 {
		t.Errorf("the status of stores is %+v", st)
	}
}

func TestRequestsAndMessagesOfAPageMeetTheSameObject(t *testing.T) {
	everyStore(t, func(t *testing.T, s *site) {
		tab := s.browser().tab(`{"path":"/","class":"Cart"}`)
		at := "/_guado/page/" + tab.page
		for i := 1; i <= 6; i += 2 {
			if status, got := tab.post(at+"/items?a=1&b", `{"x":[1]}`); status != 200 || got != fmt.Sprintf(`["POST","items","a=1&b",{"x":[1]},%d]`, i) {
				t.Errorf("request %d: %d %s", i, status, got)
			}
			if got := tab.ask(`{"seen":1}`, ""); got != float64(i+1) {
				t.Errorf("message %d: %v", i+1, got)
			}
		}
		for path, want := range map[string]int{at + "/refuse": 400, "/_guado/page/0123456789abcdefghijkl": 404} {
			if status, got := tab.post(path, ""); status != want {
				t.Errorf("%s: %d %s", path, status, got)
			}
		}
		if status, got := s.browser().post(at, ""); status != 404 {
			t.Errorf("of another browser: %d %s", status, got)
		}
		if status, got := tab.post(at, "{", "Origin: https://elsewhere.example"); status != 403 {
			t.Errorf("of another origin: %d %s", status, got)
		}
		// A client that leaves while its request waits for the page's turn is no failure.
		goOn := tab.held(`{"turn":{"wait":%q}}`)
		leave := tab.begins(at)
		s.eventually("the request is there", func() bool { return s.Status().Connections == 2 })
		leave()
		s.eventually("its client has left", func() bool { return s.Status().Connections == 1 })
		goOn()
		if strings.Contains(s.log.String(), "no_answer") {
			t.Error("the log has it as a failure")
		}
	})
}

// begins sends a request without a body, and waits for nothing; the function leaves.
func (t *tab) begins(path string) (leave func()) {
	t.s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(t.s.url, "http://"))
	if err != nil {
		t.s.t.Fatal(err)
	}
	r, err := http.NewRequest("POST", t.s.url+path, http.NoBody)
	if err != nil {
		t.s.t.Fatal(err)
	}
	for _, c := range t.browser.client.Jar.Cookies(r.URL) {
		r.AddCookie(c)
	}
	if err := r.Write(conn); err != nil {
		t.s.t.Fatal(err)
	}
	return func() {
		_ = conn.(*net.TCPConn).SetLinger(0) // so that it is no half of a close
		_ = conn.Close()
	}
}
