package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/guado-server/guado"
	"github.com/guado-server/guado/test/harness"
)

// told answers with the variable TOLD of its environment, and what it was sent.
const told = `
import os
if os.environ.get("TOLD") == "broken":
    raise RuntimeError("told to break")
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    body = environ["wsgi.input"].read()
    return [os.environ.get("TOLD", "-").encode() + b" " + body]
other = application
`

// reloadable is a site whose file the test writes anew.
type reloadable struct {
	*server
	t   *testing.T
	dir string
}

func newReloadable(t *testing.T, text string) *reloadable {
	t.Helper()
	dir, s := site(t, map[string]string{"told.py": told, "public/page.html": "a page", "guado.toml": text})
	r := &reloadable{server: s, t: t, dir: dir}
	poll(t, "all workers", func() bool {
		for _, w := range workersOf(t, dir) {
			if w.State != "serving" {
				return false
			}
		}
		return true
	})
	return r
}

func (r *reloadable) rewrite(text string) {
	r.t.Helper()
	write(r.t, filepath.Join(r.dir, "guado.toml"), "[server]\nlisten = [\"127.0.0.1:0\"]\nstate_dir = \"state\"\n"+text)
}

// reload has the file taken, and gives what the server says of each key.
func (r *reloadable) reload(text string) (answer guado.Reload, keys string) {
	r.t.Helper()
	r.rewrite(text)
	done := run(r.t, r.dir, "reload", "--json")
	if err := json.Unmarshal([]byte(done.out), &answer); err != nil || done.code != exitOK {
		r.t.Fatalf("%v: %+v", err, done)
	}
	for _, c := range answer.Changes {
		keys += fmt.Sprintf("%s: %s\n", c.Key, c.Class)
	}
	return answer, keys
}

// pids are the processes of the workers by slot.
func (r *reloadable) pids() string {
	r.t.Helper()
	var all []string
	for _, w := range workersOf(r.t, r.dir) {
		all = append(all, fmt.Sprintf("%s %s %d", w.Group, w.Slot, w.PID))
	}
	return strings.Join(all, "\n")
}

func (r *reloadable) status() guado.Status {
	r.t.Helper()
	var st guado.Status
	done := run(r.t, r.dir, "status", "--json", "--socket", filepath.Join(r.dir, "state", "admin.sock"))
	if err := json.Unmarshal([]byte(done.out), &st); err != nil {
		r.t.Fatalf("%v: %+v", err, done)
	}
	return st
}

const oneApp = `
[[app]]
target = "told"
workers = 2
env = { TOLD = "one" }
[[mount]]
app = "told"
`

func TestAReloadPutsAChangedFileInPlaceAndSaysWhatEachKeyNeeded(t *testing.T) {
	r := newReloadable(t, oneApp)
	before := r.pids()
	if _, keys := r.reload(oneApp); keys != "" || r.pids() != before {
		t.Errorf("nothing has changed, but: %s", keys)
	}

	_, keys := r.reload("log_level = \"debug\"\nlog_format = \"json\"\n[server.limits]\nhead = \"2KiB\"\n" + strings.Replace(oneApp, "workers = 2", "workers = 2\nqueue = 7\nrequest_timeout = 9", 1) + "[[mount]]\npath = \"/files\"\nstatic = \"public\"\n")
	want := "server.log_level: live\nserver.log_format: needs restart\nserver.limits.head: live\napp.told.queue: live\napp.told.request_timeout: live\nmount./files: live\n"
	if keys != want {
		t.Errorf("keys\n%swant\n%s", keys, want)
	}
	if r.pids() != before {
		t.Error("workers were replaced for what is live")
	}
	if a := get(t, r.url+"/files/page.html"); a != (answer{200, "a page"}) {
		t.Errorf("the new mount: %+v", a)
	}
	if a := get(t, r.url+"/?"+strings.Repeat("x", 4000)); a.status != 431 && a.status != 414 {
		t.Errorf("the new limit: %d", a.status)
	}
	if st := r.status(); fmt.Sprint(st.Reloads.Pending) != "[server.log_format]" || st.Reloads.Applied != 2 {
		t.Errorf("reloads %+v", st.Reloads)
	}

	done, keys := r.reload("log_level = \"debug\"\n" + strings.Replace(oneApp, "one", "two", 1))
	if !strings.Contains(keys, "app.told.env: replaced workers\n") || !strings.Contains(keys, "mount./files: live\n") || fmt.Sprint(done.Replaced) != "[told]" {
		t.Errorf("keys\n%s%v", keys, done.Replaced)
	}
	if a := get(t, r.url); a.body != "two " {
		t.Errorf("answer %+v", a)
	}
	r.wait(`DBG `)
	if a := get(t, r.url+"/files/page.html"); a.body == "a page" {
		t.Errorf("the mount that went: %+v", a)
	}
	after := r.pids()
	if regexp.MustCompile(`\d+(\n|$)`).ReplaceAllString(after, "$1") != regexp.MustCompile(`\d+(\n|$)`).ReplaceAllString(before, "$1") || after == before {
		t.Errorf("workers before\n%s\nand after\n%s", before, after)
	}

	more := "[[app]]\nname = \"more\"\ntarget = \"told:other\"\nenv = { TOLD = \"more\" }\n[[mount]]\npath = \"/more\"\napp = \"more\"\n"
	_, keys = r.reload(strings.Replace(oneApp, "workers = 2", "workers = 3", 1) + more)
	if !strings.Contains(keys, "app.more: replaced workers\n") || !strings.Contains(keys, "app.told.workers: replaced workers\n") {
		t.Errorf("keys\n%s", keys)
	}
	if a := get(t, r.url+"/more"); a.body != "more " {
		t.Errorf("the new app: %+v", a)
	}
	if n := strings.Count(r.pids(), "told "); n != 3 {
		t.Errorf("workers\n%s", r.pids())
	}
	r.reload(oneApp)
	if now := r.pids(); strings.Contains(now, "more") || strings.Count(now, "told ") != 2 {
		t.Errorf("workers\n%s", now)
	}
}

