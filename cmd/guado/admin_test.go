package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/guado-server/guado"
)

// site is a folder with a configuration and a server that runs with it.
func site(t *testing.T, files map[string]string) (string, *server) {
	t.Helper()
	files["hello.py"] = hello
	if files["guado.toml"] == "" {
		files["guado.toml"] = "[[app]]\ntarget = \"hello\"\nworkers = 2\n[[mount]]\napp = \"hello\"\n"
	}
	files["guado.toml"] = "[server]\nlisten = [\"127.0.0.1:0\"]\nstate_dir = \"state\"\n" + files["guado.toml"]
	dir := project(t, files)
	return dir, start(t, program(t, dir, "serve")).ready()
}

func TestTheStatusOfTheServerOfThisFolder(t *testing.T) {
	dir, s := site(t, map[string]string{})
	get(t, s.url)
	var r result
	poll(t, "both workers", func() bool {
		r = run(t, dir, "status")
		return strings.Contains(r.out, "2/2")
	})
	for _, want := range []string{" is serving at " + s.url + "\n", "\nGROUP ", "\nhello  ", "2/2", "\nMOUNT ", "\n/ ", "guado.toml"} {
		if r.code != exitOK || !strings.Contains(r.out, want) {
			t.Errorf("no %q in %d %s%s", want, r.code, r.out, r.err)
		}
	}
	var st guado.Status
	r = run(t, dir, "status", "--json")
	if err := json.Unmarshal([]byte(r.out), &st); err != nil || st.PID != s.cmd.Process.Pid || st.Groups[0].Queue.Counters.Exchanges != 1 {
		t.Errorf("%v: %s", err, r.out)
	}
	if r = run(t, t.TempDir(), "status", "--socket", st.Admin); r.code != exitOK {
		t.Errorf("by its socket: %+v", r)
	}
	if r = run(t, t.TempDir(), "status", "--config", filepath.Join(dir, "guado.toml")); r.code != exitOK {
		t.Errorf("by its file: %+v", r)
	}
	write(t, filepath.Join(dir, "guado.toml"), "[server]\nstate_dir = \"state\"\nlisten = 7\n[[mount]]\nappp = \"hello\"\n")
	if r = run(t, dir, "status"); r.code != exitOK {
		t.Errorf("while its file is wrong: %+v", r)
	}
}

func TestTheExitCodesOfReadingVerbs(t *testing.T) {
	dir := project(t, map[string]string{"guado.toml": "[server]\nstate_dir = \"state\"\n"})
	for _, verb := range []string{"status", "ps", "logs", "stop", "workers"} {
		if r := run(t, dir, verb); r.code != exitNoServer || !strings.Contains(r.err, "no server answers at "+dir+"/state/admin.sock") {
			t.Errorf("%s: %+v", verb, r)
		}
	}
	write(t, filepath.Join(dir, "guado.toml"), "[admin]\nsocket = \"off\"\n")
	if r := run(t, dir, "status"); r.code != exitUsage || !strings.Contains(r.err, "turns the admin interface off") {
		t.Errorf("turned off: %+v", r)
	}
	dir, s := site(t, map[string]string{"broken.py": "raise RuntimeError('no database')\n", "guado.toml": "[[app]]\ntarget = \"hello\"\n[[app]]\ntarget = \"broken\"\n[[mount]]\napp = \"hello\"\n[[mount]]\npath = \"/broken\"\napp = \"broken\"\n"})
	r := run(t, dir, "status")
	if r.code != exitFailed || !strings.Contains(r.err, "group broken has no worker that is ready") || !strings.Contains(r.out, "no database") {
		t.Errorf("%+v", r)
	}
	s.signal(syscall.SIGTERM)
	s.end()
}

