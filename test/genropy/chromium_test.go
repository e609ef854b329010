package genropy

import (
	"context"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// inChromium loads the first page of both and compares what the console says.
func inChromium(t *testing.T, ours, theirs *stack) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("there is no chromium here: tools/setup.sh browser installs it for root")
	}
	// Under gunicorn, nobody passes /websocket on: there the page goes without.
	known := render(t, path, theirs)
	connected := chromedp.Poll[chromedp.Void](`genro.wsk.socket.readyState === WebSocket.OPEN`, chromedp.WithPollingTimeout(patience))
	for _, trouble := range render(t, path, ours, connected) {
		if !slices.Contains(known, trouble) {
			t.Errorf("the console says what it does not say under gunicorn: %s", trouble)
		}
	}
}

// login is a part of the first page that its script makes, after several calls.
const login = chromedp.CSS(`.dijitDialog input[type=password]`)

// render loads the first page, waits until it and what else it should come to is
// there, and gives what the console holds for errors.
func render(t *testing.T, path string, s *stack, more ...chromedp.Action[chromedp.Void]) []string {
	t.Helper()
	// NoSandbox: chromium's needs a user of its own, and CI runs as root.
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WindowSize(1200, 800))
	allocator, closeAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	defer closeAllocator()
	tab, closeTab := chromedp.NewContext(allocator)
	defer closeTab()

	listening, stop := context.WithCancel(tab)
	defer stop()
	console := chromedp.Console(listening) // starts the browser
	said := make(chan []string, 1)
	go func() {
		var troubles []string
		for m, err := range console {
			if err != nil {
				break
			}
			if m.IsException() || m.Type == "error" || m.Type == "assert" {
				troubles = append(troubles, strings.ReplaceAll(m.Text, s.url, "URL"))
			}
		}
		said <- troubles
	}()
	limited, cancel := context.WithTimeout(tab, 2*patience)
	defer cancel()
	steps := append([]chromedp.Action[chromedp.Void]{chromedp.Navigate(s.url + "/"), chromedp.WaitVisible(login)}, more...)
	err := chromedp.Do(limited, steps...)
	stop()
	troubles := <-said
	if err != nil {
		t.Fatalf("%s: %v; the console: %q", s.name, err, troubles)
	}
	t.Logf("%s: the console: %q", s.name, troubles)
	return troubles
}
