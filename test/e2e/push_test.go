package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/guado-server/guado/test/harness"
)

// pushRig is a server of pages behind a network that can be cut.
type pushRig struct {
	t      *testing.T
	config string
	dir    string
	server *harness.Server
	net    *harness.Network
	admin  *http.Client
}

const (
	pushedMessages = 10_000
	pushPatience   = 90 * time.Second
)

func startPushRig(t *testing.T, more ...string) *pushRig {
	t.Helper()
	dir := t.TempDir()
	r := &pushRig{t: t, dir: dir, config: filepath.Join(dir, "guado.toml")}
	text := fmt.Sprintf(`
[server]
listen = ["127.0.0.1:0"]
phase = 3
state_dir = %[1]q
[admin]
socket = %[2]q
push_socket = %[3]q
[[app]]
name = "tabs"
kind = "wsgi"
target = "pushed:app"
dir = %[4]q
python = %[5]q
[[mount]]
app = "tabs"
[[program]]
name = "pusher"
group = "tabs"
command = ["python", "pusher.py", "0", "%[6]d"]
autostart = false
restart = "never"
`, filepath.Join(dir, "state"), filepath.Join(dir, "admin.sock"), filepath.Join(dir, "push.sock"), harness.Apps(), harness.Python(t, "newest"), pushedMessages) + strings.Join(more, "\n")
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.net = harness.NewNetwork(t, r.server.Addr)
	r.admin = &http.Client{Timeout: pushPatience, Transport: &http.Transport{
		DisableKeepAlives: true, // servers come and go
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, "admin.sock"))
		},
	}}
	return r
}

func (r *pushRig) start() {
	r.t.Helper()
	r.server = harness.Start(r.t, harness.Options{File: r.config})
	r.server.WaitLog("worker is ready", time.Minute)
}

// broadcast pushes from outside, by the admin interface.
func (r *pushRig) broadcast(data any) {
	r.t.Helper()
	body, err := json.Marshal(map[string]any{"to": map[string]bool{"all": true}, "data": data})
	if err != nil {
		r.t.Fatal(err)
	}
	res, err := r.admin.Post("http://guado/v1/push", "application/json", bytes.NewReader(body)) //nolint:noctx // the client has a timeout
	if err != nil {
		r.t.Fatal(err)
	}
	text, err := io.ReadAll(res.Body)
	_ = res.Body.Close() // read to its end
	if err != nil || res.StatusCode != http.StatusOK {
		r.t.Fatalf("push: %s %s %v", res.Status, text, err)
	}
}

// tab is a page of a real browser.
type tab struct {
	t   *testing.T
	ctx context.Context
}

func (b *tab) run(script string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, pushPatience)
	defer cancel()
	out, err := chromedp.Run(ctx, chromedp.Evaluate[string]("String("+script+")"))
	if err != nil {
		b.t.Fatalf("%s: %v", script, err)
	}
	return out
}

// becomes waits until an expression is true. It asks itself: what a browser does at each
// frame, it does not do in tabs that nobody sees.
func (b *tab) becomes(expression string) {
	b.t.Helper()
	for deadline := time.Now().Add(pushPatience); b.run("!!window.page && !!("+expression+")") != "true"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("%s; seen %s, states %s", expression, b.run("seen.length"), b.run("JSON.stringify(states)"))
		}
	}
}

const isOpen = `page.state.status === "open"`

// openTabs opens a browser with n tabs of one user.
func openTabs(t *testing.T, url string, n int) (tabs []*tab) {
	t.Helper()
	for i, b := range newTabs(t, url, n) {
		tabs = append(tabs, b)
		tabs[i].becomes(isOpen)
	}
	return tabs
}

// newTabs does so and waits for nothing.
func newTabs(t *testing.T, url string, n int) (tabs []*tab) {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("there is no chromium here: tools/setup.sh browser installs it for root")
	}
	// NoSandbox: chromium's needs a user of its own, and CI runs as root.
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox)
	allocator, closeAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(closeAllocator)
	first, closeBrowser := chromedp.NewContext(allocator)
	t.Cleanup(closeBrowser)
	for i := range n {
		ctx := first
		if i > 0 {
			var closeTab context.CancelFunc
			ctx, closeTab = chromedp.NewContext(first)
			t.Cleanup(closeTab)
		}
		// Without a timeout: a tab ends with the context of its first call.
		if err := chromedp.Do(ctx, chromedp.Navigate(fmt.Sprint(url, "?tab=", i))); err != nil {
			t.Fatal(err)
		}
		tabs = append(tabs, &tab{t, ctx})
	}
	return tabs
}

