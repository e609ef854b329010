package doctor_test

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/doctor"
	"github.com/guado-server/guado/test/harness"
)

// examine looks at a configuration in a folder of its own; prepare may change the folder.
func examine(t *testing.T, text string, running *doctor.Running, prepare func(t *testing.T, dir string)) *doctor.Report {
	t.Helper()
	dir, err := os.MkdirTemp("", "guado") // t.TempDir is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // so that its mode is known
		t.Fatal(err)
	}
	text = strings.ReplaceAll(text, "DIR", dir)
	file := filepath.Join(dir, "guado.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if prepare != nil {
		prepare(t, dir)
	}
	c, err := config.Load(config.Options{File: file, Workdir: dir, Environ: []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}})
	if err != nil {
		t.Fatal(err)
	}
	return doctor.Examine(t.Context(), doctor.Case{Config: c, Environ: os.Environ(), Running: running})
}

func finding(t *testing.T, r *doctor.Report, check string) doctor.Finding {
	t.Helper()
	var found *doctor.Finding
	for i, f := range r.Findings { // the worst of several
		if f.Check == check && (found == nil || f.Verdict == doctor.Fail || found.Verdict == doctor.OK) {
			found = &r.Findings[i]
		}
	}
	if found == nil {
		t.Fatalf("nothing was found about %q: %+v", check, r.Findings)
	}
	return *found
}

const site = "[[mount]]\nredirect = \"https://example.org\"\n"