func TestAReloadThatFailsLeavesTheServerAsItWas(t *testing.T) {
	two := oneApp + "[[app]]\nname = \"second\"\ntarget = \"told:other\"\nenv = { TOLD = \"two\" }\n[[mount]]\npath = \"/second\"\napp = \"second\"\n"
	r := newReloadable(t, two)
	for _, c := range []struct {
		name, text string
		code       int
		say        string
	}{
		{"a wrong key", "nonsense = 1\n" + two, exitUsage, "nonsense"},
		{"no TOML", "[[[", exitUsage, "guado.toml:4"},
		{"a worker that cannot boot", strings.Replace(two, "one", "broken", 1), exitFailed, "RuntimeError: told to break"},
		{"a new app that cannot boot", two + "[[app]]\ntarget = \"none\"\n[[mount]]\npath = \"/none\"\napp = \"none\"\n", exitFailed, "no module named 'none'"},
		{"the second of two", strings.Replace(strings.Replace(two, "one", "uno", 1), "TOLD = \"two\"", "TOLD = \"broken\"", 1), exitFailed, "RuntimeError: told to break"},
	} {
		r.rewrite(c.text)
		done := run(t, r.dir, "reload")
		if done.code != c.code || !strings.Contains(done.err, c.say) {
			t.Errorf("%s: %d %s, want %d and %q", c.name, done.code, done.err, c.code, c.say)
		}
		if a, b := get(t, r.url), get(t, r.url+"/second"); a.body != "one " || b.body != "two " {
			t.Errorf("after %s: %+v %+v", c.name, a, b)
		}
		if st := r.status(); len(st.Groups) != 2 || st.Reloads.Error == "" {
			t.Errorf("after %s: %+v", c.name, st.Reloads)
		}
	}
	if m := metricsOf(t, r.dir); !strings.Contains(m, "\nguado_config_last_reload_success 0\n") || !strings.Contains(m, "\nguado_config_reloads_total{result=\"failed\"} 4\n") { // what is no TOML does not name a server
		t.Errorf("metrics after four that failed:\n%s", m)
	}
	if _, keys := r.reload(two); keys != "" {
		t.Errorf("the server has kept of what failed:\n%s", keys)
	}
	r.rewrite(strings.Replace(two, "one", "uno", 1))
	r.signal(syscall.SIGHUP)
	r.wait(`reloaded.*changes=1`)
	if a := get(t, r.url); a.body != "uno " {
		t.Errorf("after SIGHUP: %+v", a)
	}
	if m := metricsOf(t, r.dir); !strings.Contains(m, "\nguado_config_last_reload_success 1\n") {
		t.Errorf("metrics after one that was taken:\n%s", m)
	}
}

