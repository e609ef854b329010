package guado_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/guado-server/guado"
	"github.com/guado-server/guado/test/harness"
)

// eventSite is a server with a Flask application, of two workers, and an ASGI one, which
// has the page classes. What functions hear is in the file "heard" of dir.
func eventSite(t *testing.T, dir, more string) *site {
	t.Helper()
	env := fmt.Sprintf("[app.env]\nHEARD = %q\n", filepath.Join(dir, "heard"))
	return pagesSite(t, dir, "target = \"events_asgi:app\"\nkind = \"asgi\"\nstate = true\n"+env+
		fmt.Sprintf("[[app]]\nname = \"flask\"\ntarget = \"events_flask:app\"\nworkers = 2\ndir = %q\npython = %q\n", harness.Apps(), harness.Python(t, "newest"))+env+
		"[[mount]]\npath = \"/\"\napp = \"shop\"\n[[mount]]\npath = \"/flask\"\napp = \"flask\"\n"+more)
}

// heard waits for so many lines of what functions have heard.
func heard(t *testing.T, dir string, n int) []string {
	t.Helper()
	var lines []string
	eventually(t, fmt.Sprintf("%d events are heard", n), func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "heard"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		lines = strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
		return len(lines) >= n
	})
	return lines
}

// publish has the Flask application publish numbers.
func (b *browser) publish(topic string, first, end int) (pages, workers int) {
	b.s.t.Helper()
	status, text := b.post("/flask/publish", fmt.Sprintf(`{"topic":%q,"first":%d,"end":%d}`, topic, first, end))
	var got struct{ Pages, Workers int }
	if err := json.Unmarshal([]byte(text), &got); err != nil || status != 200 {
		b.s.t.Fatalf("publish: %d %s", status, text)
	}
	return got.Pages, got.Workers
}

func TestAnEventOfAFlaskApplicationReachesPagesAndFunctionsOfAll(t *testing.T) {
	dir := t.TempDir()
	s := eventSite(t, dir, "")
	b := s.browser()
	till, window, plain := b.tab(`{"path":"/","class":"Till"}`), b.tab(`{"path":"/","class":"Window"}`), b.tab(`{"path":"/flask"}`)
	for _, tab := range []*tab{till, window} {
		if got := tab.ask(`1`, ""); got != "ready" { // on_open has subscribed by then
			t.Fatalf("the page says %v", got)
		}
	}
	for topic, want := range map[string]string{"*.paid": `"ok"`, "a..b": `"no topic"`} {
		if status, text := b.post("/flask/subscribe", fmt.Sprintf(`{"page":%q,"topic":%q}`, plain.page, topic)); status != 200 || strings.TrimSpace(text) != want {
			t.Errorf("subscribe %s: %d %s", topic, status, text)
		}
	}
	if _, text := b.post("/flask/subscribe", `{"page":"unknown","topic":"a"}`); strings.TrimSpace(text) != `"no_page"` {
		t.Errorf("a page that there is not: %s", text)
	}
	const events = 100
	if pages, workers := b.publish("invoice.paid", 0, events); pages != 3 || workers != 2 {
		t.Errorf("%d pages and %d applications got it", pages, workers)
	}
	for n := range events {
		if f := till.numbered()["m"].(map[string]any); f["till"] != "invoice.paid" || f["n"] != float64(n) {
			t.Fatalf("event %d came to the class as %v", n, f)
		}
		for _, tab := range []*tab{window, plain} {
			if f := tab.numbered()["m"].(map[string]any); f["topic"] != "invoice.paid" || f["data"] != float64(n) {
				t.Fatalf("event %d came to the client as %v", n, f)
			}
		}
	}
	// Each application heard each event once and in order, though Flask has two workers.
	lines := heard(t, dir, 2*events)
	for _, app := range []string{"flask", "asgi"} {
		var mine []string
		for _, line := range lines {
			if strings.HasPrefix(line, app+" ") {
				mine = append(mine, line)
			}
		}
		for n, line := range mine {
			if line != fmt.Sprintf("%s invoice.paid %d", app, n) {
				t.Fatalf("%s heard as number %d: %s", app, n, line)
			}
		}
		if len(mine) != events {
			t.Errorf("%s heard %d events", app, len(mine))
		}
	}
	eventually(t, "the pages are through with all of them", func() bool {
		return !slices.ContainsFunc(s.Pages(), func(p guado.PageStatus) bool {
			return p.Events == nil || p.Events.Delivered != events || p.Events.Queued != 0 || len(p.Events.Topics) == 0
		})
	})
	if st := s.Status().Events; st == nil || st.Published != events || st.Failed != 0 {
		t.Errorf("status %+v", st)
	}
	if pages, workers := b.publish("order.shipped", 0, 1); pages != 0 || workers != 0 {
		t.Errorf("%d pages and %d applications got what nobody subscribed", pages, workers)
	}
}

