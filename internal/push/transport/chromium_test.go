package transport_test

import (
	"context"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/push"
	"github.com/guado-server/guado/js"
)

// document is the page of a test: it keeps what it gets.
const document = `<!doctype html><title>push</title><script type="module">
import { connect } from "/client.js";
window.seen = []; window.states = []; window.replies = [];
window.page = connect({ page: location.hash.slice(1) });
page.onMessage((m) => seen.push(m));
page.onState((s) => states.push(s));
</script>`

// site serves the page and the client beside push.
func site(next exchange.Handler) exchange.Handler {
	files := map[string][2]string{"/": {"text/html", document}, "/client.js": {"text/javascript", string(js.Client)}}
	return exchange.HandlerFunc(func(x *exchange.Exchange) {
		file, ok := files[string(x.Path)]
		if !ok {
			next.Serve(x)
			return
		}
		head := exchange.Head{Status: 200, Length: int64(len(file[1])), Fields: []exchange.Field{{Name: []byte("Content-Type"), Value: []byte(file[0])}}}
		if x.Answer.Head(head) == nil {
			_, _ = x.Answer.Write([]byte(file[1])) // the browser complains
		}
	})
}

// run runs JavaScript in a tab and gives what it says.
func run[T any](t *testing.T, tab context.Context, script string) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(tab, patience)
	defer cancel()
	out, err := chromedp.Run(ctx, chromedp.Evaluate[T](script))
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return out
}

// becomes waits until an expression is true in a tab. It asks itself: what a browser does
// at each frame, it does not do in tabs that nobody sees.
func becomes(t *testing.T, tab context.Context, expression string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(tab, 2*patience)
	defer cancel()
	deadline := time.Now().Add(patience)
	for {
		// An error is that the tab is between two documents.
		is, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!(window.page && ("+expression+"))"))
		if is {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v; states: %v", expression, err, run[string](t, tab, "JSON.stringify(window.states)"))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestTabsOfARealBrowserGetEveryMessageOnceAndInOrder(t *testing.T) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("there is no chromium here: tools/setup.sh browser installs it for root")
	}
	r := start(t, push.Options{Window: 20 * time.Millisecond, TailBytes: 8 << 20})
	// NoSandbox: chromium's needs a user of its own, and CI runs as root.
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox)
	allocator, closeAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	defer closeAllocator()
	browser, closeBrowser := chromedp.NewContext(allocator)
	defer closeBrowser()
	var tabs []context.Context
	for i := range 3 {
		page := fmt.Sprint("tab", i)
		r.open(page, push.Owner{User: "ada"})
		tab := browser
		if i > 0 {
			var closeTab context.CancelFunc
			tab, closeTab = chromedp.NewContext(browser)
			defer closeTab()
		}
		// Without a timeout: a tab ends with the context of its first call.
		if err := chromedp.Do(tab, chromedp.Navigate("http://"+r.front.addr()+"/#"+page)); err != nil {
			t.Fatal(err)
		}
		tabs = append(tabs, tab)
		becomes(t, tab, `page.state.status === "open"`)
	}
	const n = 900
	for i := range n {
		for tab := range tabs {
			r.push(fmt.Sprint("tab", tab), i)
		}
		switch i % 300 {
		case 100:
			r.front.cut()
			r.await("opened tab1")
		case 200:
			r.restart()
		}
	}
	for _, tab := range tabs {
		becomes(t, tab, fmt.Sprintf("seen.length >= %d", n))
		if !run[bool](t, tab, fmt.Sprintf("seen.length === %d && seen.every((m, i) => m === i)", n)) {
			t.Errorf("a tab got %s", run[string](t, tab, "JSON.stringify(seen)"))
		}
		if !run[bool](t, tab, `states.every((s) => s.status !== "open" || s.resumed && s.transport === "websocket")`) {
			t.Errorf("a tab began anew: %s", run[string](t, tab, "JSON.stringify(states)"))
		}
	}
	run[bool](t, tabs[2], `page.request({ from: "the browser" }).then((d) => replies.push(d)), true`)
	becomes(t, tabs[2], `replies[0]?.from === "the browser"`)

	// A tab that goes elsewhere lies in the back/forward cache: it comes back to what it
	// has missed. Its connection is not kept meanwhile.
	ctx, cancel := context.WithTimeout(tabs[2], 2*patience)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatal(err)
	}
	r.await("away tab2")
	r.push("tab2", n)
	run[bool](t, tabs[2], "history.back(), true") // chromedp's own waits for a load, and there is none
	becomes(t, tabs[2], fmt.Sprintf("seen.length === %d && seen[%d] === %d", n+1, n, n))
	if !run[bool](t, tabs[2], `states.some((s) => s.status === "paused")`) {
		t.Error("it was not in the cache")
	}
}
