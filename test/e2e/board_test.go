package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/guado-server/guado/test/harness"
)

// boardTab is a tab that has the board open.
type boardTab struct {
	t   *testing.T
	ctx context.Context
}

// run runs JavaScript in the tab and gives what it says.
func (b *boardTab) run(script string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	out, err := chromedp.Run(ctx, chromedp.Evaluate[string]("String("+script+")"))
	if err != nil {
		b.t.Fatalf("%s: %v", script, err)
	}
	return out
}

// becomes waits until an expression has a value. It asks itself: what a browser does at
// each frame, it does not do in tabs that nobody sees.
func (b *boardTab) becomes(script, want string) {
	b.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		got := b.run(script)
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%s is %q, not %q; the tab is %s", script, got, want, b.run(boardStatus))
		}
	}
}

const (
	boardStatus = `document.body.dataset.status`
	boardPeople = `document.querySelectorAll("#people li").length`
	// boardNotes tells all that can be seen of the notes.
	boardNotes = `JSON.stringify([...document.querySelectorAll(".note")].map((n) => [n.dataset.id, n.querySelector("textarea").value,
		n.style.getPropertyValue("--colour"), (+n.style.getPropertyValue("--x")).toFixed(3), (+n.style.getPropertyValue("--y")).toFixed(3)]).sort())`
	firstNote = `document.querySelector(".note")`
)

func (b *boardTab) key(note, name string) {
	b.t.Helper()
	b.run(note + `.dispatchEvent(new KeyboardEvent("keydown", { key: "` + name + `", bubbles: true }))`)
}

// drag pulls the first note with the mouse.
func (b *boardTab) drag(right, down int) {
	b.t.Helper()
	b.run(fmt.Sprintf(`(() => {
		const n = %s, box = n.getBoundingClientRect(), x = box.left + 20, y = box.top + 5;
		const fire = (to, type, x, y) => to.dispatchEvent(new PointerEvent(type, { clientX: x, clientY: y, button: 0, bubbles: true }));
		fire(n, "pointerdown", x, y);
		for (let i = 1; i <= 10; i++) fire(document.getElementById("board"), "pointermove", x + %d * i / 10, y + %d * i / 10);
		fire(document.getElementById("board"), "pointerup", x + %[2]d, y + %[3]d);
	})()`, firstNote, right, down))
}

// settled waits until all tabs show the same, and gives it.
func settled(t *testing.T, tabs ...*boardTab) string {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		var shown []string
		same := true
		for _, b := range tabs {
			shown = append(shown, b.run(boardNotes))
			same = same && shown[0] == shown[len(shown)-1]
		}
		if same {
			return shown[0]
		}
		if time.Now().After(deadline) {
			t.Fatalf("the tabs show different boards: %s", strings.Join(shown, "\n"))
		}
	}
}

// boardServer serves the example; it can be stopped and started again.
func boardServer(t *testing.T) (start func() *harness.Server) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	config := fmt.Sprintf(`
[server]
listen = [%q]
phase = 3
state_dir = %q
[[app]]
name = "board"
target = "app:app"
dir = %q
python = %q
env = { BOARD_DATA = %q }
[[mount]]
path = "/board"
app = "board"
`, addr, filepath.Join(data, "state"), filepath.Join(harness.Root(), "examples", "board"), harness.Python(t, "newest"), data)
	return func() *harness.Server { return harness.Start(t, harness.Options{Config: config}) }
}

func openBoards(t *testing.T, url string, n int) (tabs []*boardTab) {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("there is no chromium here: tools/setup.sh browser installs it for root")
	}
	// NoSandbox: chromium's needs a user of its own, and CI runs as root.
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WindowSize(1200, 800))
	allocator, closeAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(closeAllocator)
	browser, closeBrowser := chromedp.NewContext(allocator)
	t.Cleanup(closeBrowser)
	for i := range n {
		tab := browser
		if i > 0 {
			var closeTab context.CancelFunc
			tab, closeTab = chromedp.NewContext(browser)
			t.Cleanup(closeTab)
		}
		// Without a timeout: a tab ends with the context of its first call.
		if err := chromedp.Do(tab, chromedp.Navigate(url)); err != nil {
			t.Fatal(err)
		}
		b := &boardTab{t, tab}
		b.becomes(boardStatus, "open")
		tabs = append(tabs, b)
	}
	return tabs
}

// boards is two tabs and their server.
type boards struct {
	start    func() *harness.Server
	s        *harness.Server
	ada, bob *boardTab
	tabs     []*boardTab
}

// step runs a part, whose tabs fail it and not the whole.
func (b *boards) step(t *testing.T, name string, part func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		for _, tab := range b.tabs {
			tab.t = t
		}
		part(t)
	})
}