func TestPagesOfAUserAndAllPagesHearWithoutHavingSubscribed(t *testing.T) {
	s := eventSite(t, t.TempDir(), "")
	anna, other := s.browser(), s.browser()
	if status, text := anna.post("/flask/login", `{"user":"anna.rossi"}`); status != 200 {
		t.Fatalf("login: %d %s", status, text)
	}
	hers, till, his := anna.tab(`{"path":"/flask"}`), anna.tab(`{"path":"/","class":"Till"}`), other.tab(`{"path":"/"}`)
	if got := till.ask(`1`, ""); got != "ready" {
		t.Fatalf("the page says %v", got)
	}
	if pages, _ := anna.publish("user.anna.rossi.notify", 0, 1); pages != 2 {
		t.Errorf("%d pages got it", pages)
	}
	if pages, _ := anna.publish("system.broadcast", 1, 2); pages != 3 {
		t.Errorf("%d pages got it", pages)
	}
	for n, topic := range []string{"user.anna.rossi.notify", "system.broadcast"} {
		if f := hers.numbered()["m"].(map[string]any); f["topic"] != topic || f["data"] != float64(n) {
			t.Errorf("her page got %v", f)
		}
		if f := till.numbered()["m"].(map[string]any); f["till"] != topic || f["n"] != float64(n) {
			t.Errorf("her page with a class got %v", f)
		}
	}
	if f := his.numbered()["m"].(map[string]any); f["topic"] != "system.broadcast" {
		t.Errorf("his page got %v", f)
	}
}

