package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// A document of another origin of the same site: another port.
const elsewhere = `<!doctype html><meta charset="utf-8"><title>elsewhere</title><script type="module">
import { open } from "%[1]s/_guado/client.js";
window.seen = []; window.states = []; window.replies = [];
const transport = location.search === "?tab=0" ? "websocket" : "sse";
window.page = open("Tab", {}, { url: "%[1]s/_guado/push", transport });
page.onMessage((m) => seen.push(m.i));
page.onState((s) => states.push(s));
</script>`

func TestADocumentOfAnotherOriginIsPushedToOverEachTransport(t *testing.T) {
	var server atomic.Value
	documents := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, elsewhere, server.Load())
	}))
	defer documents.Close()
	r := startPushRig(t, fmt.Sprintf("[push]\norigins = [%q]\n", documents.URL))
	server.Store(r.server.URL)
	tabs := openTabs(t, documents.URL+"/", 2)
	for i := range 3 {
		r.broadcast(map[string]int{"i": i})
	}
	exactlyThese := `seen.join() === "0,1,2"`
	each(tabs, exactlyThese)
	for i, transport := range []string{"websocket", "sse"} {
		tabs[i].run(`page.request("from elsewhere").then((d) => replies.push(d)), true`)
		tabs[i].becomes(fmt.Sprintf(`replies[0]?.data === "from elsewhere" && page.state.transport === %q`, transport))
	}
}