func TestEveryTabOfTheBoardSeesEveryMove(t *testing.T) {
	b := &boards{start: boardServer(t)}
	b.s = b.start()
	b.tabs = openBoards(t, b.s.URL+"/board/", 2)
	b.ada, b.bob = b.tabs[0], b.tabs[1]
	for _, tab := range b.tabs {
		tab.becomes(boardPeople, "2")
		tab.becomes(`!document.getElementById("hint").hidden`, "true")
	}

	b.ada.run(`document.getElementById("board").dispatchEvent(new PointerEvent("pointermove", { clientX: 600, clientY: 400, bubbles: true }))`)
	b.bob.becomes(`document.querySelectorAll(".cursor.seen").length`, "1")

	b.ada.run(`document.getElementById("add").click()`)
	b.bob.becomes(`document.querySelectorAll(".note").length`, "1")
	b.ada.becomes(`document.activeElement.tagName`, "TEXTAREA")
	b.ada.run(`(() => { const a = document.activeElement; a.value = "<b>é</b> & \u{1F98A}"; a.dispatchEvent(new Event("input")); })()`)
	b.bob.becomes(firstNote+`.querySelector("textarea").value`, `<b>é</b> & 🦊`)
	b.bob.run(firstNote + `.querySelectorAll(".tools button")[4].click()`)
	b.ada.becomes(firstNote+`.style.getPropertyValue("--colour")`, "var(--violet)")
	before := settled(t, b.tabs...)
	b.bob.drag(-120, 90)
	b.ada.becomes(boardNotes+` !== `+fmt.Sprintf("%q", before), "true")
	settled(t, b.tabs...)

	b.step(t, "what a view adds is there at once", b.viewAdds)
	b.step(t, "a worker that is killed takes nothing with it", b.workerIsKilled)
	b.step(t, "a stop and a start are seen and lose nothing", b.serverRestarts)
	b.step(t, "a server that is killed makes them begin anew, with what is on the board", b.serverIsKilled)
	b.step(t, "a tab that is closed has left", b.tabIsClosed)
}

func (b *boards) viewAdds(t *testing.T) {
	res, err := http.Post(b.s.URL+"/board/lobby/notes", "text/plain", strings.NewReader("from a view")) //nolint:noctx // answered at once
	if err != nil {
		t.Fatal(err)
	}
	if _ = res.Body.Close(); res.StatusCode != 201 {
		t.Fatal(res.Status)
	}
	for _, tab := range b.tabs {
		tab.becomes(`document.querySelectorAll(".note").length`, "2")
	}
}

func (b *boards) workerIsKilled(t *testing.T) {
	for _, pid := range b.s.Workers() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	before := settled(t, b.tabs...)
	b.ada.key(firstNote, "ArrowDown") // its last word comes after the worker's end, and waits for the next one
	b.bob.becomes(boardNotes+` !== `+fmt.Sprintf("%q", before), "true")
	settled(t, b.tabs...)
	for _, tab := range b.tabs {
		tab.becomes(boardStatus, "open")
		tab.becomes(boardPeople, "2")
	}
}

func (b *boards) serverRestarts(t *testing.T) {
	before := settled(t, b.tabs...)
	b.s.Signal(syscall.SIGTERM)
	if code := b.s.Wait(time.Minute); code != 0 {
		t.Fatalf("exit %d", code)
	}
	for _, tab := range b.tabs {
		tab.becomes(boardStatus+` !== "open"`, "true")
	}
	b.ada.key(firstNote, "ArrowRight") // waits in the tab
	b.s = b.start()
	for _, tab := range b.tabs {
		tab.becomes(boardStatus, "open")
	}
	b.bob.becomes(boardNotes+` !== `+fmt.Sprintf("%q", before), "true")
	settled(t, b.tabs...)
	for _, tab := range b.tabs {
		tab.becomes(boardPeople, "2")
		tab.becomes(`document.getElementById("toast").textContent`, "")
	}
}

func (b *boards) serverIsKilled(t *testing.T) {
	before := settled(t, b.tabs...)
	b.s.Signal(syscall.SIGKILL)
	b.s.Wait(time.Minute)
	for _, tab := range b.tabs {
		tab.becomes(boardStatus+` !== "open"`, "true")
	}
	b.s = b.start()
	for _, tab := range b.tabs {
		tab.becomes(boardStatus, "open")
		tab.becomes(boardPeople, "2")
	}
	if after := settled(t, b.tabs...); after != before {
		t.Errorf("the board is %s, and was %s", after, before)
	}
	b.ada.key(firstNote, "ArrowLeft")
	b.bob.becomes(boardNotes+` !== `+fmt.Sprintf("%q", before), "true")
	settled(t, b.tabs...)
}

func (b *boards) tabIsClosed(t *testing.T) {
	b.bob.run(`dispatchEvent(new PageTransitionEvent("pagehide", { persisted: false }))`)
	b.ada.becomes(boardPeople, "1")
	b.ada.key(firstNote, "Delete")
	b.ada.becomes(`document.querySelectorAll(".note").length`, "1")
}
