package admin

import (
	"net/http"
	"os"
	"strings"
	"testing"
)

func TestWhatIsAskedIsAnsweredOrRefusedWithACode(t *testing.T) {
	r := newRig(t, nil)
	if body := r.ask(200, "GET", "status", ""); body != "{\"state\":\"fine\"}\n" {
		t.Errorf("status %q", body)
	}
	if body := r.ask(200, "POST", "things/door/turn", `{"left": true}`); body != "{\"name\":\"door\"}\n" {
		t.Errorf("action %q", body)
	}
	r.ask(200, "POST", "things/door/turn", "")
	for _, c := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"POST", "things/none/turn", "", http.StatusNotFound, "unknown_thing"},
		{"POST", "things/door/turn", `{"right": true}`, http.StatusBadRequest, "bad_body"},
		{"POST", "things/door/turn", strings.Repeat(" ", largestBody+1), http.StatusRequestEntityTooLarge, "body_too_large"},
		{"POST", "fail", "", http.StatusInternalServerError, "failed"},
		{"GET", "nothing", "", http.StatusNotFound, "unknown_path"},
		{"DELETE", "status", "", http.StatusMethodNotAllowed, "wrong_method"},
		{"GET", "logs?tail=many", "", http.StatusBadRequest, "bad_query"},
	} {
		if got := code(t, r.ask(c.status, c.method, c.path, c.body)); got != c.code {
			t.Errorf("%s %s: code %q, not %q", c.method, c.path, got, c.code)
		}
	}
}

func TestReadingChangesNothingAndActingNeedsPOST(t *testing.T) {
	r := newRig(t, nil)
	if got := code(t, r.ask(http.StatusMethodNotAllowed, "GET", "things/door/turn", "")); got != "wrong_method" {
		t.Errorf("code %q", got)
	}
	if got := code(t, r.ask(http.StatusMethodNotAllowed, "POST", "status", "")); got != "wrong_method" {
		t.Errorf("code %q", got)
	}
}

func TestTheAuditNamesWhoActed(t *testing.T) {
	r := newRig(t, nil)
	r.ask(200, "POST", "things/door/turn", "")
	r.ask(500, "POST", "fail", "")
	past, _ := r.journal.follow(filter{}, 10, false)
	if len(past) != 2 {
		t.Fatalf("records %+v", past)
	}
	for i, want := range []struct{ level, action, err string }{{"INFO", "things/door/turn", ""}, {"WARN", "fail", "no luck"}} {
		got := past[i]
		err, _ := got.Attrs["error"].(string)
		if got.Message != "audit" || got.Level != want.level || got.Attrs["action"] != want.action || err != want.err {
			t.Errorf("record %+v, not %+v", got, want)
		}
		if got.Attrs["uid"] != int64(os.Geteuid()) || got.Attrs["user"] != userName(os.Geteuid()) {
			t.Errorf("who: %+v", got.Attrs)
		}
	}
}

func TestAnActionGoesOnWhenItsClientLeavesAndEndsWithTheServer(t *testing.T) {
	r := newRig(t, nil)
	answers := make(chan string, 1)
	go func() {
		_, answer, err := ask(r.Path(), "POST", "slow", "")
		if err != nil {
			answer = err.Error()
		}
		answers <- answer
	}()
	<-r.begun
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if got := code(t, <-answers); got != "stopping" {
		t.Errorf("code %q", got)
	}
}
