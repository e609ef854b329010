package e2e

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/guado-server/guado/test/harness"
)

// startChanging starts a server whose pages change the user of their browser.
func startChanging(t *testing.T) *harness.Server {
	t.Helper()
	s := harness.Start(t, harness.Options{Config: fmt.Sprintf(`
[server]
listen = ["127.0.0.1:0"]
phase = 3
state_dir = %q
[[app]]
name = "changing"
target = "changing:app"
dir = %q
python = %q
`, filepath.Join(t.TempDir(), "state"), harness.Apps(), harness.Python(t, "newest"))})
	s.WaitLog("worker is ready", time.Minute)
	return s
}

// Another user comes while two tabs are open, both of which load their documents anew as soon
// as they hear of their end.
func TestTabsThatLoadAnewAtTheirEndAreOfTheNewUser(t *testing.T) {
	tabs := openTabs(t, startChanging(t).URL+"/", 2)
	as := func(user string) {
		tabs[0].run(`page.request({ user: "` + user + `" }, { to: "/as" }), true`)
	}
	who := func(b *tab, want string) {
		t.Helper()
		b.becomes(isOpen)
		b.run(`page.request({}, { to: "/who" }).then((said) => replies.push(said), (e) => replies.push(e.code)), true`)
		b.becomes(fmt.Sprintf(`replies.at(-1) === %q`, want))
	}
	as("ada")
	for _, b := range tabs {
		b.becomes(`replies.at(-1) === "ada" || (page.state.status === "open" && page.request({}, { to: "/who" }).then((said) => replies.push(said), () => {}), false)`)
		b.run(`page.onState((s) => s.status === "ended" && location.reload()), true`)
	}
	as("bob")
	for _, b := range tabs {
		b.becomes(`window.user === "bob"`)
		who(b, "bob")
	}
}

// A page of a real browser logs out, and changes the user, by a request over its session,
// and loads its document anew as soon as it has the reply.
func TestABrowserIsWhoItsPageSaysByARequestOverEachTransport(t *testing.T) {
	s := startChanging(t)
	for i, transport := range []string{"websocket", "sse"} {
		// A browser each: its user is another.
		tabs := newTabs(t, s.URL+"/", i+1)
		b := tabs[i]
		if i > 0 {
			if err := chromedp.Do(tabs[0].ctx, chromedp.Navigate("about:blank")); err != nil {
				t.Fatal(err)
			}
		}
		for _, to := range []string{"ada", "bob", "", "ada", ""} {
			b.becomes(isOpen + ` && page.state.transport === "` + transport + `"`)
			name := to
			if to == "" {
				name = "guest"
			}
			b.run(`page.request({ user: "` + to + `" }, { to: "/as" }).then((said) => { sessionStorage.said = said; location.reload(); }, (e) => replies.push(e.code)), true`)
			b.becomes(fmt.Sprintf(`sessionStorage.said === %[1]q && window.user === %[1]q && %s`, name, isOpen))
			b.run(`page.request({}, { to: "/who" }).then((said) => replies.push(said), (e) => replies.push(e.code)), true`)
			b.becomes(fmt.Sprintf(`replies[0] === %q`, name))
			if got := b.run(`states.filter((s) => s.status === "ended" || s.code === 3502).length`); got != "0" {
				t.Errorf("%s, as %s: states %s", transport, name, b.run("JSON.stringify(states)"))
			}
		}
		// Who does not load it anew is told of the end, after the reply.
		b.run(`page.request({ user: "eve" }, { to: "/as" }).then(() => replies.push("eve")), true`)
		b.becomes(`replies.includes("eve")`)
		b.run(`page.onState((s) => replies.push(s.status)), page.request({ user: "" }, { to: "/as" }).then((said) => replies.push(said)), true`)
		b.becomes(`replies.includes("ended")`)
		if got := b.run(`replies.slice(-2).join()`); got != "guest,ended" || b.run("page.state.code") != "3504" {
			t.Errorf("%s: at the end %s, %s", transport, b.run("replies.join()"), b.run("JSON.stringify(page.state)"))
		}
	}
}