func TestEventsForFunctionsWaitWhileTheirWorkerIsAnother(t *testing.T) {
	dir := t.TempDir()
	s := eventSite(t, dir, "")
	b := s.browser()
	b.publish("invoice.broken", 0, 1) // which changes nothing for the next
	heard(t, dir, 2)
	for _, g := range s.Status().Groups {
		if g.Name == "shop" {
			if err := syscall.Kill(g.Workers[0].PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, workers := b.publish("invoice.late", 0, 3); workers != 2 {
		t.Errorf("%d applications get it", workers)
	}
	lines := heard(t, dir, 8)
	for n := range 3 {
		if line := fmt.Sprintf("asgi invoice.late %d", n); !slices.Contains(lines, line) {
			t.Errorf("nobody heard %s", line)
		}
	}
	eventually(t, "the failure is counted", func() bool { return s.Status().Events.Failed >= 1 })
}

func TestAGracefulStopKeepsWhatPagesHaveSubscribed(t *testing.T) {
	dir := t.TempDir()
	s := eventSite(t, dir, "")
	tab := s.browser().tab(`{"path":"/","class":"Till"}`)
	if got := tab.ask(`1`, ""); got != "ready" {
		t.Fatalf("the page says %v", got)
	}
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	again := eventSite(t, dir, "")
	if st := again.Status().Events; st.Subscriptions < 2 {
		t.Errorf("after the start: %+v", st)
	}
	// The page is away; its class hears the event all the same, and its client what that
	// pushed.
	if pages, _ := again.browser().publish("order.paid", 7, 8); pages != 1 {
		t.Errorf("%d pages got it", pages)
	}
	tab.goTo(again)
	tab.dial()
	for {
		f := tab.numbered()
		if m, is := f["m"].(map[string]any); is {
			if m["till"] != "order.paid" || m["n"] != 7.0 {
				t.Errorf("the page got %v", m)
			}
			break
		}
	}
}

// programs has one that pushes when a file is there, and one that only waits.
func programs(t *testing.T, dir string) string {
	t.Helper()
	file := filepath.Join(harness.Apps(), "events_program.py")
	return fmt.Sprintf("[[program]]\nname = \"pusher\"\ngroup = \"shop\"\ncommand = [\"python\", %q, %q, \"go\"]\n"+
		"[[program]]\nname = \"waiter\"\ngroup = \"shop\"\nready = %q\ncommand = [\"python\", %q, %q]\n",
		file, dir, "file:"+filepath.Join(dir, "begun"), file, dir)
}

// tokens gives the tokens of a program's starts, once there are n, and where they are good.
func tokens(t *testing.T, dir, program string, n int) (list []string, socket string) {
	t.Helper()
	eventually(t, fmt.Sprintf("start %d of %s", n, program), func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "tokens"))
		list = nil
		for line := range strings.Lines(string(text)) {
			if words := strings.Fields(line); len(words) == 3 && words[0] == program {
				list, socket = append(list, words[1]), strings.TrimPrefix(words[2], "unix:")
			}
		}
		return err == nil && len(list) >= n
	})
	return list, socket
}

