// Package harness runs bin/guado for the tests below test/: real processes, real
// sockets, loopback only, everything it started is stopped by process id.
// Not here: assertions about behaviour; those are the tests'.
package harness

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Root is the folder of the repository.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Apps is the folder of the test applications.
func Apps() string { return filepath.Join(Root(), "test", "apps") }

// Python gives the interpreter of the test environments, "oldest" or "newest".
func Python(tb testing.TB, which string) string {
	tb.Helper()
	found, err := filepath.Glob(filepath.Join(Root(), ".cache", "venv-3.*", "bin", "python"))
	if err != nil || len(found) == 0 {
		tb.Fatal("no test environment: run tools/setup.sh test")
	}
	minor := func(p string) (n int) {
		_, _ = fmt.Sscanf(filepath.Base(filepath.Dir(filepath.Dir(p))), "venv-3.%d", &n)
		return n
	}
	best := ""
	for _, p := range found {
		if _, err := os.Stat(filepath.Join(filepath.Dir(p), "django-admin")); err != nil {
			continue // a Python between the ends has no frameworks
		}
		if best == "" || (which == "newest") == (minor(p) > minor(best)) {
			best = p
		}
	}
	if best == "" {
		tb.Fatal("no test environment with the frameworks: run tools/setup.sh test")
	}
	return best
}

// Transports are the ways a host talks to its workers here.
func Transports() []string {
	if runtime.GOOS == "linux" {
		return []string{"shm", "socket"}
	}
	return []string{"socket"}
}

// Options of one server.
type Options struct {
	Args      []string // behind "guado serve"; --listen is added unless Config names one
	Config    string   // text of a guado.toml, written to Dir (default: a fresh folder)
	File      string   // a guado.toml where it is, instead of Config
	Dir       string   // working directory; default test/apps
	Env       []string // NAME=value, over this process's
	Transport string   // "shm", "socket" or "" (default)
	Python    string   // interpreter; default the newest test environment
	TLS       bool     // serve https with a certificate made here
	NoWait    bool     // do not wait until it listens
	Binary    string   // another program than bin/guado; it is given the path of Config alone
}

// Server is one running guado.
type Server struct {
	URL  string // "http://127.0.0.1:43211"
	Addr string // "127.0.0.1:43211"
	PID  int

	tb     testing.TB
	cmd    *exec.Cmd
	exited chan struct{}
	log    Log
}

var address = regexp.MustCompile(`(https?)://(127\.0\.0\.1:\d+)`)

// Start runs bin/guado and waits until it says where it listens. It is stopped when
// the test ends, and its log is shown when the test failed.
func Start(tb testing.TB, o Options) *Server {
	tb.Helper()
	s := &Server{tb: tb, exited: make(chan struct{})}
	args := []string{"serve"}
	dir := o.Dir
	if dir == "" {
		dir = Apps()
	}
	if o.File != "" {
		args = append(args, "--config", o.File)
	} else if o.Config != "" {
		file := filepath.Join(tb.TempDir(), "guado.toml")
		if err := os.WriteFile(file, []byte(o.Config), 0o600); err != nil {
			tb.Fatal(err)
		}
		args = append(args, "--config", file)
	} else {
		args = append(args, "--listen", "127.0.0.1:0")
		python := o.Python
		if python == "" {
			python = Python(tb, "newest")
		}
		args = append(args, "--python", python)
	}
	if o.TLS {
		cert, key := Certificate(tb)
		args = append(args, "--tls-cert", cert, "--tls-key", key)
	}
	binary := o.Binary
	if binary == "" {
		binary = Binary(tb)
	} else {
		args = args[len(args)-1:]
	}
	s.cmd = exec.Command(binary, append(args, o.Args...)...) //nolint:noctx // ended by cleanup
	s.cmd.Dir = dir
	s.cmd.Env = append(os.Environ(), o.Env...)
	if o.Transport != "" {
		s.cmd.Env = append(s.cmd.Env, "GUADO__SERVER__TRANSPORT="+o.Transport)
	}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := s.cmd.StderrPipe()
	if err != nil {
		tb.Fatal(err)
	}
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	s.PID = s.cmd.Process.Pid
	var readers sync.WaitGroup
	readers.Go(func() { s.read(stdout) })
	readers.Go(func() { s.read(out) })
	go func() {
		readers.Wait()
		_ = s.cmd.Wait() // the exit code is read from ProcessState
		close(s.exited)
	}()
	tb.Cleanup(s.cleanup)
	if !o.NoWait {
		line := s.WaitLog(address.String(), time.Minute)
		m := address.FindStringSubmatch(line)
		s.URL, s.Addr = m[0], m[2]
	}
	return s
}

