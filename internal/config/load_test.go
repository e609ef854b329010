package config

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// folder makes a folder with the files of a small project.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// home is a home that can be written to.
var home = os.TempDir()

// load reads a file with this text in dir.
func load(t *testing.T, dir, text string, environ ...string) (*Config, error) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "guado.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(Options{File: "guado.toml", Workdir: dir, Environ: append([]string{"HOME=" + home}, environ...)})
}

func mustLoad(t *testing.T, dir, text string, environ ...string) *Config {
	t.Helper()
	c, err := load(t, dir, text, environ...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wants checks that each problem has its line, in order, with all its words.
func wants(t *testing.T, err error, lines ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want:\n%s", strings.Join(lines, "\n"))
	}
	problems, ok := AsProblems(err)
	if !ok {
		t.Fatalf("%v is no Problems", err)
	}
	if len(problems) != len(lines) {
		t.Fatalf("%d problems, want %d:\n%s", len(problems), len(lines), err)
	}
	for i, line := range lines {
		if got := problems[i].Error(); !strings.Contains(got, line) {
			t.Errorf("problem %d:\n got %s\nwant %s", i+1, got, line)
		}
	}
}

const shop = "[[app]]\nname = \"shop\"\ntarget = \"shop.wsgi:application\"\n"

func TestAModuleIsAllThatMustBeSaid(t *testing.T) {
	dir := t.TempDir()
	c, err := Load(Options{Workdir: dir, Environ: []string{"HOME=" + home}, Flags: []Flag{
		{Name: "MODULE:ATTR", Table: "app", Keys: []string{"target"}, Value: "shop.wsgi:application"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if c.Server.Listen[0] != "127.0.0.1:8000" {
		t.Errorf("listens at %q", c.Server.Listen)
	}
	a, g, m := c.Apps[0], c.Group("shop"), c.Mounts[0]
	if a.Name != "shop" || a.Group != "shop" || g == nil || g.Dir != dir || g.Threads != 8 || g.Workers != 1 {
		t.Errorf("app %+v, group %+v", a, g)
	}
	if m.Path != "/" || m.App != "shop" || m.Kind() != MountApp || !m.Strip() {
		t.Errorf("mount %+v", m)
	}
}

func TestThePortVariableGivesTheDefaultPort(t *testing.T) {
	dir := t.TempDir()
	if c := mustLoad(t, dir, shop, "PORT=5000"); c.Server.Listen[0] != "127.0.0.1:5000" {
		t.Errorf("listens at %q", c.Server.Listen)
	}
	c := mustLoad(t, dir, "[server]\nlisten = [\"0.0.0.0\", \":9000\", \"[::1]\"]\n"+shop, "PORT=5000")
	if got := strings.Join(c.Server.Listen, " "); got != "0.0.0.0:5000 :9000 [::1]:5000" {
		t.Errorf("listens at %q", got)
	}
	_, err := load(t, dir, shop, "PORT=http")
	if err == nil || !strings.Contains(err.Error(), `PORT: server.listen = "127.0.0.1:http": "http" is not a port`) {
		t.Errorf("PORT=http: %v", err)
	}
}

func TestLaterSourcesWin(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "guado.toml"), []byte("[server]\nlog_level = \"warn\"\naccess_log_format = \"json\"\ngraceful_timeout = 7\n"+shop+"threads = 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(Options{File: "guado.toml", Workdir: dir,
		Environ: []string{"HOME=/h", "GUADO__SERVER__LOG_LEVEL=debug", "GUADO__SERVER__GRACEFUL_TIMEOUT=8s", "GUADO__APP__SHOP__THREADS=4", "GUADO__APP__SHOP__ENV__DEBUG=1", "GUADO__APP__0__WORKERS=2"},
		Flags:   []Flag{{Name: "--graceful-timeout", Table: "server", Keys: []string{"graceful_timeout"}, Value: "9"}}})
	if err != nil {
		t.Fatal(err)
	}
	g := c.Group("shop")
	if c.Server.LogLevel != "debug" || c.Server.AccessLogFormat != "json" || c.Server.GracefulTimeout.Std() != 9*time.Second ||
		g.Threads != 4 || g.Workers != 2 || g.Env["DEBUG"] != "1" {
		t.Errorf("server %+v\ngroup %+v", c.Server, g)
	}
	for path, want := range map[string]string{
		"server.log_level": "GUADO__SERVER__LOG_LEVEL", "server.access_log_format": "guado.toml:3",
		"server.graceful_timeout": "--graceful-timeout", "group[0].threads": "GUADO__APP__SHOP__THREADS",
		"server.http2": "default",
	} {
		if got := c.Origin(path).String(); got != want {
			t.Errorf("%s comes from %q, want %q", path, got, want)
		}
	}
}

func TestEveryMistakeIsToldWithItsPlaceAndTheNearestName(t *testing.T) {
	dir := t.TempDir()
	_, err := load(t, dir, `[server]
listn = ["127.0.0.1:8000"]
graceful_timeout = "25x"
log_level = "warning"
trusted_proxies = ["10.0.0.0/33"]
[server.limits]
fields = 0
body = -1
[[app]]
name = "shop"
target = "shop/wsgi.py"
treads = 3
threads = "8"
[[app]]
name = "api"
target = "api:app"
lifespan = "onn"
[[mount]]
path = "/"
app = "shopp"
[[mount]]
path = "/api/"
app = "api"
code = 301
`, "GUADO__SERVR__X=1", "GUADO__APP__FOO__THREADS=1")
	wants(t, err,
		`GUADO__APP__FOO__THREADS: there is no [[app]] with the name "foo"`,
		`GUADO__SERVR__X: no key "servr"; did you mean "server"?`,
		`guado.toml:2: server.listn: unknown key; did you mean "listen"?`,
		`guado.toml:3: server.graceful_timeout = "25x": "25x" is not a duration; write`,
		`guado.toml:4: server.log_level = "warning": "warning" is not known; known are: debug, info, warn, error`,
		`guado.toml:5: server.trusted_proxies = "10.0.0.0/33": must be an address, a network`,
		`guado.toml:7: server.limits.fields = 0: must be at least 1`,
		`guado.toml:8: server.limits.body = -1: must not be negative`,
		`guado.toml:11: app.shop.target = "shop/wsgi.py": is a file; name the module as Python imports it, as "wsgi:app"`,
		`guado.toml:12: app.shop.treads: unknown key; did you mean "threads"?`,
		`guado.toml:13: app.shop.threads = "8": must be a whole number`,
		`guado.toml:17: app.api.lifespan = "onn": "onn" is not known; did you mean "on"?`,
		`guado.toml:20: mount[0].app = "shopp": there is no such [[app]]; did you mean "shop"?`,
		`guado.toml:24: mount[1].code: is for redirect mounts only, and this is one of app`,
	)
}

func TestAMistakeIsToldOnceAndNotWithWhatFollowsFromIt(t *testing.T) {
	for text, line := range map[string]string{
		"server = 3\n" + shop:                   "guado.toml:1: server = 3: must be a table; write [server]",
		"[[server]]\nlisten = []\n" + shop:      "guado.toml:1: server = [{…}]: must be a table; write [server]",
		"[app]\nname = \"a\"\n":                 "guado.toml:1: app: must be an array of tables; write [[app]]",
		"[[app]]\nname = 3\ntarget = \"a:b\"\n": "guado.toml:2: app[0].name = 3: must be a string",
		"[[app]]\nname = \"a\"\ntarget = 3\n":   "guado.toml:3: app.a.target = 3: must be a string",
		shop + "env = { A = 1 }\n":              "guado.toml:4: app.shop.env = {…}: must be a table of strings; write A = \"1\"",
		shop + "[app.env]\n\"A B\" = \"1\"\n":   "guado.toml:5: app.shop.env.A B: is not a name that an environment variable can have",
		"app = []\n":                            "nothing to serve",
	} {
		_, err := load(t, t.TempDir(), text)
		wants(t, err, line)
	}
}

func TestASyntaxErrorNamesLineAndColumn(t *testing.T) {
	_, err := load(t, t.TempDir(), "[server]\nlisten = [\"a\"\n[[app]]\n")
	wants(t, err, "guado.toml:3:1: ")
}

func TestAFileThatIsNotThereIsNoProblemOfTheConfiguration(t *testing.T) {
	_, err := Load(Options{File: "nowhere.toml", Workdir: t.TempDir()})
	if _, ok := AsProblems(err); ok || !os.IsNotExist(unwrapAll(err)) {
		t.Errorf("error %v", err)
	}
}

func unwrapAll(err error) error {
	for {
		inner, ok := err.(interface{ Unwrap() error }) //nolint:errorlint // takes one layer off
		if !ok {
			return err
		}
		if next := inner.Unwrap(); next != nil {
			err = next
			continue
		}
		return err
	}
}

func TestPathsAreRelativeToTheFileAndThoseOfFlagsToTheWorkingDirectory(t *testing.T) {
	dir := folder(t, map[string]string{
		"site/app/x.py": "", "site/env": "A=1", "site/public/x": "", "site/venv/bin/python": "", "here/access": "",
		"site/guado.toml": "[server]\naccess_log = \"access.log\"\nlisten = [\"unix:run.sock\"]\n" + shop + "dir = \"app\"\npython = \"venv\"\nenv_file = \"env\"\n" +
			"[[mount]]\napp = \"shop\"\n[[mount]]\npath = \"/public\"\nstatic = \"public\"\n[[mount]]\npath = \"/up\"\nupstream = \"unix:run/up.sock\"\n",
	})
	c, err := Load(Options{File: "../site/guado.toml", Workdir: filepath.Join(dir, "here"), Environ: []string{"HOME=/h"}, Flags: []Flag{
		{Name: "--access-log", Table: "server", Keys: []string{"access_log"}, Value: "access"},
		{Name: "--listen", Table: "server", Keys: []string{"listen"}, Value: []string{"unix:other.sock?mode=0600"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	g := c.Group("shop")
	for got, want := range map[string]string{
		c.Server.AccessLog: "here/access", g.Dir: "site/app", g.Python: "site/venv", g.EnvFile: "site/env",
		c.Mounts[1].Static: "site/public",
		strings.TrimPrefix(c.Mounts[2].Upstream, "unix:"): "site/run/up.sock",
		strings.TrimPrefix(c.Server.Listen[0], "unix:"):   "here/other.sock?mode=0600",
	} {
		if got != filepath.Join(dir, want) {
			t.Errorf("got %q, want %q below %q", got, want, dir)
		}
	}
}

func TestAnAppsKeysAreItsOwnGroupsAndNotThoseOfAGroupItJoins(t *testing.T) {
	dir := t.TempDir()
	c := mustLoad(t, dir, "[[group]]\nname = \"site\"\nthreads = 4\n[[app]]\nname = \"a\"\ntarget = \"a:a\"\ngroup = \"site\"\n[[app]]\nname = \"b\"\ntarget = \"b:b\"\ngroup = \"site\"\n"+
		"[[app]]\nname = \"c\"\ntarget = \"c:c\"\nworkers = 3\n[[mount]]\napp = \"a\"\n[[mount]]\npath = \"/b\"\napp = \"b\"\n[[mount]]\npath = \"/c\"\napp = \"c\"\n")
	if len(c.Groups) != 2 || c.Group("site").Threads != 4 || c.Group("c").Workers != 3 {
		t.Errorf("groups %+v", c.Groups)
	}
	_, err := load(t, dir, "[[group]]\nname = \"site\"\n[[app]]\nname = \"a\"\ntarget = \"a:a\"\ngroup = \"site\"\nthreads = 2\n")
	wants(t, err, `guado.toml:7: app.a.threads: the app runs in the group "site", so this key belongs on that [[group]]`)
	_, err = load(t, dir, "[[group]]\nname = \"a\"\n[[app]]\nname = \"a\"\ntarget = \"a:a\"\n")
	wants(t, err, `guado.toml:4: app.a.name: there is a [[group]] of this name, too; write group = "a" to join it`)
}

func TestMountsSayWhatIsWrongWithThem(t *testing.T) {
	dir := folder(t, map[string]string{"file": ""})
	_, err := load(t, dir, shop+`
[[mount]]
app = "shop"
static = "public"
[[mount]]
path = "api"
app = "shop"
[[mount]]
path = "/s"
static = "file"
[[mount]]
path = "/gone"
static = "gone"
[[mount]]
path = "/r"
redirect = "example.org"
[[mount]]
path = "/u"
upstream = "localhost:9000"
[[mount]]
path = "/x"
app = "shop"
[[mount]]
path = "/x/"
app = "shop"
[[mount]]
path = "/h"
host = "http://example.org"
app = "shop"
`)
	wants(t, err,
		`guado.toml:5: mount[0]: exactly one of app, static, redirect and upstream must be set, not 2`,
		`guado.toml:9: mount[1].path = "api": must be a plain path prefix`,
		`guado.toml:13: mount[2].static = "`+dir+`/file": is a file; a folder is needed`,
		`guado.toml:16: mount[3].static = "`+dir+`/gone": does not exist`,
		`guado.toml:19: mount[4].redirect = "example.org": must be a path that starts with "/" or an absolute URL`,
		`guado.toml:22: mount[5].upstream = "localhost:9000": must be http://HOST:PORT`,
		`guado.toml:27: mount[7].path = "/x": mount[6] is at this place, too (guado.toml:23)`,
		`guado.toml:31: mount[8].host = "http://example.org": must be a host name`,
	)
}

func TestAnAppThatIsNeverCalledIsAMistake(t *testing.T) {
	_, err := load(t, t.TempDir(), shop+"[[app]]\nname = \"b\"\ntarget = \"b:b\"\n[[mount]]\napp = \"shop\"\n[[group]]\nname = \"idle\"\n")
	wants(t, err, "guado.toml:4: app.b: is not mounted", "guado.toml:9: group.idle: no app joins this group")
}

func TestAnAppWithoutAPlaceIsAMistake(t *testing.T) {
	dir := t.TempDir()
	_, err := load(t, dir, "[[app]]\nname = \"a\"\ntarget = \"a:a\"\n[[app]]\nname = \"b\"\ntarget = \"b:b\"\n")
	wants(t, err, `mount: there are 2 apps; say where each answers, as [[mount]] path = "/" app = "a"`)
	_, err = load(t, dir, "")
	wants(t, err, "nothing to serve")
}

func TestCertificateAndKeyAreTriedTogether(t *testing.T) {
	dir := folder(t, map[string]string{"cert.pem": "x", "key.pem": "y"})
	_, err := load(t, dir, "[server.tls]\ncert = \"cert.pem\"\n"+shop)
	wants(t, err, "guado.toml:1: server.tls: cert and key must both be set")
	_, err = load(t, dir, "[server.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n"+shop)
	wants(t, err, "guado.toml:2: server.tls.cert = \""+dir+"/cert.pem\": cannot be used with key")
	_, err = load(t, dir, "[server]\nlisten = [\"0.0.0.0:443\"]\n"+shop)
	wants(t, err, "guado.toml:2: server.listen = \"0.0.0.0:443\": this is the port of https")
}

func TestAnAddressIsNamedOnce(t *testing.T) {
	dir := t.TempDir()
	_, err := load(t, dir, "[server]\nlisten = [\"127.0.0.1:8000\", \"unix:a.sock\", \"8000\"]\n"+shop)
	wants(t, err, "guado.toml:2: server.listen = \"127.0.0.1:8000\": is there twice")
	mustLoad(t, dir, "[server]\nlisten = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\n"+shop)
}

func TestListenTakesEveryFormAndRefusesOthers(t *testing.T) {
	for text, want := range map[string]Listener{
		"127.0.0.1:8000":        {Network: "tcp", Address: "127.0.0.1:8000"},
		":80":                   {Network: "tcp", Address: ":80"},
		"9000":                  {Network: "tcp", Address: "127.0.0.1:9000"},
		"[::1]:80":              {Network: "tcp", Address: "[::1]:80"},
		"::1":                   {Network: "tcp", Address: "[::1]:7"},
		"localhost":             {Network: "tcp", Address: "localhost:7"},
		"http://localhost:1":    {Network: "tcp", Address: "localhost:1", Plain: true},
		"unix:/run/g.sock":      {Network: "unix", Address: "/run/g.sock"},
		"unix:///run/g.sock":    {Network: "unix", Address: "/run/g.sock"},
		"unix:a.sock?mode=0660": {Network: "unix", Address: "a.sock", Mode: 0o660},
		"fd://3":                {Network: "fd", Address: "3", FD: 3},
		"systemd":               {Network: "systemd"},
		"systemd:web":           {Network: "systemd", Address: "web"},
	} {
		got, err := ParseListen(text, "7")
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
		if again, err := ParseListen(got.String(), "7"); err != nil || again != got {
			t.Errorf("%q is spelled %q, which is %+v, %v", text, got.String(), again, err)
		}
	}
	for _, text := range []string{"", "a:b", "a:70000", "unix:", "unix:x?mode=9", "unix:x?m=1", "fd://", "fd://x", "https://x:1", "a b:1", "a:1:2", "systemd:", "systemd:a:b"} {
		if l, err := ParseListen(text, "7"); err == nil {
			t.Errorf("%q is taken as %+v", text, l)
		}
	}
}

func TestSocketsOfSystemdAreUsedWhenNothingElseWasSaid(t *testing.T) {
	dir := t.TempDir()
	pid := "LISTEN_PID=" + itoa(os.Getpid())
	if c := mustLoad(t, dir, shop, pid, "LISTEN_FDS=1"); c.Server.Listen[0] != "systemd" {
		t.Errorf("listens at %q", c.Server.Listen)
	}
	if c := mustLoad(t, dir, shop, "LISTEN_PID=1", "LISTEN_FDS=1"); c.Server.Listen[0] != "127.0.0.1:8000" {
		t.Errorf("sockets of another process: listens at %q", c.Server.Listen)
	}
	if c := mustLoad(t, dir, "[server]\nlisten = [\":1\"]\n"+shop, pid, "LISTEN_FDS=1"); c.Server.Listen[0] != ":1" {
		t.Errorf("listens at %q", c.Server.Listen)
	}
}

func itoa(n int) string { return strings.TrimSpace(spell(n)) }

func TestDevLeavesADebuggerAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "guado.toml"), []byte("[server]\nrequest_timeout = 5\n"+shop+"workers = 4\nrequest_timeout = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(Options{File: "guado.toml", Workdir: dir, Environ: []string{"HOME=/h"}, Dev: true})
	if err != nil {
		t.Fatal(err)
	}
	g := c.Group("shop")
	if g.Workers != 1 || g.PingTimeout != 0 || g.QueueWait != 0 || g.BootTimeout.Std() < time.Hour || c.Deadline(&c.Apps[0]) != 0 || c.Server.GracefulTimeout.Std() > 5*time.Second {
		t.Errorf("group %+v, deadline %v, graceful %v", g, c.Deadline(&c.Apps[0]), c.Server.GracefulTimeout)
	}
}

func TestTheDeadlineOfAnAppIsItsOwnElseTheServers(t *testing.T) {
	c := mustLoad(t, t.TempDir(), "[server]\nrequest_timeout = 5\n"+shop+"request_timeout = 0\n[[app]]\nname = \"b\"\ntarget = \"b:b\"\n[[mount]]\napp = \"shop\"\n[[mount]]\npath = \"/b\"\napp = \"b\"\n")
	if own, inherited := c.Deadline(c.App("shop")), c.Deadline(c.App("b")); own != 0 || inherited.Std() != 5*time.Second {
		t.Errorf("own %v, inherited %v", own, inherited)
	}
}

func TestAProgramsConfigurationNeedsNoFile(t *testing.T) {
	c := Default()
	c.Dir = t.TempDir()
	c.Apps = []App{NewApp("shop", "shop:app")}
	if err := c.Resolve([]string{"HOME=/h"}); err != nil {
		t.Fatal(err)
	}
	if c.Group("shop").Threads != 8 || c.Mounts[0].App != "shop" || c.Server.Limits.Fields != 100 {
		t.Errorf("config %+v", c)
	}
}

func TestFoldersFollowTheXDGRules(t *testing.T) {
	dir := t.TempDir()
	temporary := filepath.Join(os.TempDir(), "guado-"+itoa(os.Getuid()))
	for _, c := range []struct {
		env          []string
		cache, state string
	}{
		{nil, home + "/.cache/guado", home + "/.local/state/guado"},
		{[]string{"XDG_CACHE_HOME=/c", "XDG_STATE_HOME=/s"}, "/c/guado", "/s/guado"},
		{[]string{"HOME=/dev/null"}, temporary, temporary},
		{[]string{"HOME="}, temporary, temporary},
		{[]string{"XDG_CACHE_HOME=relative"}, home + "/.cache/guado", home + "/.local/state/guado"},
		{[]string{"GUADO_CACHE_DIR=/own", "XDG_CACHE_HOME=/c"}, "/own", home + "/.local/state/guado"},
	} {
		got := mustLoad(t, dir, shop, c.env...)
		if got.Server.CacheDir != c.cache || got.Server.StateDir != c.state {
			t.Errorf("%v: cache %q, state %q", c.env, got.Server.CacheDir, got.Server.StateDir)
		}
	}
}

func TestTrustedProxiesAreNetworksAndUnixSockets(t *testing.T) {
	c := mustLoad(t, t.TempDir(), "[server]\ntrusted_proxies = [\"10.1.2.3/8\", \"::1\", \"unix\"]\n"+shop)
	networks, unix := c.Server.Proxies()
	if len(networks) != 2 || networks[0].String() != "10.0.0.0/8" || networks[1].String() != "::1/128" || !unix {
		t.Errorf("%v %v", networks, unix)
	}
}

// Whatever a file or a variable holds, the answer is a configuration or words.
func FuzzLoad(f *testing.F) {
	for _, text := range []string{shop, "[[app]]\n[app.env]\nA = 1\n", "app = [1, {}]\n", "[server.limits]\nbody = -1\n", "server.listen = \"fd://\"\n", "[[mount]]\npath = \"//\"\n[[mount.x]]\n", "[[mount]]\nhost = 1979-05-27\n"} {
		f.Add(text, "GUADO__APP__SHOP__ENV__A=1")
	}
	f.Add(shop, "GUADO__=x")
	f.Add(shop, "GUADO__APP__0=")
	f.Add(shop, "GUADO__SERVER__LISTEN__X=1")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text, variable string) {
		tree, err := parse("fuzz.toml", []byte(text))
		if err != nil {
			return
		}
		d := decoder{tree: tree}
		tree.nameApps()
		tree.overlay([]string{variable}, &d.problems)
		c := &Config{Dir: dir}
		d.table(reflect.ValueOf(c).Elem(), tree.root, "", "")
		c.origins = tree.origins
		if err := c.Resolve([]string{variable}); err != nil && err.Error() == "" {
			t.Error("a problem without words")
		}
		c.Show(true)
	})
}