func TestAProgramIsReplacedWithItsConfiguration(t *testing.T) {
	program := func(word string) string {
		return oneApp + "[[program]]\nname = \"talker\"\ncommand = [\"sh\", \"-c\", \"echo " + word + "; exec sleep 1000\"]\nready = \"log:" + word + "\"\nstart_seconds = 0\n"
	}
	r := newReloadable(t, program("first"))
	before := r.pids()
	if _, keys := r.reload(program("second")); keys != "program.talker.command: replaced programs\nprogram.talker.ready: replaced programs\n" {
		t.Errorf("keys\n%s", keys)
	}
	r.wait(`talker \| second`)
	if _, keys := r.reload(oneApp); keys != "program.talker: replaced programs\n" || len(r.status().Programs) != 0 {
		t.Errorf("keys\n%s", keys)
	}
	if r.pids() != before {
		t.Error("workers were replaced with a program")
	}
}

func TestAReloadThatFailsLeavesTheProgramsAsTheyWere(t *testing.T) {
	program := func(command, more string) string {
		return oneApp + "[[program]]\nname = \"talker\"\ncommand = [\"sh\", \"-c\", \"" + command + "\"]\nready = \"log:ready\"\n" + more
	}
	good := program("echo ready; exec sleep 1000", "")
	r := newReloadable(t, good)
	for _, c := range []struct{ name, text, say string }{
		{"a program that ends at once", program("exit 7", ""), "program talker could not be started: exit code 7"},
		{"a program that is not ready in time", program("exec sleep 1000", "ready_timeout = 0.1\n"), "not ready within ready_timeout"},
		{"a new program that cannot be started", good + "[[program]]\nname = \"none\"\ncommand = [\"./nosuch\"]\n", "program none could not be started"},
		{"a new program for which another is not ready", good + "[[program]]\nname = \"more\"\ncommand = [\"sleep\", \"1000\"]\nafter = [\"never\"]\n[[program]]\nname = \"never\"\ncommand = [\"false\"]\n", "program never could not be started"},
		{"a worker that cannot boot", strings.Replace(program("echo ready; exec sleep 1001", ""), "one", "broken", 1), "told to break"},
	} {
		r.rewrite(c.text)
		if done := run(t, r.dir, "reload"); done.code != exitFailed || !strings.Contains(done.err, c.say) {
			t.Errorf("%s: %d %s, want %q", c.name, done.code, done.err, c.say)
		}
		poll(t, "the program of before, after "+c.name, func() bool {
			all := r.status().Programs
			if len(all) != 1 || all[0].State != "ready" {
				return false
			}
			line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", all[0].PID))
			return err == nil && strings.HasPrefix(string(line), "sleep\x001000\x00")
		})
	}
	if _, keys := r.reload(good); keys != "" {
		t.Errorf("the server has kept of what failed:\n%s", keys)
	}
}