func each(tabs []*tab, expression string) {
	for _, b := range tabs {
		b.t.Helper()
		b.becomes(expression)
	}
}

// exactly wants the numbers from 0 to n-1, each once and in order, over connections that
// all went on where the one before ended.
func exactly(t *testing.T, tabs []*tab, n int) {
	t.Helper()
	each(tabs, fmt.Sprintf("seen.length >= %d", n))
	for i, b := range tabs {
		if b.run(fmt.Sprintf("seen.length === %d && seen.every((m, i) => m === i)", n)) != "true" {
			t.Errorf("tab %d has %s messages; the first wrong ones are %s", i, b.run("seen.length"),
				b.run("JSON.stringify(seen.map((m, i) => [i, m]).filter(([i, m]) => i !== m).slice(0, 10))"))
		}
		if b.run(`states.every((s) => s.status !== "open" || s.resumed) && snapshots.length === 0`) != "true" {
			t.Errorf("tab %d began anew: %s", i, b.run("JSON.stringify(states)"))
		}
	}
}

// lifecycle freezes a tab, as browsers do with those that nobody has seen for long.
func (b *tab) lifecycle(state page.SetWebLifecycleStateState) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: state}); err != nil {
		b.t.Fatal(err)
	}
}

// window hides the tab's window, or shows it, and waits until the tab knows.
func (b *tab) window(state browser.WindowState, visibility string) {
	b.t.Helper()
	w, err := chromedp.CallBrowser(b.ctx, browser.GetWindowForTarget, browser.GetWindowForTargetParams{TargetID: chromedp.FromContext(b.ctx).Target.TargetID})
	if err != nil {
		b.t.Fatal(err)
	}
	_, err = chromedp.CallBrowser(b.ctx, browser.SetWindowBounds, browser.SetWindowBoundsParams{WindowID: w.WindowID, Bounds: &browser.Bounds{WindowState: state}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.becomes(fmt.Sprintf("document.visibilityState === %q", visibility))
}

func TestEveryTabHasEveryPushOnceAndInOrderWhateverHappens(t *testing.T) {
	r := startPushRig(t)
	tabs := openTabs(t, "http://"+r.net.Addr+"/", 3)
	t.Run("while another process pushes", func(t *testing.T) { r.whileAnotherProcessPushes(t, tabs) })
	if t.Failed() {
		return
	}
	t.Run("the server stops and starts", func(t *testing.T) {
		r.net.Cut() // so that nobody has what is pushed now
		each(tabs, `!(`+isOpen+`)`)
		for i := range 50 {
			r.broadcast(map[string]int{"i": pushedMessages + i})
		}
		r.server.Signal(syscall.SIGTERM)
		if code := r.server.Wait(pushPatience); code != 0 {
			t.Fatalf("exit %d", code)
		}
		r.start()
		r.net.Restore(r.server.Addr)
		each(tabs, isOpen)
		for i := range 50 {
			r.broadcast(map[string]int{"i": pushedMessages + 50 + i})
		}
		exactly(t, tabs, pushedMessages+100)
		tabs[0].run(`page.request("back").then((d) => replies.push(d)), true`)
		tabs[0].becomes(`replies.at(-1)?.data === "back"`)
	})
	if t.Failed() {
		return
	}
	// The two cases in which a client must be told that it did not resume.
	t.Run("more than the tail holds", func(t *testing.T) {
		r.net.Cut()
		each(tabs, `!(`+isOpen+`)`)
		for range 4 {
			r.broadcast(map[string]string{"big": strings.Repeat("x", 100<<10)})
		}
		r.net.Restore(r.server.Addr)
		each(tabs, isOpen+` && page.state.resumed === false && page.state.why === "tail" && snapshots.length === 1`)
		r.broadcast(map[string]int{"i": -1})
		each(tabs, `seen.at(-1) === -1`)
	})
	t.Run("a crash of the server", func(t *testing.T) {
		before := tabs[0].run("page.id")
		r.server.Signal(syscall.SIGKILL)
		r.server.Wait(pushPatience)
		each(tabs, `!(`+isOpen+`)`)
		r.start()
		r.net.Restore(r.server.Addr)
		each(tabs, isOpen+` && page.state.resumed === false && page.state.why === "page"`)
		if tabs[0].run("page.id") == before {
			t.Error("the page of before is still there")
		}
		r.broadcast(map[string]int{"i": -2})
		each(tabs, `seen.at(-1) === -2`)
	})
}

func (r *pushRig) whileAnotherProcessPushes(t *testing.T, tabs []*tab) {
	t.Helper()
	started := exec.CommandContext(t.Context(), harness.Binary(t), "program", "start", "pusher", "--config", r.config)
	if out, err := started.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	at := func(n int, b *tab) { t.Helper(); b.becomes(fmt.Sprintf("seen.length >= %d", n)) }
	cut := func() {
		r.net.Cut()
		// They say so, and try again.
		each(tabs, `page.state.status === "waiting" || page.state.status === "connecting"`)
		r.net.Restore(r.server.Addr)
		each(tabs, isOpen)
	}
	at(500, tabs[0])
	cut()
	at(1500, tabs[0])
	changes := tabs[0].run("states.length")
	for _, pid := range r.server.Workers() {
		if cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err != nil || bytes.Contains(cmdline, []byte("pusher.py")) {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	at(3000, tabs[0])
	if now := tabs[0].run("states.length"); now != changes {
		t.Errorf("the tab noticed that a worker died: %s", tabs[0].run("JSON.stringify(states)"))
	}
	r.server.WaitLog("opened .* again", pushPatience)
	for _, b := range tabs {
		b.run(`page.request("after").then((d) => replies.push(d), (e) => replies.push(e.code)), true`)
	}
	each(tabs, `replies[0]?.data === "after"`)

	tabs[0].window(browser.WindowStateMinimized, "hidden")
	tabs[1].lifecycle(page.SetWebLifecycleStateStateFrozen)
	at(5000, tabs[2])
	r.net.Cut() // which a hidden tab notices, and a frozen one cannot
	tabs[0].becomes(`!(` + isOpen + `)`)
	r.net.Restore(r.server.Addr)
	at(6000, tabs[0])
	tabs[1].lifecycle(page.SetWebLifecycleStateStateActive)
	for _, b := range tabs[:2] {
		b.window(browser.WindowStateMinimized, "hidden")
		b.window(browser.WindowStateNormal, "visible")
	}
	at(7000, tabs[1])
	cut()
	exactly(t, tabs, pushedMessages)
	r.server.WaitLog("pushed "+fmt.Sprint(pushedMessages), pushPatience)
}

func TestPagesOfOtherSitesOpenNothing(t *testing.T) {
	s := startPushRig(t).server
	other := "http://elsewhere.example"
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("asked by hand", func(t *testing.T) {
		for origin, want := range map[string]int{s.URL: 101, other: 403, "http://127.0.0.1": 403, "https://127.0.0.1:" + port + ".example": 403, "null": 403, "http://localhost:" + port: 403} {
			_, err := trySocket(t, s, "/_guado/push", "Origin: "+origin)
			var no *refused
			switch {
			case want == 101 && err != nil:
				t.Errorf("Origin %s: %v", origin, err)
			case want != 101 && (!errors.As(err, &no) || no.status != want || !strings.Contains(no.body, "origin_not_allowed")):
				t.Errorf("Origin %s: %v", origin, err)
			}
		}
		for path, accept := range map[string]string{"/_guado/page": "application/json", "/_guado/push": "text/event-stream"} {
			q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+path, strings.NewReader(`{"path":"/"}`))
			if err != nil {
				t.Fatal(err)
			}
			q.Header.Set("Origin", other)
			q.Header.Set("Accept", accept)
			res, err := http.DefaultClient.Do(q)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close() // only its head counts
			if res.StatusCode != http.StatusForbidden || res.Header.Get("Set-Cookie") != "" {
				t.Errorf("POST %s: %s %v", path, res.Status, res.Header)
			}
		}
	})
	t.Run("by a browser", func(t *testing.T) {
		// To a browser another name of the same machine is another site.
		tabs := openTabs(t, "http://localhost:"+port+"/", 1)
		upgrade := func(host string) string {
			tabs[0].run(`new Promise((done) => {
				window.outcome = undefined;
				const socket = new WebSocket("ws://` + host + `:` + port + `/_guado/push");
				socket.onopen = () => done("open"); socket.onerror = () => done("refused");
			}).then((o) => window.outcome = o), true`)
			tabs[0].becomes(`window.outcome`)
			return tabs[0].run(`window.outcome`)
		}
		if got := upgrade("localhost"); got != "open" {
			t.Errorf("its own site: %s", got)
		}
		if got := upgrade("127.0.0.1"); got != "refused" {
			t.Errorf("another site: %s", got)
		}
	})
}
