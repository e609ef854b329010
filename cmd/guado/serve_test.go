package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// slow answers when a file appears, and says that it was called.
const slow = `
import os, time
def application(environ, start_response):
    open("called", "w").close()
    while not os.path.exists("go"):
        time.sleep(0.01)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"late"]
import atexit
atexit.register(lambda: open("ended", "w").close())
`

func TestTheBannerNamesAddressKindInterpreterAndWorkers(t *testing.T) {
	dir := project(t, map[string]string{"hello.py": hello})
	s := serving(t, dir, "serve", "hello", "--workers", "2", "--threads", "4", "--python", interpreter())
	for _, want := range []string{s.url, "WSGI hello, ", "2 workers × 4 threads", "CPython 3.", "(" + interpreter() + ")"} {
		if !strings.Contains(s.text(), want) {
			t.Errorf("no %q", want)
		}
	}
	if a := get(t, s.url); a != (answer{200, "hello"}) {
		t.Errorf("answer %+v", a)
	}
	s.signal(syscall.SIGTERM)
	if code := s.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestASignalLetsRequestsFinishAndASecondOneCutsThem(t *testing.T) {
	for _, c := range []struct {
		name  string
		first syscall.Signal
		again bool
		cut   bool
	}{
		{"SIGTERM drains", syscall.SIGTERM, false, false}, {"SIGINT drains", syscall.SIGINT, false, false},
		{"a signal that is sent to the process and to its group drains", syscall.SIGTERM, true, false},
		{"a second signal cuts", syscall.SIGTERM, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := project(t, map[string]string{"slow.py": slow})
			s := serving(t, dir, "serve", "slow")
			answers := ask(s.url)
			awaitFile(t, filepath.Join(dir, "called"))
			s.signal(c.first)
			if c.again {
				s.wait("stopping")
				s.signal(c.first)
			}
			poll(t, "the end of the listener", func() bool {
				c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
				if err == nil {
					_ = c.Close() // it was only tried
				}
				return err != nil
			})
			s.wait(`stopping once the requests under way are answered requests=1 at_most=25s`)
			if c.cut {
				s.signal(syscall.SIGINT)
				s.wait(`requests are cut requests=1 because="told to stop at once"`)
				if a := <-answers; a.status == 200 {
					t.Errorf("the request was not cut: %+v", a)
				}
				if code := s.end(); code != 0 {
					t.Errorf("exit code %d", code)
				}
				return
			}
			write(t, filepath.Join(dir, "go"), "")
			if a := <-answers; a != (answer{200, "late"}) {
				t.Errorf("answer %+v", a)
			}
			if code := s.end(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if _, err := os.Stat(filepath.Join(dir, "ended")); err != nil {
				t.Errorf("atexit did not run: %v", err)
			}
		})
	}
}

// awaitFile waits until an application has written a file.
func awaitFile(t *testing.T, name string) {
	t.Helper()
	poll(t, "file "+name, func() bool {
		_, err := os.Stat(name)
		return err == nil
	})
}

func TestWhereItListens(t *testing.T) {
	dir := project(t, map[string]string{"hello.py": hello})
	t.Run("at $PORT", func(t *testing.T) {
		cmd := program(t, dir, "serve", "hello")
		cmd.Env = append(cmd.Env, "PORT=0")
		if s := start(t, cmd).ready(); get(t, s.url).body != "hello" {
			t.Error("no answer")
		}
	})
	t.Run("at an inherited socket", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		cmd := program(t, dir, "serve", "hello", "--listen", "fd://3")
		cmd.ExtraFiles = []*os.File{f}
		s := start(t, cmd)
		if err := l.Close(); err != nil { // only the program has it now
			t.Fatal(err)
		}
		if s.ready(); s.url != "http://"+l.Addr().String() || get(t, s.url).body != "hello" {
			t.Errorf("at %s, not %s", s.url, l.Addr())
		}
	})
	t.Run("at sockets of systemd", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		// Only a shell knows the number of the process that it becomes.
		cmd := program(t, dir)
		cmd.Args = []string{"sh", "-c", `export LISTEN_PID=$$ LISTEN_FDS=1; exec "$0" serve hello`, os.Args[0]}
		cmd.Path = "/bin/sh"
		cmd.ExtraFiles = []*os.File{f}
		s := start(t, cmd)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if s.ready(); s.url != "http://"+l.Addr().String() || get(t, s.url).body != "hello" {
			t.Errorf("at %s, not %s", s.url, l.Addr())
		}
	})
}

