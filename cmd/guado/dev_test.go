package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/creack/pty"
)

func TestDevRestartsOnAChangeAndKeepsItsSocket(t *testing.T) {
	dir := project(t, map[string]string{"app.py": "import words\n" + strings.ReplaceAll(hello, `b"hello"`, "words.HELLO"), "words.py": "HELLO = b'one'\n"})
	s := serving(t, dir, "dev", "app")
	if a := get(t, s.url); a.body != "one" {
		t.Fatalf("answer %+v", a)
	}
	// From now on no connection is refused and no request fails, whatever restarts.
	quit, failed := make(chan struct{}), make(chan error, 1)
	var asking sync.WaitGroup
	asking.Go(func() {
		for {
			select {
			case <-quit:
				return
			default:
			}
			if a, err := try(s.url); err != nil || a.status != 200 {
				select {
				case failed <- err:
				default:
				}
			}
		}
	})
	// Of different lengths: Python compares a cached module by size and whole seconds.
	for _, word := range []string{"three", "four"} {
		write(t, filepath.Join(dir, "words.py"), "HELLO = b'"+word+"'\n")
		until(t, s.url, func(a answer) bool { return a.body == word })
	}
	close(quit)
	asking.Wait()
	select {
	case err := <-failed:
		t.Errorf("a request failed during a restart: %v", err)
	default:
	}
	if !strings.Contains(s.text(), "changed=words.py") {
		t.Error("the log does not name the file")
	}
	s.signal(syscall.SIGINT)
	if code := s.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestDevRestartsTheGroupsWhoseFilesChangedAndTakesAChangedConfiguration(t *testing.T) {
	const config = "[[app]]\nname = \"a\"\ntarget = \"web\"\ndir = \"a\"\n[[app]]\nname = \"b\"\ntarget = \"web\"\ndir = \"b\"\n" +
		"[[mount]]\npath = \"/\"\napp = \"a\"\n[[mount]]\npath = \"/b\"\napp = \"b\"\n"
	const server = "[server]\nlisten = [\"127.0.0.1:0\"]\nstate_dir = \"state\"\n"
	dir := project(t, map[string]string{"a/web.py": hello, "b/web.py": hello, "guado.toml": server + config})
	s := start(t, program(t, dir, "dev"))
	url := s.wait(address.String())[1]
	until(t, url, func(a answer) bool { return a == answer{200, "hello"} })
	until(t, url+"/b", func(a answer) bool { return a == answer{200, "hello"} })
	before := workersOf(t, dir)
	write(t, filepath.Join(dir, "b", "web.py"), strings.ReplaceAll(hello, `b"hello"`, `b"changed"`))
	until(t, url+"/b", func(a answer) bool { return a == answer{200, "changed"} })
	if after := workersOf(t, dir); after[0].PID != before[0].PID || after[1].PID == before[1].PID {
		t.Errorf("%+v, before %+v", after, before)
	}
	write(t, filepath.Join(dir, "guado.toml"), server+strings.ReplaceAll(config, `"/b"`, `"/c"`))
	until(t, url+"/c", func(a answer) bool { return a == answer{200, "changed"} })
	s.wait("the configuration was reloaded")
	write(t, filepath.Join(dir, "guado.toml"), server+"nonsense = 1\n")
	s.wait("the configuration is wrong; the server goes on as it was.*nonsense")
	if a := get(t, url+"/c"); a.body != "changed" {
		t.Errorf("%+v", a)
	}
}

func TestDevShowsInTheBrowserWhatFails(t *testing.T) {
	dir := project(t, map[string]string{"app.py": "1/0\n"})
	s := start(t, program(t, dir, "dev", "app", "--listen", "127.0.0.1:0"))
	url := s.wait(address.String())[1] // although the application has never been ready
	if banner := s.wait(`serves .*\n +/ +(.*)\n`)[1]; !strings.HasPrefix(banner, "app, 1 worker (not ready)") {
		t.Errorf("the banner says %q of an application that nobody knows", banner)
	}
	boot := until(t, url, func(a answer) bool { return a.status == 503 })
	for _, want := range []string{"<h1>app cannot start: ZeroDivisionError: division by zero</h1>", "location.reload()", "<pre>", "app.py&#34;, line 1, in &lt;module&gt;", "ZeroDivisionError"} {
		if !strings.Contains(boot.body, want) {
			t.Errorf("while it cannot start: no %q in\n%s", want, boot.body)
		}
	}
	s.wait("started again when a file changes")
	if n := strings.Count(s.text(), "ZeroDivisionError: division by zero\n"); n != 1 {
		t.Errorf("the log shows the traceback %d times", n)
	}
	write(t, filepath.Join(dir, "app.py"), "def application(e, s):\n    raise ValueError('<b>')\n")
	call := until(t, url, func(a answer) bool { return a.status == 500 })
	if strings.Contains(call.body, "location.reload()") {
		t.Error("the page of an exception asks again, which would call the application")
	}
	for _, want := range []string{"in application", "<h1>ValueError: &lt;b&gt;</h1>"} {
		if !strings.Contains(call.body, want) {
			t.Errorf("when it raises: no %q in\n%s", want, call.body)
		}
	}
	write(t, filepath.Join(dir, "app.py"), "async def app(scope, receive, send):\n    raise KeyError('k')\n")
	async := until(t, url, func(a answer) bool { return strings.Contains(a.body, "KeyError") })
	if async.status != 500 {
		t.Errorf("when a coroutine raises: %+v", async)
	}
	write(t, filepath.Join(dir, "app.py"), hello)
	until(t, url, func(a answer) bool { return a == answer{200, "hello"} })
}

func TestDevHasNoDeadlines(t *testing.T) {
	dir := project(t, map[string]string{"slow.py": slow})
	s := serving(t, dir, "dev", "slow", "--request-timeout", "0.001")
	answers := ask(s.url)
	awaitFile(t, filepath.Join(dir, "called"))
	select { // the deadline would have been over before the application was called
	case a := <-answers:
		t.Errorf("answered before the application was ready to: %+v", a)
	default:
	}
	write(t, filepath.Join(dir, "go"), "")
	if a := <-answers; a != (answer{200, "late"}) {
		t.Errorf("answer %+v", a)
	}
}

// terminal is a server that has a pseudo-terminal, and what it shows.
func terminal(t *testing.T, dir string, args ...string) (s *server, keys io.Writer) {
	t.Helper()
	s = &server{t: t, cmd: program(t, dir, args...), done: make(chan struct{})}
	screen, err := pty.Start(s.cmd)
	if err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		_, _ = io.Copy(&s.log, screen) // ends with an error of the terminal when the program does
	})
	go func() {
		_ = s.cmd.Wait() // the code is read from ProcessState
		close(s.done)
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill() // it may have ended
		<-s.done
		reading.Wait()
		_ = screen.Close() // of the test
		if t.Failed() {
			t.Logf("the terminal showed:\n%s", s.text())
		}
	})
	return s, screen
}

