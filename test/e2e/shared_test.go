package e2e

import (
	"fmt"
	"testing"

	"github.com/guado-server/guado/test/harness"
)

// Two tabs of a browser have a store of their user, as Python wrote it, and write it; the worker
// is killed in between.
func TestTabsHaveWhatIsSharedWithThemAndWriteIt(t *testing.T) {
	s := harness.Start(t, harness.Options{Config: fmt.Sprintf(`
[server]
listen = ["127.0.0.1:0"]
phase = 5
state_dir = %[1]q
[[app]]
name = "shop"
target = "shared_app:app"
dir = %[2]q
python = %[3]q
[[mount]]
app = "shop"
`, t.TempDir(), harness.Apps(), harness.Python(t, "newest"))})
	tabs := newTabs(t, s.URL+"/", 2)
	do := func(b *tab, what string) {
		t.Helper()
		b.run(fmt.Sprintf(`fetch("/", { method: "POST", headers: { "guado-page": page.id }, body: %q }).then((r) => done.push(r.status)), true`, what))
	}
	for _, b := range tabs {
		b.script("")
		b.run(`window.done = [], window.heard = [], page.onChange("seen", (c) => heard.push(c.path.join(".")), { store: "user" }), true`)
	}
	do(tabs[0], `{"of":"","set":{"seen":{"n":1}}}`)
	tabs[0].becomes(`done.at(-1) === 200`)
	for _, b := range tabs {
		do(b, `{"share":{"seen":{"of":"","write":true}}}`)
		b.becomes(`page.get("seen.n", { store: "user" }) === 1`)
	}
	tabs[1].run(`page.set("seen.at", new Date(0), { store: "user" }).then(() => done.push("written")), true`)
	tabs[1].becomes(`done.at(-1) === "written" && page.get("seen.at", { store: "user" }).type === "datetime"`)
	tabs[0].becomes(`String(page.get("seen.at", { store: "user" })) === "1970-01-01T00:00:00+00:00"`)
	do(tabs[0], `{"die":1}`)
	tabs[0].becomes(`done.at(-1) === 502`)
	do(tabs[0], `{"of":"","set":{"seen.n":2}}`)
	for _, b := range tabs {
		b.becomes(`page.get("seen.n", { store: "user" }) === 2`)
	}
	if got := tabs[0].run(`heard.join()`) + " " + tabs[1].run(`heard.join()`); got != "seen,seen.at,seen.n seen,seen.n" {
		t.Errorf("the tabs have heard of %s", got)
	}
	tabs[1].run(`page.delete("nothing").catch((e) => done.push(e.code)), true`)
	tabs[1].becomes(`done.at(-1) === "not_shared"`)
}