func put(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// situation is a configuration in a folder that prepare makes, and what is to be found.
type situation struct {
	text    string
	prepare func(t *testing.T, dir string)
	running *doctor.Running
	check   string
	verdict doctor.Verdict
	value   string
	advice  string
}

var situations = map[string]situation{
	"a configuration that everybody can write": {
		"[server]\nlisten = [\"127.0.0.1:0\"]\n" + site, func(t *testing.T, dir string) { put(t, dir+"/guado.toml", 0o666); rewrite(t, dir) }, nil,
		"configuration", doctor.Fail, "can be written to by everybody (0666", "chmod o-w",
	},
	"one that its group can write": {
		"[server]\nlisten = [\"127.0.0.1:0\"]\n" + site, func(t *testing.T, dir string) { put(t, dir+"/guado.toml", 0o660); rewrite(t, dir) }, nil,
		"configuration", doctor.Warn, "by its group", "chmod g-w",
	},
	"a folder that is none": {
		"[server]\nlisten = [\"127.0.0.1:0\"]\nstate_dir = \"DIR/file/state\"\n" + site, func(t *testing.T, dir string) { put(t, dir+"/file", 0o600) }, nil,
		"state_dir", doctor.Fail, "file/state", "server.state_dir",
	},
	"a folder that will be made": {
		"[server]\nlisten = [\"127.0.0.1:0\"]\nstate_dir = \"DIR/a/b\"\n" + site, nil, nil,
		"state_dir", doctor.OK, "will be made", "",
	},
	"a cache into which everybody can put code": {
		"[server]\nlisten = [\"127.0.0.1:0\"]\ncache_dir = \"DIR/cache\"\n" + site, func(t *testing.T, dir string) { open(t, dir+"/cache") }, nil,
		"cache_dir", doctor.Fail, "by everybody", "workers run",
	},
	"an admin socket that everybody can replace": {
		"[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nsocket = \"DIR/run/admin.sock\"\n" + site, func(t *testing.T, dir string) { open(t, dir+"/run") }, nil,
		"admin socket", doctor.Fail, "everybody can put another one in its place", "chmod o-w",
	},
	"an admin socket that others can reach": {
		"[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nsocket = \"DIR/admin.sock\"\n" + site, func(t *testing.T, dir string) { listen(t, dir+"/admin.sock", 0o666) }, nil,
		"admin socket", doctor.Fail, "can be reached by others (0666", "chmod 0600",
	},
	"an admin socket as it should be": {
		"[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nsocket = \"DIR/admin.sock\"\n" + site, func(t *testing.T, dir string) { listen(t, dir+"/admin.sock", 0o600) }, nil,
		"admin socket", doctor.OK, "root can steer the server", "",
	},
	"no admin socket": {
		"[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nsocket = \"off\"\n" + site, nil, nil,
		"admin socket", doctor.Warn, "none", "signals are left",
	},
	"hashes of passwords that everybody can read": {
		"[server]\nlisten = [\"127.0.0.1:0\"]\n[[mount]]\nbasic_auth = \"DIR/users\"\nredirect = \"https://example.org\"\n", func(t *testing.T, dir string) { put(t, dir+"/users", 0o644) }, nil,
		"passwords of /", doctor.Warn, "open to everybody", "chmod o=",
	},
	"figures for everybody": {
		"[server]\nlisten = [\"127.0.0.1:0\"]\n[metrics]\nlisten = \"0.0.0.0:0\"\n" + site, nil, nil,
		"metrics 0.0.0.0:0", doctor.Warn, "other machines can read it", "127.0.0.1",
	},
	"every client as a proxy": {
		"[server]\nlisten = [\"127.0.0.1:0\"]\ntrusted_proxies = [\"0.0.0.0/0\"]\n" + site, nil, nil,
		"trusted_proxies", doctor.Fail, "every client may say who it is", "name the addresses",
	},
	"a spool that is larger than its disk": {
		"[server]\nlisten = [\"127.0.0.1:0\"]\n[server.spool]\ndisk = \"1000TiB\"\n" + site, nil, nil,
		"spool", doctor.Warn, "uploads may take 1000 TiB", "server.spool.disk",
	},
	"an access log in a folder that will not be made": {
		"[server]\nlisten = [\"127.0.0.1:0\"]\naccess_log = \"DIR/log\"\n" + site, nil, nil,
		"access_log", doctor.OK, "/log", "",
	},
	"files that are read": {
		"[server]\nlisten = [\"127.0.0.1:0\"]\n[[mount]]\nstatic = \"DIR\"\n", nil, nil,
		"files of /", doctor.OK, "read by", "",
	},
	"an account that is not there": {
		"[server]\nlisten = [\"127.0.0.1:0\"]\n[[program]]\nname = \"a\"\ncommand = [\"true\"]\nuser = \"nobody-has-this-name\"\n" + site, nil, nil,
		"program a", doctor.Fail, "nobody-has-this-name", "useradd",
	},
	"a server that is closed": {
		"[server]\nlisten = [\"127.0.0.1:0\"]\n" + site, nil, &doctor.Running{PID: os.Getpid(), State: "serving", Closed: "paused"},
		"open", doctor.Warn, "paused", "guado resume",
	},
	"a server that cannot serve all": {
		"[server]\nlisten = [\"127.0.0.1:0\"]\n" + site, nil, &doctor.Running{PID: os.Getpid(), State: "serving", Problems: []string{"group a has no worker that is ready"}},
		"running", doctor.Fail, "group a has no worker", "guado status",
	},
	"a server of another version": {
		"[server]\nlisten = [\"127.0.0.1:0\"]\n" + site, nil, &doctor.Running{PID: os.Getpid(), State: "serving", Version: "0.0.0-old"},
		"version", doctor.Warn, "0.0.0-old runs", "anew",
	},
	"a reload that failed": {
		"[server]\nlisten = [\"127.0.0.1:0\"]\n" + site, nil, &doctor.Running{PID: os.Getpid(), State: "serving", Reload: "unknown key"},
		"last reload", doctor.Warn, "unknown key", "guado check",
	},
}

func TestWhatIsFoundSaysWhatToDo(t *testing.T) {
	for name, c := range situations {
		t.Run(name, func(t *testing.T) {
			f := finding(t, examine(t, c.text, c.running, c.prepare), c.check)
			if f.Verdict != c.verdict || !strings.Contains(f.Value, c.value) || !strings.Contains(f.Advice, c.advice) || (f.Advice == "") != (c.verdict == doctor.OK) {
				t.Errorf("found %+v", f)
			}
		})
	}
}

// rewrite puts a configuration back whose file was made anew for its mode.
func rewrite(t *testing.T, dir string) {
	t.Helper()
	f, err := os.OpenFile(dir+"/guado.toml", os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("[server]\nlisten = [\"127.0.0.1:0\"]\n" + site); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil { //nolint:gosec // it is what must be found
		t.Fatal(err)
	}
}

func listen(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestAPortInUseIsFoundWithWhoHoldsIt(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	at := l.Addr().String()
	f := finding(t, examine(t, "[server]\nlisten = [\""+at+"\"]\n"+site, nil, nil), "listen "+at)
	if f.Verdict != doctor.Fail || !strings.Contains(f.Value, "in use by") {
		t.Errorf("found %+v", f)
	}
	if strings.Contains(f.Value, at) || !strings.Contains(f.Advice, "server.listen") {
		t.Errorf("found %+v", f)
	}
	metrics := "[server]\nlisten = [\"127.0.0.1:0\"]\n[metrics]\nlisten = \"" + at + "\"\n" + site
	if f := finding(t, examine(t, metrics, nil, nil), "metrics "+at); f.Verdict != doctor.Fail || !strings.Contains(f.Advice, "metrics.listen") {
		t.Errorf("found %+v", f)
	}
	if f := finding(t, examine(t, metrics, &doctor.Running{PID: os.Getpid(), State: "serving"}, nil), "metrics "+at); f.Verdict != doctor.OK {
		t.Errorf("of the running server: %+v", f)
	}
	f = finding(t, examine(t, "[server]\nlisten = [\""+at+"\"]\n"+site, &doctor.Running{PID: os.Getpid(), State: "serving", Listen: []string{"http://" + at}}, nil), "listen "+at)
	if f.Verdict != doctor.OK || !strings.Contains(f.Value, "held by the running server") {
		t.Errorf("found %+v", f)
	}
}

func TestTheCertificateAndItsKeyAreLookedAt(t *testing.T) {
	cert, key := harness.Certificate(t)
	text := "[server]\nlisten = [\"127.0.0.1:0\"]\n[server.tls]\ncert = \"" + cert + "\"\nkey = \"" + key + "\"\n" + site
	r := examine(t, text, nil, nil)
	if f := finding(t, r, "certificate"); f.Verdict != doctor.Warn || !strings.Contains(f.Advice, "renew") { // it ends tomorrow
		t.Errorf("found %+v", f)
	}
	if f := finding(t, r, "tls key"); f.Verdict != doctor.OK {
		t.Errorf("found %+v", f)
	}
	if err := os.Chmod(key, 0o644); err != nil { //nolint:gosec // it is what must be found
		t.Fatal(err)
	}
	if f := finding(t, examine(t, text, nil, nil), "tls key"); f.Verdict != doctor.Fail || !strings.Contains(f.Advice, "chmod o=") {
		t.Errorf("found %+v", f)
	}
}

func TestTheKernelIsTriedAndNotBelieved(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is nothing to try elsewhere")
	}
	r := examine(t, "[server]\nlisten = [\"127.0.0.1:0\"]\n"+site, nil, nil)
	for _, check := range []string{"memfd with seals", "eventfd without waiting", "pidfd", "signal at the host's death", "sendfile"} {
		if f := finding(t, r, check); f.Verdict != doctor.OK { // what all other tests stand on
			t.Errorf("found %+v", f)
		}
	}
}

func TestTheWorstFindingIsTheVerdict(t *testing.T) {
	if r := examine(t, "[server]\nlisten = [\"127.0.0.1:0\"]\ntrusted_proxies = [\"0.0.0.0/0\"]\n"+site, nil, nil); r.Verdict != doctor.Fail {
		t.Errorf("the verdict is %s", r.Verdict)
	}
	if r := examine(t, "[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nsocket = \"off\"\n"+site, nil, nil); r.Verdict != doctor.Warn {
		t.Errorf("the verdict is %s", r.Verdict)
	}
}