func TestBreakpointHasTheTerminal(t *testing.T) {
	for kind, text := range map[string]string{
		"wsgi": "def app(environ, start_response):\n    x = 6\n    breakpoint()\n    start_response('200 OK', [])\n    return [str(x).encode()]\n",
		"asgi": "async def app(scope, receive, send):\n    assert scope['type'] == 'http'\n    x = 6\n    breakpoint()\n    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n    await send({'type': 'http.response.body', 'body': str(x).encode()})\n",
	} {
		t.Run(kind, func(t *testing.T) {
			dir := project(t, map[string]string{"debug.py": text})
			s, keys := terminal(t, dir, "dev", "debug", "--listen", "127.0.0.1:0")
			plain := regexp.MustCompile(`serves .*?(http://127\.0\.0\.1:\d+)`)
			url := s.wait(plain.String())[1]
			answers := make(chan answer, 1)
			go func() {
				a, err := try(url)
				if err != nil {
					a.body = err.Error()
				}
				answers <- a
			}()
			for _, dialogue := range []struct{ shown, typed string }{
				{`\(Pdb\) $`, "p x * 7\n"},
				{`\r\n42\r\n\(Pdb\) $`, "x = 9\n"},
				{`x = 9\r\n\(Pdb\) $`, "c\n"},
			} {
				s.wait(dialogue.shown)
				if _, err := io.WriteString(keys, dialogue.typed); err != nil {
					t.Fatal(err)
				}
			}
			if a := <-answers; a != (answer{200, "9"}) {
				t.Errorf("answer %+v", a)
			}
			if _, err := keys.Write([]byte{3}); err != nil { // Ctrl-C
				t.Fatal(err)
			}
			if code := s.end(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

func TestDevDoesNotWaitForARequestThatNeverEnds(t *testing.T) {
	dir := project(t, map[string]string{"slow.py": slow})
	s := serving(t, dir, "dev", "slow")
	gone := make(chan struct{})
	go func() {
		_, _ = try(s.url) // it is cut
		close(gone)
	}()
	awaitFile(t, filepath.Join(dir, "called"))
	write(t, filepath.Join(dir, "slow.py"), hello)
	until(t, s.url, func(a answer) bool { return a == answer{200, "hello"} })
	<-gone
}

func TestDevWatchesMoreFoldersWhenAsked(t *testing.T) {
	dir := project(t, map[string]string{"app/app.py": "import sys\nsys.path.append('../lib')\nimport lib\n" + strings.ReplaceAll(hello, `b"hello"`, "lib.HELLO"), "lib/lib.py": "HELLO = b'one'\n"})
	s := serving(t, filepath.Join(dir, "app"), "dev", "app", "--watch", "../lib")
	write(t, filepath.Join(dir, "lib", "lib.py"), "HELLO = b'again'\n")
	until(t, s.url, func(a answer) bool { return a.body == "again" })
	if _, err := os.Stat(filepath.Join(dir, "lib", "lib.py")); err != nil {
		t.Error(err)
	}
}