// Binary is the server under test.
func Binary(tb testing.TB) string {
	tb.Helper()
	path := os.Getenv("GUADO_BIN")
	if path == "" {
		path = filepath.Join(Root(), "bin", "guado")
	}
	if _, err := os.Stat(path); err != nil {
		tb.Fatalf("%v: run make build", err)
	}
	return path
}

func (s *Server) read(r io.Reader) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		_, _ = s.log.Write([]byte(line)) // never fails
		if err != nil {
			return
		}
	}
}

// Log is what the server has printed so far.
func (s *Server) Log() string { return s.log.String() }

// WaitLog waits for a line that matches and gives it; the test fails after limit or
// when the server ends before.
func (s *Server) WaitLog(pattern string, limit time.Duration) string {
	s.tb.Helper()
	re := regexp.MustCompile(pattern)
	timeout := time.After(limit)
	for {
		text, more := s.log.Sofar()
		for line := range strings.SplitSeq(text, "\n") {
			if re.MatchString(line) {
				return line
			}
		}
		select {
		case <-more:
		case <-s.exited:
			if !re.MatchString(s.Log()) {
				s.tb.Fatalf("the server ended before it printed %q:\n%s", pattern, s.Log())
			}
		case <-timeout:
			s.tb.Fatalf("no line matches %q after %v:\n%s", pattern, limit, s.Log())
		}
	}
}

// Signal sends a signal to the host only.
func (s *Server) Signal(sig syscall.Signal) {
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.tb.Fatal(err)
	}
}

// Wait waits for the end of the host and gives its exit code.
func (s *Server) Wait(limit time.Duration) int {
	s.tb.Helper()
	select {
	case <-s.exited:
		return s.cmd.ProcessState.ExitCode()
	case <-time.After(limit):
		s.tb.Fatalf("the server is still running after %v:\n%s", limit, s.Log())
		return -1
	}
}

// Exited is closed when the host has ended.
func (s *Server) Exited() <-chan struct{} { return s.exited }

func (s *Server) cleanup() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-s.exited:
	case <-time.After(20 * time.Second):
		_ = syscall.Kill(-s.PID, syscall.SIGKILL)
		<-s.exited
		s.tb.Error("the server did not end within 20 s of SIGTERM")
	}
	if s.tb.Failed() {
		s.tb.Logf("log of the server:\n%s", s.Log())
	}
}

// Workers gives the process ids of the host's direct children, its guard excepted.
func (s *Server) Workers() []int {
	s.tb.Helper()
	var pids []int
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.PID))
	if err != nil {
		s.tb.Fatal(err)
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		for field := range strings.FieldsSeq(string(text)) {
			var pid int
			name, _ := os.ReadFile("/proc/" + field + "/comm") // empty of one that has ended
			if _, err := fmt.Sscan(field, &pid); err == nil && string(name) != "guado-guard\n" {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// Dial opens a raw connection.
func (s *Server) Dial() net.Conn {
	s.tb.Helper()
	c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(context.Background(), "tcp", s.Addr)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.tb.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		s.tb.Fatal(err)
	}
	return c
}

// Lanes are the HTTP versions a test body runs over.
func Lanes() []string { return []string{"http1", "http2"} }

// Client speaks one lane to the server: http1, or http2 over TLS (Options.TLS) or
// with prior knowledge (h2c). It never follows redirects or decodes bodies.
func Client(tb testing.TB, lane string) *http.Client {
	tb.Helper()
	protocols := new(http.Protocols)
	if lane == "http2" {
		protocols.SetHTTP2(true)
		protocols.SetUnencryptedHTTP2(true)
	} else {
		protocols.SetHTTP1(true)
	}
	transport := &http.Transport{
		DisableCompression: true, Protocols: protocols, MaxIdleConnsPerHost: 100,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // a certificate made for this test
	}
	tb.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport: transport, Timeout: 2 * time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
