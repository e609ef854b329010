package main

import (
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// manager is what systemd is to the program: who started it, and hears how it is.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	name string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("systemd is Linux's")
	}
	m := &manager{t: t, name: "@guado-test-" + rand.Text()}
	var err error
	if m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.name, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.conn.Close() })
	return m
}

// start starts the program as systemd does.
func (m *manager) start(cmd *exec.Cmd, more ...string) *server {
	m.t.Helper()
	cmd.Env = append(cmd.Env, append(more, "NOTIFY_SOCKET="+m.name)...)
	return start(m.t, cmd)
}

// hear waits for the next message that has this word and gives its lines by their names.
func (m *manager) hear(word string) map[string]string {
	m.t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		m.t.Fatal(err)
	}
	for {
		told, err := m.read()
		if err != nil {
			m.t.Fatalf("the service manager was not told %s: %v", word, err)
		}
		if _, has := told[word]; has {
			return told
		}
	}
}

func (m *manager) read() (map[string]string, error) {
	buf := make([]byte, 4096)
	n, err := m.conn.Read(buf)
	told := map[string]string{}
	for line := range strings.SplitSeq(string(buf[:n]), "\n") {
		name, value, _ := strings.Cut(line, "=")
		told[name] = value
	}
	return told, err
}

// sofar gives the words that were told until now.
func (m *manager) sofar() (words []string) {
	m.t.Helper()
	for {
		_ = m.conn.SetReadDeadline(time.Now().Add(time.Millisecond)) // what was sent is there
		told, err := m.read()
		if err != nil {
			return words
		}
		for name := range told {
			words = append(words, name)
		}
	}
}

func monotonic(t *testing.T) int64 {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	return now.Nano() / 1000
}

// late is imported when a file appears; it shows a variable of its environment.
const late = `
import os, time
open("importing", "w").close()
while not os.path.exists("go"):
    time.sleep(0.01)
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr([n for n in os.environ if n.startswith(("NOTIFY", "WATCHDOG", "LISTEN"))]).encode()]
`

func contains(list []string, word string) bool {
	for _, w := range list {
		if w == word {
			return true
		}
	}
	return false
}