func TestWorkersAreListedAndRestarted(t *testing.T) {
	dir, _ := site(t, map[string]string{})
	var before []guado.Worker
	poll(t, "the second worker", func() bool {
		before = workersOf(t, dir)
		return len(before) == 2 && before[0].State == "serving" && before[1].State == "serving"
	})
	if before[0].Slot != "p01" || before[0].Group != "hello" || before[1].PID == 0 {
		t.Fatalf("%+v", before)
	}
	if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", before[1].PID)); err == nil && !strings.Contains(string(line), "\x00\"guado worker hello p02\";") {
		t.Errorf("the system's ps shows %q", line)
	}
	r := run(t, dir, "ps")
	if !regexp.MustCompile(`(?m)^SLOT +GROUP +STATE +FOR +PID .*\np01 +hello +serving +\d+s +` + "[0-9]+ ").MatchString(r.out) {
		t.Errorf("%s", r.out)
	}
	if r := run(t, dir, "workers", "restart"); r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	after := workersOf(t, dir)
	if after[0].PID == before[0].PID || after[1].PID == before[1].PID || after[0].State != "serving" || after[1].State != "serving" {
		t.Errorf("it has not waited: %+v", after)
	}
	write(t, filepath.Join(dir, "hello.py"), "raise RuntimeError('no database')\n")
	if r := run(t, dir, "workers", "restart"); r.code != exitFailed || !strings.Contains(r.err, "group hello: p0") || !strings.Contains(r.err, "no database") {
		t.Errorf("broken code: %+v", r)
	}
	for i, w := range workersOf(t, dir) {
		if w.PID != after[i].PID || w.State != "serving" {
			t.Errorf("the old one does not go on: %+v", w)
		}
	}
	if r := run(t, dir, "workers", "restart", "--no-wait"); r.code != exitOK {
		t.Errorf("%+v", r)
	}
}

func TestOneWorkerIsLookedIntoAndTakenOutAndReplaced(t *testing.T) {
	dir, _ := site(t, map[string]string{})
	var before []guado.Worker
	poll(t, "the second worker", func() bool {
		before = workersOf(t, dir)
		return len(before) == 2 && before[0].State == "serving" && before[1].State == "serving"
	})
	if r := run(t, dir, "workers", "stack", "p01"); r.code != exitOK || !strings.Contains(r.out, "await_drained") {
		t.Errorf("%+v", r)
	}
	for _, verb := range []string{"cordon", "uncordon"} {
		if r := run(t, dir, "workers", verb, "p01"); r.code != exitOK || workersOf(t, dir)[0].Cordoned != (verb == "cordon") {
			t.Errorf("%s: %+v", verb, r)
		}
	}
	if r := run(t, dir, "workers", "drain", "p01"); r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	poll(t, "an empty slot", func() bool { return workersOf(t, dir)[0].State == "stopped" })
	if r := run(t, dir, "workers", "cordon", "p02"); r.code != exitOK || !strings.Contains(r.err, "p02 was the last worker of hello") {
		t.Errorf("the last one: %+v", r)
	}
	if r := run(t, dir, "workers", "uncordon", "p02"); r.code != exitOK || r.err != "" {
		t.Errorf("%+v", r)
	}
	if r := run(t, dir, "workers", "cordon", "p01"); r.code == exitOK || !strings.Contains(r.err, "stopped") {
		t.Errorf("%+v", r)
	}
	if r := run(t, dir, "workers", "restart", "p01"); r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	after := workersOf(t, dir)
	if after[0].State != "serving" || after[0].PID == before[0].PID || after[1].PID != before[1].PID {
		t.Errorf("%+v", after)
	}
	if r := run(t, dir, "workers", "kill", "p02"); r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	poll(t, "another second worker", func() bool {
		now := workersOf(t, dir)[1]
		return now.State == "serving" && now.PID != after[1].PID
	})
	if r := run(t, dir, "workers", "drain", "p09"); r.code == exitOK || !strings.Contains(r.err, "p09") {
		t.Errorf("%+v", r)
	}
}

func TestAFrozenWorkerIsShownWithItsLastLines(t *testing.T) {
	dir, _ := site(t, map[string]string{"broken.py": "print('no database')\nimport os\nos._exit(3)\n",
		"guado.toml": "[[app]]\ntarget = \"hello\"\n[[app]]\ntarget = \"broken\"\nfreeze_after = 1\n[[mount]]\napp = \"hello\"\n[[mount]]\npath = \"/broken\"\napp = \"broken\"\n"})
	poll(t, "the frozen worker", func() bool {
		r := run(t, dir, "status")
		return strings.Contains(r.out, "is frozen: ") && strings.Contains(r.out, "\n  no database\n")
	})
}

