package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/guado-server/guado/test/harness"
)

// asGuado makes the test binary be guado: the tests run the program as a shell does.
const asGuado = "GUADO_TEST_AS_GUADO"

func TestMain(m *testing.M) {
	if os.Getenv(asGuado) != "" || os.Getenv("GUADO_CHILD") != "" { // the guard has an environment of its own
		main()
	}
	os.Exit(m.Run())
}

// limit is what a test waits for anything.
const limit = 30 * time.Second

// interpreter is the newest CPython of this machine that workers can run on.
var interpreter = sync.OnceValue(func() string {
	out, err := exec.CommandContext(context.Background(), "../../tools/pythons.sh", "newest").Output()
	if err != nil {
		panic(err)
	}
	_, path, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	return path
})

// project makes a folder with files.
func project(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
	}
	return dir
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// program prepares a run of the program in dir.
func program(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*limit)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Dir = dir
	cmd.Env = []string{
		asGuado + "=1", "PATH=" + filepath.Dir(interpreter()) + ":" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"),
		"GUADO_CACHE_DIR=" + cacheDir(), "TMPDIR=" + os.TempDir(), "GORACE=atexit_sleep_ms=0", // it sleeps a second otherwise
	}
	return cmd
}

// cacheDir is shared by the tests, so that the extension is compiled once where none
// is built in.
var cacheDir = sync.OnceValue(func() string {
	return filepath.Join(os.TempDir(), "guado-command-test-"+strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, time.Now().Format("20060102")))
})

// result is how a short run ended.
type result struct {
	code     int
	out, err string
}

func run(t *testing.T, dir string, args ...string) result {
	t.Helper()
	cmd := program(t, dir, args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errOut.String()}
}

// server is a run that goes on.
type server struct {
	t    *testing.T
	cmd  *exec.Cmd
	url  string
	done chan struct{}
	log  harness.Log
}

// start runs the program; it is killed when the test ends before it does.
func start(t *testing.T, cmd *exec.Cmd) *server {
	t.Helper()
	s := &server{t: t, cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // the code is read from ProcessState
		close(s.done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-s.done
		if t.Failed() {
			t.Logf("%s\n%s", strings.Join(cmd.Args[1:], " "), s.text())
		}
	})
	return s
}

// serving starts a server and waits until it is ready.
func serving(t *testing.T, dir string, args ...string) *server {
	t.Helper()
	return start(t, program(t, dir, append(args, "--listen", "127.0.0.1:0")...)).ready()
}

var address = regexp.MustCompile(`serves .*?(https?://127\.0\.0\.1:\d+)`)

func (s *server) ready() *server {
	s.t.Helper()
	s.url = s.wait(address.String())[1]
	return s
}

func (s *server) text() string { return s.log.String() }

// wait waits until the output matches.
func (s *server) wait(pattern string) []string {
	s.t.Helper()
	re := regexp.MustCompile(pattern)
	timeout := time.After(limit)
	for {
		text, more := s.log.Sofar()
		if m := re.FindStringSubmatch(text); m != nil {
			return m
		}
		select {
		case <-more:
		case <-s.done:
			if !re.MatchString(s.text()) {
				s.t.Fatalf("it ended before it printed %q", pattern)
			}
		case <-timeout:
			s.t.Fatalf("it never printed %q", pattern)
		}
	}
}

func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// end waits for the program's own end and gives its exit code.
func (s *server) end() int {
	s.t.Helper()
	select {
	case <-s.done:
	case <-time.After(limit):
		s.t.Fatal("it did not end")
	}
	return s.cmd.ProcessState.ExitCode()
}

// answer is what a request got.
type answer struct {
	status int
	body   string
}

func get(t *testing.T, url string) answer {
	t.Helper()
	a, err := try(url)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// ask gives the answer once there is one, or the error as its body.
func ask(url string) <-chan answer {
	answers := make(chan answer, 1)
	go func() {
		a, err := try(url)
		if err != nil {
			a.body = err.Error()
		}
		answers <- a
	}()
	return answers
}

func try(url string) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return answer{}, err
	}
	r.Header.Set("Accept", "text/html")
	r.Close = true // each request looks for the listener anew
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return answer{}, err
	}
	body, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, string(body)}, errors.Join(err, res.Body.Close())
}

// until asks again and again until the answer will do: a restart has no other event
// that a client could see.
func until(t *testing.T, url string, ok func(answer) bool) answer {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		a := get(t, url)
		if ok(a) {
			return a
		}
		if time.Now().After(deadline) {
			t.Fatalf("the answer is still %d %s", a.status, a.body)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

const hello = `
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
`

// poll waits for something of another process that has no event here.
func poll(t *testing.T, what string, done func() bool) {
	t.Helper()
	harness.Eventually(t, what, limit, done)
}