func TestTheServiceManagerHearsOfStartReloadAndStop(t *testing.T) {
	m := newManager(t)
	dir := project(t, map[string]string{"late.py": late, "guado.toml": `
[server]
listen = ["127.0.0.1:0"]
state_dir = "state"
[[app]]
target = "late"
[[program]]
name = "idle"
command = ["sleep", "1000"]
`})
	s := m.start(program(t, dir, "serve"), "WATCHDOG_USEC=600000000")
	awaitFile(t, filepath.Join(dir, "importing"))
	if told := m.hear("STATUS"); told["READY"] != "" || told["EXTEND_TIMEOUT_USEC"] == "" || told["WATCHDOG"] != "1" ||
		!strings.Contains(told["STATUS"], "starting: 0 of 1 workers serve") {
		t.Errorf("at its start: %v", told)
	}
	if words := m.sofar(); contains(words, "READY") {
		t.Error("it was said to be ready before its application was imported")
	}
	write(t, filepath.Join(dir, "go"), "")
	if told := m.hear("READY"); told["READY"] != "1" || !strings.Contains(told["STATUS"], "serving: 1 of 1 workers serve, ") {
		t.Errorf("when it was ready: %v", told)
	}
	s.ready()
	if a := get(t, s.url); a != (answer{200, "[]"}) {
		t.Errorf("the application's environment: %+v", a)
	}
	childrenKnowNoManager(t, s.cmd.Process.Pid)

	t.Run("a good reload", func(t *testing.T) {
		write(t, filepath.Join(dir, "guado.toml"), strings.Replace(read(t, dir, "guado.toml"), "[server]", "[server]\nexpose_request_id = true", 1))
		before := monotonic(t)
		s.signal(syscall.SIGHUP)
		told := m.hear("RELOADING")
		at, err := strconv.ParseInt(told["MONOTONIC_USEC"], 10, 64)
		if err != nil || at < before || at > monotonic(t) {
			t.Errorf("it began to reload at %q, between %d and now", told["MONOTONIC_USEC"], before)
		}
		if told := m.hear("READY"); strings.Contains(told["STATUS"], "failed") {
			t.Errorf("after the reload: %v", told)
		}
	})
	t.Run("a bad reload", func(t *testing.T) {
		good := read(t, dir, "guado.toml")
		write(t, filepath.Join(dir, "guado.toml"), good+"\nnonsense = 1\n")
		if r := run(t, dir, "reload"); r.code != exitUsage {
			t.Errorf("exit code %d: %s", r.code, r.err)
		}
		m.hear("RELOADING")
		if told := m.hear("READY"); !strings.Contains(told["STATUS"], "serving: 1 of 1") || !strings.Contains(told["STATUS"], "the last reload failed") {
			t.Errorf("after the reload: %v", told)
		}
		write(t, filepath.Join(dir, "guado.toml"), good)
	})
	s.signal(syscall.SIGTERM)
	if told := m.hear("STOPPING"); told["STOPPING"] != "1" || told["EXTEND_TIMEOUT_USEC"] == "" {
		t.Errorf("at its end: %v", told)
	}
	if code := s.end(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if words := m.sofar(); contains(words, "READY") {
		t.Error("it was said to be ready while it stopped")
	}
}

// childrenKnowNoManager looks at the environment of all that a server has started.
func childrenKnowNoManager(t *testing.T, pid int) {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, list := range lists {
		for _, child := range strings.Fields(read(t, list)) {
			for variable := range strings.SplitSeq(read(t, "/proc", child, "environ"), "\x00") {
				if strings.HasPrefix(variable, "NOTIFY_SOCKET=") || strings.HasPrefix(variable, "WATCHDOG_") {
					t.Errorf("process %s knows %s", child, variable)
				}
			}
			seen++
		}
	}
	if seen < 3 {
		t.Errorf("a worker, a program and the guard were to be seen, not %d processes", seen)
	}
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheServiceManagerHearsOfAServerWhoseOtherAppCannotStart(t *testing.T) {
	m := newManager(t)
	dir := project(t, map[string]string{"hello.py": hello, "broken.py": "raise RuntimeError('no database')\n", "guado.toml": `
[server]
listen = ["127.0.0.1:0"]
state_dir = "state"
[[app]]
target = "hello"
[[app]]
target = "broken"
[[mount]]
app = "hello"
[[mount]]
path = "/broken"
app = "broken"
`})
	m.start(program(t, dir, "serve"))
	if told := m.hear("READY"); !strings.Contains(told["STATUS"], "1 of 2 workers serve") || !strings.Contains(told["STATUS"], "group broken has no worker that is ready") {
		t.Errorf("told: %v", told)
	}
}

func TestTheWatchdogHearsAgainAndAgainOfAServer(t *testing.T) {
	m := newManager(t)
	dir := project(t, map[string]string{"hello.py": hello})
	m.start(program(t, dir, "serve", "hello", "--listen", "127.0.0.1:0"), "WATCHDOG_USEC=900000")
	m.hear("READY")
	for range 4 { // more than a state change alone would send
		m.hear("WATCHDOG")
	}
}

func TestARequestToASocketOfSystemdWaitsUntilTheServerIsReady(t *testing.T) {
	m := newManager(t)
	dir := project(t, map[string]string{"late.py": late})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	cmd := program(t, dir)
	cmd.Args = []string{"sh", "-c", `export LISTEN_PID=$$ LISTEN_FDS=1 WATCHDOG_PID=$$ WATCHDOG_USEC=60000000; exec "$0" serve late`, os.Args[0]}
	cmd.Path = "/bin/sh"
	cmd.ExtraFiles = []*os.File{f}
	answers := make(chan answer, 1)
	go func() { // before there is a process: systemd has the socket first
		a, err := try("http://" + l.Addr().String())
		if err != nil {
			a.body = err.Error()
		}
		answers <- a
	}()
	s := m.start(cmd)
	awaitFile(t, filepath.Join(dir, "importing"))
	if words := m.sofar(); contains(words, "READY") {
		t.Error("it was said to be ready before its application was imported")
	}
	write(t, filepath.Join(dir, "go"), "")
	m.hear("READY")
	if a := <-answers; a != (answer{200, "[]"}) {
		t.Errorf("answer %+v", a)
	}
	if err := l.Close(); err != nil { // only the program has it now
		t.Fatal(err)
	}
	s.signal(syscall.SIGTERM)
	m.hear("STOPPING")
	if code := s.end(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

func TestTheServiceManagerWaitsForAnAppThatAProgramHolds(t *testing.T) {
	m := newManager(t)
	dir := project(t, map[string]string{"hello.py": hello, "held.py": hello, "guado.toml": `
[server]
listen = ["127.0.0.1:0"]
state_dir = "state"
[[app]]
target = "hello"
[[app]]
target = "held"
after = ["migrate"]
[[mount]]
app = "hello"
[[mount]]
path = "/held"
app = "held"
[[program]]
name = "migrate"
command = ["sh", "-c", "while ! test -e go; do sleep 0.05; done"]
once = true
`})
	s := m.start(program(t, dir, "serve")).ready() // people are told: the other one serves
	if words := m.sofar(); contains(words, "READY") {
		t.Error("it was said to be ready before its migration was through")
	}
	write(t, filepath.Join(dir, "go"), "")
	if told := m.hear("READY"); !strings.Contains(told["STATUS"], "2 of 2 workers serve") {
		t.Errorf("told: %v", told)
	}
	if a := get(t, s.url+"/held"); a.status != 200 {
		t.Errorf("answer %+v", a)
	}
}