func TestAProgramPushesToTheUsersPageWithATokenOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	s := eventSite(t, dir, programs(t, dir))
	b := s.browser()
	if status, text := b.post("/flask/login", `{"user":"anna"}`); status != 200 {
		t.Fatalf("login: %d %s", status, text)
	}
	tab := b.tab(`{"path":"/flask"}`)
	write(t, dir, "go", "")
	if f := tab.numbered(); fmt.Sprint(f["m"]) != "map[tea:ready]" {
		t.Errorf("the page got %v", f)
	}
	if f := tab.numbered(); fmt.Sprint(f["m"]) != "map[data:look topic:user.anna.notify]" {
		t.Errorf("the page got %v", f)
	}
	eventually(t, "the program knows that it came", func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "result"))
		return err == nil && string(text) == "1 1 1 0"
	})

	before, _ := tokens(t, dir, "waiter", 1)
	for _, p := range s.Status().Programs {
		if p.Name == "waiter" {
			if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	waiter, at := tokens(t, dir, "waiter", 2)
	pusher, _ := tokens(t, dir, "pusher", 1)
	const all = `{"to":{"all":true},"data":"hello"}`
	for _, c := range []struct {
		token, path string
		status      int
	}{
		{before[0], "push", 401}, {waiter[1], "push", 200}, {pusher[0], "push", 200}, {"", "push", 401},
		{pusher[0], "stop", 404}, {pusher[0], "touch", 404}, {pusher[0], "login", 404},
	} {
		if status, text := overSocket(t, at, c.path, all, c.token); status != c.status {
			t.Errorf("%s: %d %s", c.path, status, text)
		}
	}
	seen, err := json.Marshal(s.Status())
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range slices.Concat(waiter, pusher) {
		if strings.Contains(s.log.String(), token) || strings.Contains(string(seen), token) {
			t.Error("a token can be read in the log or the status")
		}
	}
}

// overSocket posts to the interface on a Unix socket.
func overSocket(t *testing.T, socket, path, body, token string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://guado/v1/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	c := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

func TestWhatIsPublishedBeforeAStopIsHeardOrSaidToBeLost(t *testing.T) {
	dir := t.TempDir()
	s := eventSite(t, dir, "")
	const events = 20
	if _, workers := s.browser().publish("invoice.paid", 0, events); workers != 2 {
		t.Fatalf("%d applications get it", workers)
	}
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "heard"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n != 2*events && !strings.Contains(s.log.String(), "events are lost") {
		t.Errorf("%d events of %d were heard, and nobody says so", n, 2*events)
	}
}

func TestWorkersThatAreReplacedHearEachEventOnce(t *testing.T) {
	dir := t.TempDir()
	s := eventSite(t, dir, "")
	b := s.browser()
	text, err := os.ReadFile(filepath.Join(dir, "guado.toml"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "guado.toml", strings.Replace(string(text), "workers = 2", "workers = 2\nthreads = 3", 1))
	reloaded := make(chan error, 1)
	go func() {
		done, err := s.Reload(t.Context())
		if err == nil && !slices.Contains(done.Replaced, "flask") {
			err = fmt.Errorf("replaced: %v", done.Replaced)
		}
		reloaded <- err
	}()
	n := 0
	for over := false; !over; {
		select {
		case err := <-reloaded:
			if err != nil {
				t.Fatal(err)
			}
			over = true
		default:
		}
		if _, workers := b.publish("invoice.paid", n, n+1); workers != 2 {
			t.Errorf("event %d: %d applications get it", n, workers)
		}
		if n++; n%100 == 0 { // so that no queue is full
			heard(t, dir, 2*n)
		}
	}
	times := map[string]int{}
	for _, line := range heard(t, dir, 2*n) {
		times[line]++
	}
	for i := range n {
		for _, app := range []string{"flask", "asgi"} {
			if line := fmt.Sprintf("%s invoice.paid %d", app, i); times[line] != 1 {
				t.Errorf("%q was heard %d times", line, times[line])
			}
		}
	}
}

func TestATaskOfAnExecutorPublishesLikeItsApplication(t *testing.T) {
	dir := t.TempDir()
	s := eventSite(t, dir, "[[executor]]\nname = \"cpu\"\ngroup = \"flask\"\nprocesses = 1\n")
	b := s.browser()
	tab := b.tab(`{"path":"/"}`)
	if status, text := b.post("/flask/executor", `{"topic":"invoice.broadcast","data":5}`); status != 200 || !strings.Contains(text, `"workers":2`) {
		t.Errorf("%d %s", status, text)
	}
	if status, text := b.post("/flask/executor", `{"topic":"system.broadcast","data":6}`); status != 200 || !strings.Contains(text, `"pages":1`) {
		t.Errorf("%d %s", status, text)
	}
	if f := tab.numbered(); fmt.Sprint(f["m"]) != "map[data:6 topic:system.broadcast]" {
		t.Errorf("the page got %v", f)
	}
	heard(t, dir, 2)
}

func TestAnApplicationThatAReloadTakesAwayHearsNoMore(t *testing.T) {
	dir := t.TempDir()
	s := eventSite(t, dir, "")
	b := s.browser()
	if _, workers := b.publish("invoice.paid", 0, 1); workers != 2 {
		t.Fatalf("%d applications get it", workers)
	}
	text, err := os.ReadFile(filepath.Join(dir, "guado.toml"))
	if err != nil {
		t.Fatal(err)
	}
	other := strings.ReplaceAll(strings.ReplaceAll(string(text), `name = "flask"`, `name = "bottle"`), `app = "flask"`, `app = "bottle"`)
	write(t, dir, "guado.toml", other)
	if _, err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, workers := b.publish("invoice.paid", 1, 2); workers != 2 {
		t.Errorf("after the reload %d applications get it", workers)
	}
	lines := heard(t, dir, 4)
	if n := len(lines); n != 4 {
		t.Errorf("heard %q", lines)
	}
}
