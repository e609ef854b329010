package guado_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws/wsutil"

	"github.com/guado-server/guado"
)

// onceMount keeps answers of the application with stores.
const onceMount = "[[mount]]\napp = \"shop\"\nidempotency = true\n[idempotency]\nanswer = \"64KiB\"\nbytes = \"1MiB\"\n"

// everyOnce runs one body with a WSGI and an ASGI application whose requests may come again.
func everyOnce(t *testing.T, body func(t *testing.T, s *site, tab *tab)) {
	t.Helper()
	for _, kind := range []string{"wsgi", "asgi"} {
		t.Run(kind, func(t *testing.T) {
			s := storeSite(t, t.TempDir(), fmt.Sprintf("env = {TEST_KIND = %q}\n", kind)+onceMount)
			body(t, s, s.browser().tab(`{"path":"/"}`))
		})
	}
}

// once sends a request with a key, and gives all of its answer.
func (t *tab) once(ctx context.Context, key, what string) (*http.Response, string, error) {
	r, err := http.NewRequestWithContext(ctx, "POST", t.s.url+"/", strings.NewReader(what))
	if err != nil {
		return nil, "", err
	}
	r.Header.Set("Idempotency-Key", key)
	r.Header.Set("Guado-Page", t.page)
	res, err := t.browser.client.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	return res, string(text), err
}

// wantOnce wants an answer; replayed: that of before.
func (t *tab) wantOnce(key, what string, status int, want string, replayed bool) {
	t.s.t.Helper()
	res, text, err := t.once(t.s.t.Context(), key, what)
	switch {
	case err != nil:
		t.s.t.Fatal(err)
	case res.StatusCode != status || !strings.Contains(text, want):
		t.s.t.Errorf("%s: %s: %d %s, want %d %s", key, what, res.StatusCode, text, status, want)
	case (res.Header.Get("Idempotency-Replayed") == "true") != replayed:
		t.s.t.Errorf("%s: %s: replayed: %v", key, what, !replayed)
	}
}