func TestTheOtherAppsServeWhileOneCannotStart(t *testing.T) {
	dir := project(t, map[string]string{"hello.py": hello, "broken.py": "raise RuntimeError('no database')\n", "guado.toml": `
[server]
listen = ["127.0.0.1:0"]
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
	s := start(t, program(t, dir, "serve")).ready()
	if a := get(t, s.url); a != (answer{200, "hello"}) {
		t.Errorf("hello: %+v", a)
	}
	a := get(t, s.url+"/broken")
	if a.status != 503 || strings.Contains(a.body, "no database") {
		t.Errorf("broken: %+v", a)
	}
	if !strings.Contains(s.text(), "RuntimeError: no database") {
		t.Error("the log does not show why")
	}
}

func TestTheLogForProgramsIsJSONLineByLine(t *testing.T) {
	dir := project(t, map[string]string{"broken.py": "def application(e, s):\n    raise ValueError('x')\n"})
	cmd := program(t, dir, "serve", "broken", "--listen", "127.0.0.1:0")
	cmd.Env = append(cmd.Env, "GUADO__SERVER__LOG_FORMAT=json")
	s := start(t, cmd)
	url := s.wait(`"listen":\["(http://[^"]+)"`)[1]
	if a := get(t, url); a.status != 500 {
		t.Errorf("answer %+v", a)
	}
	s.wait(`ValueError: x`)
	s.signal(syscall.SIGTERM)
	s.end()
	traceback := false
	for line := range strings.Lines(s.text()) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Errorf("%v: %s", err, line)
		}
		text := fmt.Sprint(record)
		traceback = traceback || strings.Contains(text, "ValueError: x") && record["request_id"] != nil
	}
	if !traceback {
		t.Error("no record has the traceback with its request id")
	}
}

func TestTheLogForPeopleShowsATracebackAsPythonPrintsIt(t *testing.T) {
	dir := project(t, map[string]string{"broken.py": "def application(e, s):\n    raise ValueError('x')\n"})
	s := serving(t, dir, "serve", "broken")
	if a := get(t, s.url); a.status != 500 || strings.Contains(a.body, "ValueError") {
		t.Errorf("answer %+v", a)
	}
	s.wait(`Exception in WSGI application .*request_id=.*\nTraceback \(most recent call last\):\n  File "` + dir + `/broken.py", line 2, in application\n    raise ValueError\('x'\)\nValueError: x\n`)
	if n := strings.Count(s.text(), "raise ValueError"); n != 1 {
		t.Errorf("the traceback is printed %d times", n)
	}
}

func TestAHangupOpensTheAccessLogAnew(t *testing.T) {
	dir := project(t, map[string]string{"hello.py": hello})
	log := filepath.Join(dir, "access.log")
	s := serving(t, dir, "serve", "hello", "--access-log", "access.log")
	get(t, s.url)
	if err := os.Rename(log, log+".1"); err != nil {
		t.Fatal(err)
	}
	s.signal(syscall.SIGHUP)
	s.wait("opened anew")
	get(t, s.url+"/second")
	poll(t, "second line", func() bool {
		data, err := os.ReadFile(log)
		return err == nil && bytes.Contains(data, []byte("/second"))
	})
}

func TestTheEnvironmentOfTheApplication(t *testing.T) {
	dir := project(t, map[string]string{
		"env": "FROM_FILE=yes\n",
		"show.py": `
import os, sys
def application(environ, start_response):
    start_response("200 OK", [])
    names = ("FROM_FILE", "GUADO__SERVER__LOG_LEVEL", "GUADO_LINK", "GUADO_PACKAGE", "PLAIN")
    return [repr([os.environ.get(n) for n in names] + [bool(os.environ.get("GUADO_INSTANCE")), os.getcwd(), sys.path[0], environ["SCRIPT_NAME"]]).encode()]
`,
	})
	cmd := program(t, filepath.Dir(dir), "serve", "show", "--dir", dir, "--env-file", filepath.Join(dir, "env"), "--root-path", "/shop", "--listen", "127.0.0.1:0")
	cmd.Env = append(cmd.Env, "GUADO__SERVER__LOG_LEVEL=debug", "PLAIN=1")
	s := start(t, cmd).ready()
	want := fmt.Sprintf("['yes', None, None, None, '1', True, '%s', '%s', '/shop']", dir, dir)
	if a := get(t, s.url); a.body != want {
		t.Errorf("got %s\nwant %s", a.body, want)
	}
}