func workersOf(t *testing.T, dir string) []guado.Worker {
	t.Helper()
	var all struct{ Workers []guado.Worker }
	r := run(t, dir, "workers", "--json")
	if err := json.Unmarshal([]byte(r.out), &all); err != nil || r.code != exitOK {
		t.Fatalf("%v %+v", err, r)
	}
	return all.Workers
}

func TestTheLogIsShownAndFollowedToTheEndOfTheServer(t *testing.T) {
	dir, s := site(t, map[string]string{"chatty.py": "print('imported')\ndef application(e, s):\n    print('called')\n    s('200 OK', [])\n    return []\n", "guado.toml": "[[app]]\ntarget = \"chatty\"\n"})
	r := run(t, dir, "logs")
	if r.code != exitOK || !strings.Contains(r.out, "imported\n") || !strings.Contains(r.out, "INF    worker is ready ") {
		t.Errorf("%+v", r)
	}
	for _, name := range []string{"p01", "chatty"} {
		if r := run(t, dir, "logs", name); r.code != exitOK || !strings.Contains(r.out, "imported\n") {
			t.Errorf("of %s: %+v", name, r)
		}
	}
	if r := run(t, dir, "logs", "-n", "1", "--level", "info"); strings.Contains(r.out, "imported") || strings.Count(r.out, "\n") != 1 {
		t.Errorf("by level: %+v", r)
	}
	if r := run(t, dir, "logs", "chaty"); r.code != exitFailed || !strings.Contains(r.err, `"chaty"; there are chatty, host, p01`) {
		t.Errorf("of nobody: %+v", r)
	}
	follower := start(t, program(t, dir, "logs", "-f", "-n", "1"))
	follower.wait("worker is ready")
	get(t, s.url)
	follower.wait(`called\n`)
	if r := run(t, dir, "stop"); r.code != exitOK {
		t.Errorf("stop: %+v", r)
	}
	if code := follower.end(); code != exitOK || !strings.Contains(follower.text(), "stopping") {
		t.Errorf("exit code %d", code)
	}
	if code := s.end(); code != exitOK {
		t.Errorf("the server's exit code %d", code)
	}
	if _, err := os.Lstat(filepath.Join(dir, "state", "admin.sock")); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestStopWaitsForTheEndAndNowDoesNotWaitForRequests(t *testing.T) {
	dir, s := site(t, map[string]string{"slow.py": slow, "guado.toml": "[[app]]\ntarget = \"slow\"\n"})
	answers := ask(s.url)
	awaitFile(t, filepath.Join(dir, "called"))
	stopping := start(t, program(t, dir, "stop"))
	s.wait("stopping")
	r := run(t, dir, "status")
	if r.code != exitFailed || !strings.Contains(r.out, "is stopping") {
		t.Errorf("meanwhile: %+v", r)
	}
	select {
	case <-stopping.done:
		t.Error("stop did not wait for the end of the server")
	default:
	}
	if r := run(t, dir, "stop", "--now"); r.code != exitOK {
		t.Errorf("stop --now: %+v", r)
	}
	if a := <-answers; a.status == 200 {
		t.Errorf("the request was not cut: %+v", a)
	}
	if code := stopping.end(); code != exitOK {
		t.Errorf("the first stop ended with %d", code)
	}
	if code := s.end(); code != exitOK {
		t.Errorf("the server's exit code %d", code)
	}
}

func TestSeveralServersOfOneFolderAreToldApart(t *testing.T) {
	dir, first := site(t, map[string]string{})
	second := start(t, program(t, dir, "serve")).ready()
	r := run(t, dir, "status")
	sockets := regexp.MustCompile(`--socket (\S+)`).FindAllStringSubmatch(r.err, -1)
	if r.code != exitUsage || len(sockets) != 2 {
		t.Fatalf("%+v", r)
	}
	for i, s := range []*server{first, second} {
		if r := run(t, dir, "status", "--socket", sockets[i][1]); !strings.Contains(r.out, s.url) {
			t.Errorf("%+v", r)
		}
	}
	if r := run(t, dir, "stop", "--socket", sockets[0][1]); r.code != exitOK {
		t.Errorf("%+v", r)
	}
	if r := run(t, dir, "status"); !strings.Contains(r.out, second.url) {
		t.Errorf("%+v", r)
	}
}

func TestAHostThatWasKilledLeavesASocketThatTheNextOneTakes(t *testing.T) {
	dir, s := site(t, map[string]string{})
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	s.end()
	if r := run(t, dir, "status"); r.code != exitNoServer {
		t.Errorf("%+v", r)
	}
	s = start(t, program(t, dir, "serve")).ready()
	if r := run(t, dir, "status"); !strings.Contains(r.out, s.url) {
		t.Errorf("%+v", r)
	}
}

func TestAnApplicationCannotSteerItsHost(t *testing.T) {
	dir, s := site(t, map[string]string{"steer.py": `
import subprocess
def application(environ, start_response):
    start_response("200 OK", [])
    done = subprocess.run(environ["PATH_INFO"].split("|")[1:], capture_output=True, text=True)
    return [f"{done.returncode} {done.stdout}{done.stderr}".encode()]
`, "guado.toml": "[[app]]\ntarget = \"steer\"\nenv = { " + asGuado + " = \"1\" }\n"})
	exe, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	a := get(t, s.url+"/|"+exe+"|stop")
	if !strings.HasPrefix(a.body, "1 ") || !strings.Contains(a.body, "workers and programs may not steer it") {
		t.Errorf("%+v", a)
	}
	s.wait("admin interface refused.*command=")
	if r := run(t, dir, "status"); r.code != exitOK {
		t.Errorf("%+v", r)
	}
}

func TestWatchingGoesOnUntilASignal(t *testing.T) {
	dir, _ := site(t, map[string]string{})
	w := start(t, program(t, dir, "status", "--watch", "--every", "100ms"))
	w.wait(`(?s)(is serving at.*){3}`)
	w.signal(syscall.SIGINT)
	if code := w.end(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

func TestAProgramIsListedStoppedStartedAndRestarted(t *testing.T) {
	dir, _ := site(t, map[string]string{"guado.toml": `
[[app]]
target = "hello"
[[program]]
name = "talker"
command = ["sh", "-c", "echo '{\"said\": 1}'; echo spoken; exec sleep 1000"]
start_seconds = 0
ready = "log:spoken"
`})
	state := func() (string, string) {
		r := run(t, dir, "program")
		m := regexp.MustCompile(`(?m)^talker +(\w+) +\S+ +(\S+) `).FindStringSubmatch(r.out)
		if r.code != exitOK || m == nil {
			t.Fatalf("%+v", r)
		}
		return m[1], m[2]
	}
	poll(t, "the program", func() bool { s, _ := state(); return s == "ready" })
	_, first := state()
	for _, c := range []struct{ verb, state string }{{"stop", "stopped"}, {"start", "ready"}, {"restart", "ready"}} {
		if r := run(t, dir, "program", c.verb, "talker"); r.code != exitOK {
			t.Fatalf("%s: %+v", c.verb, r)
		}
		s, pid := state()
		if s != c.state || pid == first || (pid == "-") != (c.verb == "stop") {
			t.Errorf("after %s it is %s with process %s", c.verb, s, pid)
		}
		first = pid
	}
	if r := run(t, dir, "program", "stop", "nobody"); r.code != exitFailed || !strings.Contains(r.err, "talker") {
		t.Errorf("an unknown one: %+v", r)
	}
	if r := run(t, dir, "logs", "talker"); !regexp.MustCompile(`(?m) talker +spoken$`).MatchString(r.out) {
		t.Errorf("its log: %+v", r)
	} else if !strings.Contains(r.out, ` talker {"said": 1}`) {
		t.Errorf("a line of JSON is not the program's: %+v", r)
	}
	if r := run(t, dir, "ps", "--json"); !strings.Contains(r.out, `"program": "talker"`) || !strings.Contains(r.out, `"slot": "p01"`) {
		t.Errorf("ps: %+v", r)
	}
}

// metricsOf asks the admin socket for the metrics.
func metricsOf(t *testing.T, dir string) string {
	t.Helper()
	c := &command{out: io.Discard, err: io.Discard}
	server, err := c.connect(t.Context(), &remote{socket: text{value: filepath.Join(dir, "state", "admin.sock")}})
	if err != nil {
		t.Fatal(err)
	}
	defer server.http.CloseIdleConnections()
	metrics, err := server.fetch(t.Context(), "GET", "metrics", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(metrics)
}