func TestListenersComeAndGoAndSpeakTLSWithTheConfiguration(t *testing.T) {
	app := "[[app]]\ntarget = \"hello\"\n[[mount]]\napp = \"hello\"\n"
	dir, s := site(t, map[string]string{"guado.toml": app})
	r := &reloadable{server: s, t: t, dir: dir}
	asked := func(network, address string) error {
		c := &http.Client{Timeout: limit, Transport: &http.Transport{DisableKeepAlives: true,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // of the test
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, address)
			}}}
		scheme := map[bool]string{true: "https", false: "http"}[strings.HasPrefix(address, "127")]
		res, err := c.Get(scheme + "://guado/")
		if err != nil {
			return err
		}
		return res.Body.Close()
	}
	socket, metrics := filepath.Join(dir, "more.sock"), filepath.Join(dir, "metrics.sock")
	write(t, filepath.Join(dir, "guado.toml"), "[server]\nlisten = [\"127.0.0.1:0\", \"unix:more.sock\"]\nstate_dir = \"state\"\n"+app)
	if done := run(t, dir, "reload"); done.code != exitOK || !strings.Contains(done.out, "server.listen  live") {
		t.Fatalf("%+v", done)
	}
	if err := asked("unix", socket); err != nil {
		t.Error(err)
	}
	if a := get(t, s.url); a.body != "hello" {
		t.Errorf("at the address that stayed: %+v", a)
	}
	if all := r.status().Listen; len(all) != 2 || all[0] != s.url || all[1] != "unix:"+socket {
		t.Errorf("it listens at %q", all)
	}

	// One that cannot be opened leaves those of before; what was opened beside it is closed.
	taken, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // of the test
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close() //nolint:errcheck // of the test
	write(t, filepath.Join(dir, "guado.toml"), fmt.Sprintf("[server]\nlisten = [\"127.0.0.1:0\", \"unix:third.sock\", %q]\nstate_dir = \"state\"\n%s", taken.Addr(), app))
	if done := run(t, dir, "reload"); done.code != exitFailed || !strings.Contains(done.err, "in use") {
		t.Errorf("%+v", done)
	}
	if err := asked("unix", socket); err != nil {
		t.Error(err)
	}
	if err := asked("unix", filepath.Join(dir, "third.sock")); err == nil {
		t.Error("what a reload that failed had opened is still there")
	}

	cert, key := harness.Certificate(t)
	r.reload(fmt.Sprintf("[server.tls]\ncert = %q\nkey = %q\n[metrics]\nlisten = \"unix:metrics.sock\"\n%s", cert, key, app))
	if err := asked("tcp", strings.TrimPrefix(s.url, "http://")); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	if err := asked("unix", metrics); err != nil {
		t.Errorf("the listener of metrics: %v", err)
	}
	if err := asked("unix", socket); err == nil {
		t.Error("the listener that went still answers")
	}
	if all := r.status().Listen; len(all) != 1 || all[0] != strings.Replace(s.url, "http:", "https:", 1) {
		t.Errorf("it listens at %q", all)
	}
	r.reload(app)
	if a := get(t, s.url); a.body != "hello" {
		t.Errorf("without a certificate: %+v", a)
	}
	if err := asked("unix", metrics); err == nil {
		t.Error("the listener of metrics that went still answers")
	}
}

func TestTracesAndProbesComeAndGoWithTheConfiguration(t *testing.T) {
	var sent [2]atomic.Int64
	var collectors [2]string
	for i := range collectors {
		c := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
			_, _ = io.Copy(io.Discard, q.Body) // spans are looked at elsewhere
			sent[i].Add(1)
		}))
		defer c.Close()
		collectors[i] = c.URL
	}
	app := "[[app]]\ntarget = \"hello\"\n[[mount]]\napp = \"hello\"\n"
	r := newReloadable(t, app)
	for i, endpoint := range collectors {
		if _, keys := r.reload(fmt.Sprintf("[trace]\nendpoint = %q\n[health]\nready = \"/up%d\"\n%s", endpoint, i, app)); keys != "health.ready: live\ntrace.endpoint: live\n" {
			t.Errorf("keys\n%s", keys)
		}
		get(t, r.url)
		if a := get(t, fmt.Sprintf("%s/up%d", r.url, i)); a.body != "ok\n" {
			t.Errorf("the probe: %+v", a)
		}
	}
	if sent[0].Load() == 0 {
		t.Error("the traces that waited were not sent when another collector took over")
	}
	r.reload(app)
	if sent[1].Load() == 0 {
		t.Error("the traces that waited were not sent at the end")
	}
	if a := get(t, r.url+"/up1"); a.body != "hello" {
		t.Errorf("without a probe: %+v", a)
	}
}

