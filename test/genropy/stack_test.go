// Package genropy runs an unchanged GenroPy site under Guado, and under what it is run
// with today, and holds the one against the other.
package genropy

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/guado-server/guado/test/harness"
)

const (
	patience = 90 * time.Second
	instance = "site/projects/local/instances/gnrdevelop" // in examples/genropy
)

// stack is all that serves one copy of the site.
type stack struct {
	name string
	dir  string // the copy of examples/genropy
	url  string
	root int // the process from which all others descend
	// websocket dials what serves /websocket.
	websocket func() (net.Conn, error)
	// isWorker tells the process that runs the WSGI application.
	isWorker func(process) bool
	// kill ends a process with SIGKILL and, where nobody else does, what it leaves.
	kill func(pid int) error
}

// prepare makes a site in a folder of its own, with a state daemon of its own.
func prepare(t *testing.T) (dir, daemon string) {
	t.Helper()
	venv := filepath.Join(harness.Root(), ".cache", "genropy")
	if _, err := os.Stat(filepath.Join(venv, "bin", "gnr")); err != nil {
		t.Fatalf("%v: run tools/setup.sh genropy", err)
	}
	// A short name: GenroPy puts a socket whose path is over 90 characters elsewhere.
	dir, err := os.MkdirTemp("", "gnr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // what was killed may have left something behind
	example := filepath.Join(harness.Root(), "examples", "genropy")
	if err := os.MkdirAll(filepath.Join(dir, "api"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"guado.toml", "prepare.sh", "api/api.py"} {
		text, err := os.ReadFile(filepath.Join(example, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o755); err != nil { //nolint:gosec // one is run
			t.Fatal(err)
		}
	}
	api := filepath.Dir(filepath.Dir(harness.Python(t, "newest")))
	for link, target := range map[string]string{".venv": venv, "api/.venv": api} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	daemon = freePort(t)
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "prepare.sh"))
	cmd.Env = append(os.Environ(), "DAEMON_PORT="+daemon)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("prepare.sh: %v\n%s", err, out)
	}
	return dir, daemon
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // it was for its number only
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// guado serves the example as it is; only its ports are the test's.
func guado(t *testing.T) *stack {
	t.Helper()
	dir, daemon := prepare(t)
	file := filepath.Join(dir, "guado.toml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	ports := strings.NewReplacer("127.0.0.1:8080", "127.0.0.1:0", "127.0.0.1:40404", "127.0.0.1:"+daemon)
	if err := os.WriteFile(file, []byte(ports.Replace(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	s := harness.Start(t, harness.Options{File: file, Dir: dir})
	return &stack{
		name: "guado", dir: dir, url: s.URL, root: s.PID,
		websocket: func() (net.Conn, error) { return net.Dial("tcp", s.Addr) },
		isWorker: func(p process) bool {
			return strings.Contains(p.command, "GUADO_PACKAGE") && strings.HasSuffix(p.dir, "/gnrdevelop")
		},
		kill: func(pid int) error { return syscall.Kill(pid, syscall.SIGKILL) },
	}
}

// legacy is what the site is run with today: supervisord starts the same programs, and
// gunicorn. nginx, which only passes on, is left out: clients speak to gunicorn and to
// the WebSocket process themselves.
func legacy(t *testing.T) *stack {
	t.Helper()
	dir, _ := prepare(t)
	port := freePort(t)
	site := filepath.Join(dir, instance)
	config := fmt.Sprintf("[supervisord]\nnodaemon = true\nuser = %d\nlogfile = %s/supervisord.log\npidfile = %s/supervisord.pid\n", os.Getuid(), dir, dir)
	for name, command := range map[string]string{
		"daemon":    "gnr web daemon",
		"websocket": "gnr web async gnrdevelop",
		"site":      "gunicorn -b 127.0.0.1:" + port + " -w 1 -k gthread --threads 8 root:application",
	} {
		config += fmt.Sprintf("[program:%s]\ncommand = %s\ndirectory = %s\nstartsecs = 0\nautorestart = true\nstopwaitsecs = 3\nstopasgroup = true\nkillasgroup = true\nredirect_stderr = true\nstdout_logfile = %s/%s.log\n",
			name, command, site, dir, name)
	}
	file := filepath.Join(dir, "supervisord.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	env, err := os.ReadFile(filepath.Join(dir, "site", "env"))
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, ".venv", "bin")
	cmd := exec.Command(filepath.Join(bin, "supervisord"), "-c", file) //nolint:noctx // ended by the cleanup
	cmd.Env = append(os.Environ(), strings.Fields(string(env))...)
	cmd.Env = append(cmd.Env, "VIRTUAL_ENV="+filepath.Join(dir, ".venv"), "PATH="+bin+":"+os.Getenv("PATH"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(t, cmd, &out, dir) })
	return &stack{
		name: "gunicorn", dir: dir, url: "http://127.0.0.1:" + port, root: cmd.Process.Pid,
		websocket: func() (net.Conn, error) {
			return net.Dial("unix", filepath.Join(site, "site", "sockets", "async.sock"))
		},
		isWorker: func(p process) bool {
			return strings.Contains(p.command, "gunicorn") && p.parent != cmd.Process.Pid
		},
		kill: func(pid int) error {
			if group, err := syscall.Getpgid(pid); err == nil && group == pid {
				pid = -pid // supervisord leaves the rest of the group alone
			}
			return syscall.Kill(pid, syscall.SIGKILL)
		},
	}
}

// end stops supervisord and all that descends from it.
func end(t *testing.T, cmd *exec.Cmd, out *bytes.Buffer, dir string) {
	left := descendants(t, cmd.Process.Pid)
	_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	last := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait() // ended by a signal
	last.Stop()
	for _, p := range left {
		if now, ok := read(fmt.Sprintf("/proc/%d/stat", p.pid)); ok && now.command == p.command {
			_ = syscall.Kill(p.pid, syscall.SIGKILL) // it ends just now
		}
	}
	if !t.Failed() {
		return
	}
	t.Logf("supervisord said:\n%s", out.String())
	for _, name := range []string{"daemon", "websocket", "site"} {
		text, err := os.ReadFile(filepath.Join(dir, name+".log"))
		t.Logf("%s said (%v):\n%s", name, err, text)
	}
}

// await waits until the site and its WebSocket process answer.
func (s *stack) await(t *testing.T) {
	t.Helper()
	b := newBrowser(t, s)
	harness.Eventually(t, s.name+" serves the site", patience, func() bool {
		res, _, err := b.try(http.MethodGet, "/", "")
		return err == nil && res.StatusCode == http.StatusOK
	})
	harness.Eventually(t, s.name+" serves WebSockets", patience, func() bool { return s.pong() == nil })
}
