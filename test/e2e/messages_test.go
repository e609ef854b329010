package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// A message of a browser that becomes a request is seen as one: in the access log, and in
// the trace that the application goes on with.
func TestRequestsMadeOfMessagesAreLoggedAndTracedAsOthers(t *testing.T) {
	to := newSpans(t)
	dir := t.TempDir()
	logged := filepath.Join(dir, "access.log")
	s := wsxServer(t, fmt.Sprintf("phase = 3\nstate_dir = %q\naccess_log = %q\naccess_log_format = \"json\"\n[trace]\nendpoint = %q\n", dir, logged, to.URL))
	parents := map[string]string{}
	parent := func(target, told string) {
		t.Helper()
		var environ struct {
			Parent string `json:"HTTP_TRACEPARENT"`
		}
		if err := json.Unmarshal([]byte(told), &environ); err != nil || len(environ.Parent) != 55 || !strings.HasSuffix(environ.Parent, "-01") {
			t.Fatalf("%s: the application was told %s", target, told)
		}
		parents[target] = environ.Parent
	}

	c := openSocket(t, s, "/shop/_wsx", "Origin: "+s.URL)
	c.ask("w1", "/shop/over/wsx", "", "1")
	parent("/shop/over/wsx", c.reply().Data)

	res, err := http.Post(s.URL+"/_guado/page", "application/json", strings.NewReader(`{"path":"/shop/over/push"}`))
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ Page string }
	if err := json.NewDecoder(res.Body).Decode(&made); err != nil || res.Body.Close() != nil || len(res.Cookies()) != 1 {
		t.Fatal(res, err)
	}
	p := openSocket(t, s, "/_guado/push", "Origin: "+s.URL, "Cookie: "+res.Cookies()[0].Name+"="+res.Cookies()[0].Value)
	p.send(ws.NewTextFrame([]byte(`{"t":"hello","v":1,"client":"a","page":"` + made.Page + `"}`)))
	p.send(ws.NewTextFrame([]byte(`{"c":1,"q":22}`)))
	var reply struct{ D json.RawMessage }
	for reply.D == nil {
		_, text := p.message()
		if err := json.Unmarshal([]byte(text), &reply); err != nil {
			t.Fatal(text, err)
		}
	}
	parent("/shop/over/push", string(reply.D))

	s.Signal(syscall.SIGTERM) // a stop writes what waits
	if code := s.Wait(time.Minute); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	text, err := os.ReadFile(logged)
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range parents {
		n := 0
		for line := range strings.Lines(string(text)) {
			if !strings.Contains(line, `"`+target+`"`) {
				continue
			}
			n++
			for _, part := range []string{`"POST"`, `:200`, `"shop"`, `"p01"`, `"127.0.0.1`} {
				if !strings.Contains(line, part) {
					t.Errorf("%s: no %s in the access log: %s", target, part, line)
				}
			}
		}
		if n != 1 {
			t.Errorf("%s is %d times in the access log:\n%s", target, n, text)
		}
		found := to.of(want[3:35])
		post, worker := found["POST"], found["worker"]
		if post == nil || worker == nil {
			t.Errorf("%s: spans %v", target, found)
			continue
		}
		if took := post.GetEndTimeUnixNano() - post.GetStartTimeUnixNano(); post.GetEndTimeUnixNano() < worker.GetEndTimeUnixNano() || took > 3600e9 {
			t.Errorf("%s: its span ends at %d, the worker's at %d", target, post.GetEndTimeUnixNano(), worker.GetEndTimeUnixNano())
		}
	}
}