func TestAReloadMendsWhatCouldNotBoot(t *testing.T) {
	hello := "[[app]]\ntarget = \"hello\"\n[[mount]]\napp = \"hello\"\n"
	with := func(word, more string) string {
		return hello + "[[app]]\ntarget = \"told\"\nenv = { TOLD = \"" + word + "\" }\n" + more + "[[mount]]\npath = \"/told\"\napp = \"told\"\n"
	}
	for name, more := range map[string]string{"a worker that backs off": "", "a frozen worker": "freeze_after = 1\n"} {
		dir, s := site(t, map[string]string{"told.py": told, "guado.toml": with("broken", more)})
		r := &reloadable{server: s, t: t, dir: dir}
		if more != "" {
			poll(t, "the frozen worker", func() bool {
				return slices.ContainsFunc(workersOf(t, dir), func(w guado.Worker) bool { return w.State == "frozen" })
			})
		}
		if a := get(t, r.url+"/told"); a.status != http.StatusServiceUnavailable {
			t.Errorf("%s: %+v", name, a)
		}
		if _, keys := r.reload(with("mended", more)); keys != "app.told.env: replaced workers\n" {
			t.Errorf("%s: keys\n%s", name, keys)
		}
		if a := get(t, r.url+"/told"); a.body != "mended " {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

// tasks answers with what an executor gives; /pid asks for its process, /hold waits in it.
const tasks = `
import os, time
import guado

def held(folder):
    open(os.path.join(folder, "called"), "w").close()
    while not os.path.exists(os.path.join(folder, "go")):
        time.sleep(0.01)
    return "held"

def told(word):
    return word

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    name, _, what = environ["PATH_INFO"].strip("/").partition("/")
    try:
        one = guado.executor(name)
        task = one.submit(held, os.getcwd()) if what == "hold" else one.submit(told, name)
        return [str(task.result()).encode()]
    except guado.ExecutorError as error:
        return [type(error).__name__.encode()]
`

func TestExecutorsComeAndGoAndChangeWithTheConfiguration(t *testing.T) {
	app := "[[app]]\nname = \"tasks\"\ntarget = \"tasks\"\n[[mount]]\napp = \"tasks\"\n"
	cpu := func(more string) string { return app + "[[executor]]\nname = \"cpu\"\n" + more }
	dir, s := site(t, map[string]string{"tasks.py": tasks, "guado.toml": cpu("")})
	r := &reloadable{server: s, t: t, dir: dir}
	poll(t, "all workers", func() bool {
		return !slices.ContainsFunc(workersOf(t, dir), func(w guado.Worker) bool { return w.State != "serving" })
	})
	before := r.pids()
	if _, keys := r.reload(cpu("queue = 7\ntask_timeout = 60\n")); keys != "executor.cpu.queue: live\nexecutor.cpu.task_timeout: live\n" || r.pids() != before {
		t.Errorf("keys\n%sworkers before\n%s\nand after\n%s", keys, before, r.pids())
	}

	// More processes: the task that is under way comes to its end in the one of before.
	answers := make(chan answer, 1)
	go func() {
		a, err := try(s.url + "/cpu/hold")
		if err != nil {
			a.body = err.Error()
		}
		answers <- a
	}()
	awaitFile(t, filepath.Join(dir, "called"))
	r.rewrite(cpu("processes = 2\n"))
	reload := start(t, program(t, dir, "reload"))
	poll(t, "the new processes", func() bool { return strings.Count(r.pids(), "cpu ") == 2 })
	if a := get(t, s.url+"/cpu"); a.body != "cpu" {
		t.Errorf("a task of the new processes: %+v", a)
	}
	select {
	case a := <-answers:
		t.Fatalf("the task was cut: %+v", a)
	case <-reload.done:
		t.Error("reload did not wait for the process that it takes away")
	default:
	}
	write(t, filepath.Join(dir, "go"), "")
	if a := <-answers; a.body != "held" {
		t.Errorf("the task that was under way: %+v", a)
	}
	if code := reload.end(); code != exitOK {
		t.Errorf("exit code %d", code)
	}

	// Another one: every worker is told of it.
	if _, keys := r.reload(cpu("processes = 2\n[[executor]]\nname = \"more\"\n")); keys != "executor.more: replaced workers\n" {
		t.Errorf("keys\n%s", keys)
	}
	if a, b := get(t, s.url+"/cpu"), get(t, s.url+"/more"); a.body != "cpu" || b.body != "more" {
		t.Errorf("both executors: %+v %+v", a, b)
	}
	if all := r.status().Executors; len(all) != 2 || all[0].Name != "cpu" || all[0].Done != 3 || all[1].Done != 1 {
		t.Errorf("executors %+v", all)
	}
	if shown := run(t, dir, "status").out; !regexp.MustCompile(`(?m)^EXECUTOR +TASKS +DONE .*\ncpu +0 +3 .*\nmore +0 +1 `).MatchString(shown) {
		t.Errorf("status:\n%s", shown)
	}

	// One that fails leaves what there was.
	r.rewrite(cpu("processes = 2\npreload = [\"nosuch\"]\n"))
	if done := run(t, dir, "reload"); done.code != exitFailed {
		t.Errorf("%+v", done)
	}
	if a, b := get(t, s.url+"/cpu"), get(t, s.url+"/more"); a.body != "cpu" || b.body != "more" {
		t.Errorf("after a reload that failed: %+v %+v", a, b)
	}

	r.reload(app)
	if a := get(t, s.url+"/cpu"); a.body != "UnknownExecutor" || len(r.status().Executors) != 0 || strings.Contains(r.pids(), "cpu") {
		t.Errorf("without executors: %+v, workers\n%s", a, r.pids())
	}
}

// TestNoRequestIsLostInTwentyReloads sends requests with bodies over connections that
// stay open, while good and bad files are taken: what is live, other workers, other
// applications, other programs' mistakes.
func TestNoRequestIsLostInTwentyReloads(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long: make test runs it")
	}
	r := newReloadable(t, oneApp)
	var asked atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	const several = 4
	for n := range several {
		clients.Go(func() {
			transport := &http.Transport{MaxIdleConnsPerHost: 1}
			defer transport.CloseIdleConnections()
			c := &http.Client{Transport: transport, Timeout: limit}
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := echoed(c, r.url, fmt.Sprintf("client %d request %d", n, i)); err != nil {
					t.Error(err)
					return
				}
				asked.Add(1)
			}
		})
	}
	good, bad := 0, 0
	for i := range 20 {
		before := asked.Load()
		text, fails := oneApp, false
		switch i % 5 {
		case 0: // other workers
			text = strings.Replace(oneApp, "one", fmt.Sprint("round", i), 1)
		case 1: // live
			text = "[server.limits]\nfields = " + fmt.Sprint(50+i) + "\n[server.timeouts]\nkeep_alive = " + fmt.Sprint(60+i) + oneApp
		case 2: // another group in its place
			text = strings.Replace(oneApp, "target = \"told\"", "name = \"told\"\ntarget = \"told:other\"", 1)
		case 3:
			text, fails = strings.Replace(oneApp, "one", "broken", 1), true
		case 4:
			text, fails = "unknown = 1\n"+oneApp, true
		}
		r.rewrite(text)
		done := run(t, r.dir, "reload")
		if (done.code != exitOK) != fails {
			t.Errorf("reload %d: %+v", i, done)
		}
		if fails {
			bad++
		} else {
			good++
		}
		poll(t, "requests between two reloads", func() bool { return asked.Load() >= before+several })
	}
	close(stop)
	clients.Wait()
	st := r.status()
	if st.Reloads.Applied != uint64(good) || st.Reloads.Failed != uint64(bad) {
		t.Errorf("reloads %+v, want %d and %d", st.Reloads, good, bad)
	}
	t.Logf("%d requests", asked.Load())
}

func TestARequestUnderWayIsAnsweredByTheWorkerThatAReloadTakesAway(t *testing.T) {
	dir, s := site(t, map[string]string{"slow.py": slow, "guado.toml": "[[app]]\nname = \"late\"\ntarget = \"slow\"\n"})
	answers := ask(s.url)
	awaitFile(t, filepath.Join(dir, "called"))
	write(t, filepath.Join(dir, "guado.toml"), "[server]\nlisten = [\"127.0.0.1:0\"]\nstate_dir = \"state\"\n[[app]]\nname = \"late\"\ntarget = \"hello\"\n[[mount]]\napp = \"late\"\n[[mount]]\npath = \"/new\"\napp = \"late\"\n")
	reload := start(t, program(t, dir, "reload"))
	poll(t, "the new configuration", func() bool { return strings.Contains(run(t, dir, "status").out, "/new ") })
	if a := get(t, s.url); a != (answer{200, "hello"}) {
		t.Errorf("the new application: %+v", a)
	}
	select {
	case <-reload.done:
		t.Error("reload did not wait for the worker that it takes away")
	case a := <-answers:
		t.Fatalf("the request was cut: %+v", a)
	default:
	}
	write(t, filepath.Join(dir, "go"), "")
	if a := <-answers; a != (answer{200, "late"}) {
		t.Errorf("answer %+v", a)
	}
	if code := reload.end(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	awaitFile(t, filepath.Join(dir, "ended"))
}

// echoed sends one request and wants its body back.
func echoed(c *http.Client, url, body string) error {
	res, err := c.Post(url, "text/plain", strings.NewReader(body))
	if err != nil {
		return err
	}
	text, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK || !strings.HasSuffix(string(text), " "+body) {
		return fmt.Errorf("%q was answered with %s %q", body, res.Status, text)
	}
	return nil
}
