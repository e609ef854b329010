package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/guado-server/guado/test/harness"
)

// script opens the page of a document that knows nothing of it.
func (b *tab) script(opening string) {
	b.t.Helper()
	b.run(`import("/_guado/client.js").then(({ open }) => {
		window.states = []; window.seen = []; window.replies = [];
		window.page = open(` + opening + `);
		page.onState((s) => states.push(s));
		page.onMessage((m) => seen.push(m));
	}), true`)
	b.becomes(isOpen)
}

func TestTabsOfABrowserShareItsCookiesAndNoPage(t *testing.T) {
	dir := t.TempDir()
	s := harness.Start(t, harness.Options{Config: fmt.Sprintf(`
[server]
listen = ["127.0.0.1:0"]
phase = 3
state_dir = %[1]q
[admin]
socket = "%[1]s/admin.sock"
[[app]]
name = "shop"
target = "pages_flask:app"
dir = %[2]q
python = %[3]q
[[mount]]
app = "shop"
`, dir, harness.Apps(), harness.Python(t, "newest"))})
	tabs := newTabs(t, s.URL+"/", 2)
	first, second := tabs[0], tabs[1]
	first.script("")

	// The session of the application is a cookie, which no script sees and no socket sets.
	for i := 1; i <= 3; i++ {
		first.run(`page.request({}, { to: "/count" }).then((d) => replies.push(d)), true`)
		first.becomes(fmt.Sprintf(`replies.length === %d && replies.at(-1) === %d`, i, i))
	}
	first.run(`fetch("/whoami", { method: "POST", headers: { "content-type": "application/json" }, body: "{}" }).then((r) => r.json()).then((d) => replies.push(d.visits)), true`)
	first.becomes(`replies.at(-1) === 3 && replies.length === 4`)

	// A tab that was duplicated has the document of the other one, and its page's id.
	id := first.run("page.id")
	second.script(fmt.Sprintf(`undefined, undefined, { page: %q }`, id))
	if second.run("page.id") == id || second.run(`states.at(-1).why`) != "page" {
		t.Errorf("the other tab of page %s has %s: %s", id, second.run("page.id"), second.run("JSON.stringify(states)"))
	}
	if first.run("page.id") != id || first.run("states.length") != "2" {
		t.Errorf("the first tab noticed it: %s", first.run("JSON.stringify(states)"))
	}
	for _, b := range tabs {
		b.run(`page.request({}, { to: "/whoami" }).then((d) => replies.push(d.page)), true`)
		b.becomes(`replies.at(-1) === page.id`)
	}

	// It is loaded again: its page ends, as with a tab that is closed.
	type listed struct{ Page string }
	pages := func() []listed {
		c := http.Client{Timeout: pushPatience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, "admin.sock"))
		}}}
		res, err := c.Get("http://guado/v1/pages") //nolint:noctx // it has a timeout
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		var all struct{ Pages []listed }
		if err := json.NewDecoder(res.Body).Decode(&all); err != nil {
			t.Fatal(err)
		}
		return all.Pages
	}
	if n := len(pages()); n != 2 {
		t.Errorf("%d pages of two tabs", n)
	}
	second.run("location.reload(), true")
	for deadline := time.Now().Add(pushPatience); len(pages()) != 1; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the pages are %v", pages())
		}
	}
	if left := pages(); left[0].Page != id {
		t.Errorf("left is %v", left)
	}
}