func TestARequestThatComesAgainIsDoneOnce(t *testing.T) {
	everyOnce(t, func(t *testing.T, s *site, tab *tab) {
		for range 3 {
			tab.wantDone(`{"add":"x"}`, "1") // without a key nothing is kept
			tab.wantDone(`{"set":{"x":0},"get":"x"}`, "0")
		}
		tab.wantOnce(`"first"`, `{"add":"x"}`, 200, "1", false)
		tab.wantOnce(`first`, `{"add":"x"}`, 200, "1", true)
		tab.kill()
		tab.wantOnce(`"first"`, `{"add":"x"}`, 200, "1", true)
		tab.wantOnce(`second`, `{"add":"x"}`, 200, "2", false)
		tab.wantDone(`{"get":"x"}`, "2")
		tab.wantOnce(`first`, `{"add":"y"}`, 422, "idempotency_mismatch", false)
		tab.wantOnce(`first`, `{"add":"x"} `, 422, "idempotency_mismatch", false)
		tab.wantOnce(`with a space`, `{"add":"x"}`, 400, "bad_idempotency_key", false)
		other := s.browser().tab(`{"path":"/"}`)
		other.wantOnce(`first`, `{"add":"x"}`, 200, "1", false)
		if st := s.Status().Idempotency; st == nil || st.Keys != 3 || st.Answered != 3 || st.Replayed != 2 || st.Other != 2 || st.Bad != 1 || st.Bytes == 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestARequestWhoseWorkerWasKilledBeforeItsCommitIsDoneAgain(t *testing.T) {
	everyOnce(t, func(t *testing.T, _ *site, tab *tab) {
		once := filepath.Join(t.TempDir(), "once")
		what := fmt.Sprintf(`{"set":{"half":1},"die_once":%q,"add":"x"}`, once)
		tab.wantOnce("a", what, 502, "worker_died", false)
		tab.wantDone(`{"get":"half"}`, "null")
		tab.wantOnce("a", what, 200, "1", false)
		tab.wantOnce("a", what, 200, "1", true)
		// What was committed under way is not done twice.
		what = fmt.Sprintf(`{"add":"y","flush":1,"die_once":%q}`, once+"2")
		tab.wantOnce("b", what, 502, "worker_died", false)
		tab.wantOnce("b", what, 409, "idempotency_lost", false)
		tab.wantDone(`{"get":"y"}`, "1")
	})
}

func TestWhoLeavesAndComesAgainGetsTheAnswer(t *testing.T) {
	everyOnce(t, func(t *testing.T, s *site, tab *tab) {
		path := filepath.Join(t.TempDir(), "go")
		what := fmt.Sprintf(`{"wait":%q,"add":"x"}`, path)
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, _, err := tab.once(ctx, "a", what)
			left <- err
		}()
		awaitFile(t, path+".begun")
		tab.wantOnce("a", what, 409, "idempotency_running", false)
		leave()
		if err := <-left; err == nil {
			t.Error("the client did not leave")
		}
		write(t, filepath.Dir(path), "go", "")
		eventually(t, "the end of the request", func() bool { return s.Status().Idempotency.Running == 0 })
		tab.wantOnce("a", what, 200, "1", true)
		tab.wantDone(`{"get":"x"}`, "1")
	})
}

func TestARequestThatFailedIsNotDoneAgain(t *testing.T) {
	everyOnce(t, func(t *testing.T, s *site, tab *tab) {
		tab.wantOnce("a", `{"add":"x","raise":"as the test wants it"}`, 500, "application_error", false)
		tab.wantOnce("a", `{"add":"x","raise":"as the test wants it"}`, 500, "application_error", true)
		tab.wantDone(`{"get":"x"}`, "1")
		// A stream that is short is kept, too; what is long is not done again.
		tab.wantOnce("b", `{"stream":{"add":"y"}}`, 200, "[1]", false)
		tab.wantOnce("b", `{"stream":{"add":"y"}}`, 200, "[1]", true)
		tab.wantOnce("c", `{"add":"y","long":70000}`, 200, "", false)
		tab.wantOnce("c", `{"add":"y","long":70000}`, 409, "idempotency_not_kept", false)
		tab.wantDone(`{"get":"y"}`, "2")
		if st := s.Status().Idempotency; st.NotKept != 1 || st.Without != 1 {
			t.Errorf("%+v", st)
		}
	})
}

func TestAnswersAreKeptOverAStop(t *testing.T) {
	dir := t.TempDir()
	s := storeSite(t, dir, onceMount)
	tab := s.browser().tab(`{"path":"/"}`)
	tab.wantOnce("a", `{"add":"x"}`, 200, "1", false)
	tab.stopAndStart(dir, onceMount)
	tab.wantOnce("a", `{"add":"x"}`, 200, "1", true)
	tab.wantDone(`{"get":"x"}`, "1")
}

func TestAnswersAreKeptOverAStartThatFails(t *testing.T) {
	dir := t.TempDir()
	s := storeSite(t, dir, onceMount)
	tab := s.browser().tab(`{"path":"/"}`)
	tab.wantOnce("a", `{"add":"x"}`, 200, "1", false)
	_ = tab.conn.Close() // the stop would wait for its goodbye
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	c, err := guado.Load(filepath.Join(dir, "guado.toml"))
	if err != nil {
		t.Fatal(err)
	}
	c.Server.Listen = []string{taken.Addr().String()}
	second := guado.NewResolved(c)
	second.Log, second.Stdout, second.Stderr = s.Log, s.Stdout, s.Stderr
	if err := second.Run(t.Context()); err == nil {
		t.Fatal("two servers listen at one address")
	}
	tab.goTo(storeSite(t, dir, onceMount))
	tab.wantOnce("a", `{"add":"x"}`, 200, "1", true)
	tab.wantDone(`{"get":"x"}`, "1")
}

func TestARequestIsDoneOnceAlsoWhenTheServerWasKilled(t *testing.T) {
	dir := t.TempDir()
	s := hostSite(t, dir, onceMount)
	tab := s.browser().tab(`{"path":"/"}`)
	tab.wantOnce("a", `{"add":"x"}`, 200, "1", false)
	tab.wantOnce("b", `{"long":3}`, 200, "xxx", false) // no store was touched
	path := filepath.Join(t.TempDir(), "go")
	half := fmt.Sprintf(`{"add":"y","flush":1,"wait":%q}`, path)
	done := make(chan error, 1)
	go func() {
		_, _, err := tab.once(t.Context(), "c", half)
		done <- err
	}()
	awaitFile(t, path+".begun")
	tab.wantDone(`{"get":"x"}`, "1") // what is told rests on all that was committed before
	image := crashed(t, dir, "state")
	write(t, filepath.Dir(path), "go", "")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	again := hostSite(t, image, onceMount)
	_ = tab.conn.Close() // the stop would wait for its goodbye
	tab.goTo(again)
	for range 2 {
		tab.wantOnce("a", `{"add":"x"}`, 200, "1", true)
		tab.wantOnce("b", `{"long":3}`, 200, "xxx", true)
		tab.wantOnce("c", half, 409, "idempotency_lost", false)
	}
	tab.wantDone(`{"get":"x"}`, "1")
	tab.wantDone(`{"get":"y"}`, "1")
	if err := again.end(); err != nil {
		t.Fatal(err)
	}
	// A graceful stop leaves it in the log as well.
	last := hostSite(t, image, onceMount)
	tab.goTo(last)
	tab.wantOnce("a", `{"add":"x"}`, 200, "1", true)
	tab.wantOnce("c", half, 409, "idempotency_lost", false)
}

func TestAMessageIsDoneOnceAlsoWhenTheServerWasKilled(t *testing.T) {
	dir := t.TempDir()
	s := hostSite(t, dir, "")
	tab := s.browser().tab(`{"path":"/","class":"Cart"}`)
	// The reply is on its way, or is not, or the client has not said that it has it.
	tab.sent++
	first := tab.sent
	tab.write(fmt.Sprintf(`{"c":%d,"q":{"count":1}}`, first))
	if f := tab.unacknowledged(); f["r"] != float64(first) || f["d"] != 1.0 {
		t.Fatalf("%v", f)
	}
	// This one has only committed, and runs on.
	path := filepath.Join(t.TempDir(), "go")
	tab.sent++
	tab.write(fmt.Sprintf(`{"c":%d,"q":{"add":"half","flush":1,"wait":%q}}`, tab.sent, path))
	awaitFile(t, path+".begun")
	tab.wantDone(`{"get":"count"}`, "1") // what is told rests on all that was committed before
	image := crashed(t, dir, "state")
	write(t, filepath.Dir(path), "go", "")
	tab.reply()
	_ = tab.conn.Close() // the stop would wait for its goodbye
	again := hostSite(t, image, "")
	tab.goTo(again)
	tab.at = 0
	h := tab.dial()
	if h["t"] != "hello" || h["resumed"] != false || h["kept"] != true || h["got"] != float64(tab.sent) {
		t.Fatalf("%v", h)
	}
	for n, want := range map[uint64]string{first: `{"d":1}`, tab.sent: `{"e":"lost"}`} { // in any order
		tab.write(fmt.Sprintf(`{"c":%d,"q":{}}`, n))
		for {
			f := tab.numbered()
			if f["close"] != nil {
				t.Fatal(f)
			}
			if f["r"] != float64(n) {
				continue
			}
			got := fmt.Sprintf(`{"d":%v}`, f["d"])
			if e, is := f["e"].(map[string]any); is {
				got = fmt.Sprintf(`{"e":%q}`, e["code"])
			}
			if got != want {
				t.Errorf("message %d: %s, want %s", n, got, want)
			}
			break
		}
	}
	tab.wantDone(`{"get":"count"}`, "1")
	tab.wantDone(`{"get":"half"}`, "1")
	if got := tab.ask(`{"count":1}`, ""); got != 2.0 {
		t.Errorf("the next message: %v", got)
	}
}

// unacknowledged gives the next reply, of which the host is not told that it came.
func (t *tab) unacknowledged() map[string]any {
	t.s.t.Helper()
	for {
		if err := t.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.s.t.Fatal(err)
		}
		data, err := wsutil.ReadServerText(t.conn)
		if err != nil {
			t.s.t.Fatal(err)
		}
		var f map[string]any
		if err := json.Unmarshal(data, &f); err != nil {
			t.s.t.Fatal(err)
		}
		if n, ok := f["n"].(float64); ok {
			t.at = uint64(n)
		}
		if f["r"] != nil {
			return f
		}
	}
}

// awaitFile waits until the application has written a file.
func awaitFile(t *testing.T, path string) {
	t.Helper()
	eventually(t, path, func() bool {
		_, err := os.Stat(path)
		return err == nil
	})
}
