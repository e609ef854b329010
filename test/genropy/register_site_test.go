package genropy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/guado-server/guado/test/harness"
)

// A site goes from its daemon to our register and back. Before the step both are asked and
// every call is recorded; then there is no daemon in the way, and pages outlive kill -9; then
// the daemon is in charge again. Pages that were open at the beginning are so at the end.
func TestASiteGoesFromItsDaemonToOurRegisterAndBack(t *testing.T) {
	t.Parallel() // it waits most of the time
	dir, port := prepare(t)
	startDaemon(t, dir, port)
	calls := filepath.Join(dir, "calls")
	files := map[string]string{
		"shadow.toml": siteConfig("", "GUADO_GENROPY = \"shadow\", GUADO_GENROPY_RECORD = \""+calls+"\""),
		"phase4.toml": siteConfig("phase = 4\nstate_dir = \"state\"", ""),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var browsers []*browser

	server, s := serveSite(t, dir, "shadow.toml", &browsers)
	for range 4 {
		session(t, s)
	}
	browsers = append(browsers, newBrowser(t, s), newBrowser(t, s))
	for _, b := range browsers {
		b.open()
	}
	alive(t, "under the daemon", browsers)
	if log := server.Log(); strings.Contains(log, "the register in charge and ours differ") {
		t.Errorf("the registers differ: %s", log)
	} else if !strings.Contains(log, "the register in charge and ours: 2000 calls, 0 differences") {
		t.Errorf("the log does not tell how it goes: %s", log)
	}
	stopSite(t, server)
	replay(t, calls)

	server, s = serveSite(t, dir, "phase4.toml", &browsers)
	server.WaitLog("items from the daemon", patience)
	alive(t, "in phase 4", browsers)
	session(t, s)
	browsers = append(browsers, newBrowser(t, s))
	browsers[2].open()
	killWorker(t, s)
	alive(t, "after kill -9", browsers)
	for _, step := range [][]string{{"rollback"}, {"advance", "--force"}, {"rollback"}} {
		tell := exec.Command(harness.Binary(t), append(append([]string{"migrate"}, step...), "--config", filepath.Join(dir, "phase4.toml"))...) //nolint:gosec,noctx // the test's own
		tell.Dir = dir
		if out, err := tell.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", step, err, out)
		}
		alive(t, "after "+step[0], browsers)
	}
	if log := server.Log(); strings.Count(log, "items to the daemon") != 2 || strings.Contains(log, "both registers differ") {
		t.Errorf("the log of the steps: %s", log)
	}
	stopSite(t, server)

	_, s = serveSite(t, dir, "shadow.toml", &browsers)
	alive(t, "under the daemon again", browsers)
	for _, b := range browsers {
		b.leave()
		if a := b.ping(); a.status != http.StatusPreconditionFailed {
			t.Errorf("a page is there after its beacon: %d %.300s", a.status, a.body)
		}
	}
	session(t, s)
}

// startDaemon starts what GenroPy keeps its register in, as a process of nobody's.
func startDaemon(t *testing.T, dir, port string) {
	t.Helper()
	env, err := os.ReadFile(filepath.Join(dir, "site", "env"))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command(filepath.Join(dir, ".venv", "bin", "gnr"), "web", "daemon") //nolint:gosec,noctx // ended by the cleanup
	cmd.Env = append(os.Environ(), strings.Fields(string(env))...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // with the registers that it has started
		_ = cmd.Wait()                                      // killed
		if t.Failed() {
			t.Logf("the daemon said: %s", out.String())
		}
	})
	harness.Eventually(t, "the daemon is there", patience, func() bool {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = conn.Close() // it was for the answer only
		}
		return err == nil
	})
}

// serveSite serves the site, to the browsers that there are, too.
func serveSite(t *testing.T, dir, file string, browsers *[]*browser) (*harness.Server, *stack) {
	t.Helper()
	server := harness.Start(t, harness.Options{File: filepath.Join(dir, file), Dir: dir})
	s := &stack{
		name: file, dir: dir, url: server.URL, root: server.PID,
		isWorker: func(p process) bool {
			return strings.Contains(p.command, "GUADO_PACKAGE") && strings.HasSuffix(p.dir, "/gnrdevelop")
		},
	}
	for _, b := range *browsers {
		b.move(s)
	}
	awaitSite(t, s)
	return server, s
}

// move takes a browser, with its cookies and its page, to where the site is now.
func (b *browser) move(s *stack) {
	before, err := url.Parse(b.s.url)
	if err != nil {
		b.t.Fatal(err)
	}
	now, err := url.Parse(s.url)
	if err != nil {
		b.t.Fatal(err)
	}
	b.client.Jar.SetCookies(now, b.client.Jar.Cookies(before))
	b.client.CloseIdleConnections()
	b.s = s
}

func awaitSite(t *testing.T, s *stack) {
	t.Helper()
	harness.Eventually(t, "the site answers", patience, func() bool {
		res, _, err := newBrowser(t, s).try(http.MethodGet, "/", "")
		return err == nil && res.StatusCode == http.StatusOK
	})
}

func stopSite(t *testing.T, server *harness.Server) {
	t.Helper()
	server.Signal(syscall.SIGTERM)
	if code := server.Wait(patience); code != 0 {
		t.Fatalf("the server ended with %d: %s", code, server.Log())
	}
}

// killWorker ends it by kill -9, and waits for the next one.
func killWorker(t *testing.T, s *stack) {
	t.Helper()
	old := s.find(t, s.isWorker)
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "there is another worker", patience, func() bool {
		now := s.find(t, s.isWorker)
		return now != 0 && now != old
	})
	awaitSite(t, s)
}

// alive asks for every page as its script does: 412 would send it to a new one.
func alive(t *testing.T, when string, browsers []*browser) {
	t.Helper()
	for i, b := range browsers {
		if a := b.ping(); a.status != http.StatusOK || !strings.Contains(a.body, `<result _T="NN">`) {
			t.Errorf("%s, page %d: %d %.300s", when, i, a.status, a.body)
		}
		if a := b.call("/", "method=main"); a.status != http.StatusOK || !strings.Contains(a.body, "<resultType>node") {
			t.Errorf("%s, a call of page %d: %d %.300s", when, i, a.status, a.body)
		}
	}
}

// replay plays what was recorded to GenroPy's own register and to ours.
func replay(t *testing.T, calls string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	root := harness.Root()
	cmd := exec.CommandContext(ctx, filepath.Join(root, ".cache", "genropy", "bin", "python"), "-W", "ignore", "replay.py", calls) //nolint:gosec // the test's own
	cmd.Dir = filepath.Join(root, "test", "genropy", "register")
	cmd.Env = append(os.Environ(), "PYTHONPATH="+filepath.Join(root, "python"), "HOME="+t.TempDir(), "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var played struct {
		Calls       int
		Differences []string
		Names       map[string]int
	}
	if err := json.Unmarshal(out, &played); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if played.Calls < 2000 || len(played.Differences) > 0 {
		t.Errorf("%d calls were played again, differences %q", played.Calls, played.Differences)
	}
	t.Logf("%d calls: %v", played.Calls, played.Names)
}

// siteConfig serves the site alone. Its WebSocket process would need the daemon.
func siteConfig(server, env string) string {
	return fmt.Sprintf(`
[server]
listen = ["127.0.0.1:0"]
%s

[[app]]
name = "site"
kind = "wsgi"
target = "root:application"
dir = "site/projects/local/instances/gnrdevelop"
python = ".venv/bin/python"
env_file = "site/env"
env = {%s}
threads = 8

[[mount]]
path = "/"
app = "site"
`, server, env)
}
