package guado_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/guado-server/guado/test/harness"
)

// live is a site of a framework's application with page classes, an executor and a program.
func live(t *testing.T, framework string) (s *site, mail string) {
	t.Helper()
	dir := t.TempDir()
	mail = filepath.Join(dir, "mail")
	if err := os.Mkdir(mail, 0o700); err != nil {
		t.Fatal(err)
	}
	return pagesSite(t, dir, fmt.Sprintf(`target = "live_%s:app"
[admin]
socket = "off"
push_socket = %q
[[executor]]
name = "cpu"
processes = 1
[[program]]
name = "post"
group = "shop"
command = ["python", "-m", "live_jobs", %q]
env = {PYTHONPATH = %q}
`, framework, filepath.Join(dir, "push.sock"), mail, filepath.Join(harness.Root(), "python"))), mail
}

// act posts to the application, which answers with a list.
func (t *tab) act(how, data, want string) {
	t.s.t.Helper()
	if status, text := t.post("/"+how, data); status != 200 || trimmed(text) != want {
		t.s.t.Errorf("%s: %d %s, want %s", how, status, text, want)
	}
}

// trimmed is a list of JSON without white space.
func trimmed(text string) string {
	b := []byte(text)
	return string(slices.DeleteFunc(b, func(c byte) bool { return c == ' ' || c == '\n' }))
}

// wantAll wants these messages, in any order.
func (t *tab) wantAll(want ...string) {
	t.s.t.Helper()
	var got []string
	for range want {
		got = append(got, text(t.told()))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.s.t.Errorf("the client was told %s, want %s", got, want)
	}
}

func TestAFrameworksApplicationPushesFromEverywhere(t *testing.T) {
	for _, framework := range []string{"flask", "fastapi"} {
		t.Run(framework, func(t *testing.T) {
			s, mail := live(t, framework)
			b := s.browser()
			tab := b.tab(`{"path":"/","class":"Board","args":{"room":1}}`)
			tab.wantTold(`{"opened":{"room":1},"reopened":false}`)
			page := fmt.Sprintf(`{"page":%q}`, tab.page)

			tab.act("thread", page, "[1,1,null]")
			tab.wantTold(`"thread"`)
			tab.act("executor", page, "[1,1,null]")
			tab.wantTold(`"executor"`)
			tab.act("mine", "{}", "[1,1,null]")
			tab.wantTold(`"mine"`)
			done := make(chan struct{})
			go func() {
				defer close(done)
				tab.act("direct", page, "[1,1,1]") // it waits for the client
			}()
			tab.wantTold(`"direct"`)
			<-done

			if got := tab.ask(`{"subscribe":"invoice.>"}`, ""); got != 1.0 {
				t.Errorf("subscribe: %v", got)
			}
			tab.act("publish", `{"topic":"invoice.paid","data":7}`, "[1,1]")
			tab.wantAll(`{"heard":["invoice.paid",7]}`, `{"archived":7}`)
			write(t, mail, "one", tab.page)
			tab.wantTold(`"program"`)
			tab.wantAll(`{"heard":["invoice.program","one"]}`, `{"archived":"one"}`)

			tab.act("login", `{"user":"anna"}`, `["anna"]`)
			if f := tab.numbered(); f["close"] != 3008.0 {
				t.Fatalf("after the login: %v", f)
			}
			if h := tab.dial(); h["resumed"] != true {
				t.Errorf("hello after the login: %v", h)
			}
			tab.act("user", `{"user":"anna"}`, "[1,1,null]")
			tab.wantTold(`"user"`)
		})
	}
}

func TestAPageOfAFrameworkOutlivesItsWorker(t *testing.T) {
	for _, framework := range []string{"flask", "fastapi"} {
		t.Run(framework, func(t *testing.T) {
			s, _ := live(t, framework)
			b := s.browser()
			res, err := b.client.Get(s.url + "/html")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Body.Close() }()
			id, err := io.ReadAll(res.Body)
			if err != nil || len(id) != 22 || len(res.Cookies()) != 1 {
				t.Fatalf("new_page gave %q with cookies %v: %v", id, res.Cookies(), err)
			}
			tab := b.connect(string(id))
			tab.wantTold(`{"opened":{"room":2},"reopened":false}`)
			if got := tab.ask(`{"subscribe":"invoice.*"}`, ""); got != 1.0 {
				t.Errorf("subscribe: %v", got)
			}
			if got := tab.ask(`{"kill":1}`, ""); got != "lost" {
				t.Errorf("kill: %v", got)
			}
			tab.wantTold(`{"opened":{"room":2},"reopened":true}`)
			if got := tab.ask(`{}`, ""); got != 1.0 {
				t.Errorf("the object that took its place counts %v", got)
			}
			// Functions hear again as soon as the new worker has said so, pages all the time.
			tab.act("publish", `{"topic":"invoice.paid","data":8}`, "[1,1]")
			tab.wantAll(`{"heard":["invoice.paid",8]}`, `{"archived":8}`)
		})
	}
}
