package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/coreos/go-systemd/v22/unit"
)

// unitOf reads a unit as a library that is not ours does.
func unitOf(t *testing.T, text string) map[string][]string {
	t.Helper()
	options, err := unit.DeserializeOptions(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	all := map[string][]string{}
	for _, o := range options {
		all[o.Section+"."+o.Name] = append(all[o.Section+"."+o.Name], o.Value)
	}
	return all
}

// shopFile is a configuration that uses what a unit depends on.
const shopFile = `
[server]
listen = ["127.0.0.1:0"]
state_dir = "/var/lib/shop"
cache_dir = "/var/cache/shop/guado"
access_log = "/var/log/shop/access.log"
graceful_timeout = "100s"
exit_timeout = "7s"
[admin]
socket = "/run/shop/admin.sock"
[health]
drain_delay = "3s"
[[app]]
target = "hello"
boot_timeout = "200s"
[[program]]
name = "daemon"
command = ["sleep", "1000"]
stop_timeout = "20s"
[[program]]
name = "worker"
command = ["sleep", "1000"]
after = ["daemon"]
stop_timeout = "40s"
`

func TestTheUnitSaysWhatTheConfigurationSays(t *testing.T) {
	dir := project(t, map[string]string{"hello.py": hello, "guado.toml": shopFile})
	r := run(t, dir, "service", "--user", "shop:web", "--name", "shop", "--systemd", "255")
	if r.code != 0 {
		t.Fatal(r.err)
	}
	got := unitOf(t, r.out)
	for key, want := range map[string]string{
		"Service.Type": "notify-reload", "Service.ExecStart": os.Args[0] + " serve --config " + dir + "/guado.toml",
		"Service.WorkingDirectory": dir, "Service.User": "shop", "Service.Group": "web", "Service.KillMode": "mixed",
		"Service.OOMPolicy": "continue", "Service.Delegate": "yes",
		"Service.TimeoutStartSec": "230", // boot_timeout and a margin
		"Service.TimeoutStopSec":  "180", // 3 + 100 + 7, the programs one after the other 20 + 40, and a margin
		"Service.StateDirectory":  "shop", "Service.CacheDirectory": "shop/guado", "Service.LogsDirectory": "shop", "Service.RuntimeDirectory": "shop",
		"Service.LimitNOFILE": "65536", "Service.ProtectSystem": "full", "Service.NoNewPrivileges": "yes",
		"Install.WantedBy": "multi-user.target",
	} {
		if len(got[key]) != 1 || got[key][0] != want {
			t.Errorf("%s is %q, not %q", key, got[key], want)
		}
	}
	for _, key := range []string{"Service.ExecReload", "Service.Environment", "Service.ProtectControlGroups", "Service.MemoryDenyWriteExecute", "Service.PrivateUsers", "Service.PrivateTmp"} {
		// PrivateTmp: the test's folder is in /tmp, which the server must see
		if got[key] != nil {
			t.Errorf("%s is %q", key, got[key])
		}
	}
	if r.err != "" {
		t.Errorf("it warns: %s", r.err)
	}
}

func TestSystemdTakesTheUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze here; another test reads the units with a library")
	}
	for name, more := range map[string][]string{
		"of a configuration": {}, "with sockets": {"--socket", "web=:80", "--socket", "unix:/run/shop/web.sock"},
		"of another account": {"--user", "daemon"},
	} {
		t.Run(name, func(t *testing.T) {
			text := shopFile
			if strings.Contains(name, "sockets") {
				text = strings.Replace(text, `listen = ["127.0.0.1:0"]`, `listen = ["systemd:web", "systemd"]`, 1)
			}
			dir := project(t, map[string]string{"hello.py": hello, "guado.toml": text})
			// The version of systemd is that of this machine, which is to understand it.
			if r := run(t, dir, append([]string{"service", "--name", "shop", "-o", "."}, more...)...); r.code != 0 {
				t.Fatal(r.err)
			}
			files, err := filepath.Glob(filepath.Join(dir, "shop*.s*"))
			if err != nil || len(files) == 0 {
				t.Fatal(files, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			out, err := exec.CommandContext(ctx, analyze, append([]string{"verify", "--man=no"}, files...)...).CombinedOutput()
			for line := range strings.Lines(string(out)) {
				if strings.Contains(line, dir) || err != nil { // others are about units of this machine
					t.Errorf("systemd says: %s (%v)", line, err)
				}
			}
		})
	}
}

func TestTheUnitsCommandsStartReloadAndStopTheServer(t *testing.T) {
	m := newManager(t)
	dir := project(t, map[string]string{"my shop/hello.py": hello, "my shop/guado.toml": `
[server]
listen = ["127.0.0.1:0"]
state_dir = "state"
[[app]]
target = "hello"
`})
	r := run(t, filepath.Join(dir, "my shop"), "service", "--systemd", "252")
	if r.code != 0 {
		t.Fatal(r.err)
	}
	got := unitOf(t, r.out)
	if got["Service.Type"][0] != "notify" {
		t.Errorf("this systemd does not know %q", got["Service.Type"])
	}
	command := func(key string) *exec.Cmd {
		cmd := program(t, got["Service.WorkingDirectory"][0])
		cmd.Args = []string{"sh", "-c", "exec " + got[key][0]} // what this command line needs, both quote alike
		cmd.Path = "/bin/sh"
		return cmd
	}
	s := m.start(command("Service.ExecStart"))
	m.hear("READY")
	if s.ready(); get(t, s.url) != (answer{200, "hello"}) {
		t.Error("it does not answer")
	}
	if out, err := command("Service.ExecReload").CombinedOutput(); err != nil {
		t.Errorf("reload: %v: %s", err, out)
	}
	m.hear("RELOADING")
	s.signal(syscall.SIGTERM)
	m.hear("STOPPING")
	if code := s.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestTheUnitOfAnApplicationSaysItsCommandLineAgain(t *testing.T) {
	dir := project(t, map[string]string{"hello.py": hello})
	r := run(t, dir, "service", "hello", "--listen", ":80", "--listen", "unix:x.sock", "--threads", "4", "--factory", "--user", "daemon", "--systemd", "252", "--binary", "/opt/100% guado")
	if r.code != 0 {
		t.Fatal(r.err)
	}
	got := unitOf(t, r.out)
	want := `"/opt/100%% guado" serve --listen :80 --listen unix:x.sock --threads 4 --factory hello`
	if line := got["Service.ExecStart"][0]; line != want || got["Service.WorkingDirectory"][0] != dir {
		t.Errorf("in %s:\n%s\nnot\n%s", got["Service.WorkingDirectory"], line, want)
	}
	if got["Service.ExecReload"][0] != "/bin/kill -HUP $MAINPID" || got["Service.AmbientCapabilities"][0] != "CAP_NET_BIND_SERVICE" {
		t.Errorf("reload %q, capabilities %q", got["Service.ExecReload"], got["Service.AmbientCapabilities"])
	}
	if !slices.ContainsFunc(got["Service.Environment"], func(v string) bool { return strings.HasPrefix(v, "GUADO__SERVER__STATE_DIR=/var/lib/") }) {
		t.Errorf("environment %q", got["Service.Environment"])
	}
}

func TestTheSocketUnitHoldsTheAddressesOfTheServer(t *testing.T) {
	const file = "[server]\nlisten = LISTEN\n[[mount]]\nredirect = \"https://example.org\"\n"
	for name, c := range map[string]struct {
		listen string
		args   []string
		want   map[string]string // of the last unit that is printed
		err    string
	}{
		"all of them":             {`["systemd"]`, []string{"--socket", ":80", "--socket", "127.0.0.1:8001"}, map[string]string{"Socket.ListenStream": "80 127.0.0.1:8001", "Socket.Service": "shop.service", "Unit.Requires": "shop.socket"}, ""},
		"one of them by its name": {`["systemd:web"]`, []string{"--socket", "web=unix:/run/shop.sock?mode=0666"}, map[string]string{"Socket.ListenStream": "/run/shop.sock", "Socket.SocketMode": "0666", "Socket.FileDescriptorName": "web", "Unit.Requires": "shop-web.socket"}, ""},
		"none that it would take": {`["127.0.0.1:0"]`, []string{"--socket", ":80"}, nil, `server.listen is set and has no "systemd"`},
		"none where it asks":      {`["systemd:web"]`, nil, nil, "--socket web=:80"},
		"no address":              {`["systemd"]`, []string{"--socket", "fd://3"}, nil, "must be [NAME=]HOST:PORT"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := project(t, map[string]string{"guado.toml": strings.Replace(file, "LISTEN", c.listen, 1)})
			r := run(t, dir, append([]string{"service", "--name", "shop"}, c.args...)...)
			if c.err != "" {
				if r.code != exitUsage || !strings.Contains(r.err, c.err) {
					t.Errorf("exit code %d: %s", r.code, r.err)
				}
				return
			}
			got := unitOf(t, r.out)
			for key, want := range c.want {
				if strings.Join(got[key], " ") != want {
					t.Errorf("%s is %q, not %q", key, got[key], want)
				}
			}
		})
	}
}

func TestUnitsAreWrittenOnceAndNeverOver(t *testing.T) {
	dir := project(t, map[string]string{"hello.py": hello})
	if r := run(t, dir, "service", "hello", "--name", "shop", "-o", "."); r.code != 0 || r.out != "shop.service\n" {
		t.Fatalf("exit code %d: %s%s", r.code, r.out, r.err)
	}
	write(t, filepath.Join(dir, "shop.service"), "mine")
	if r := run(t, dir, "service", "hello", "--name", "shop", "-o", ".", "--socket", ":8080"); r.code != exitFailed || !strings.Contains(r.err, "is there already") {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
	if read(t, dir, "shop.service") != "mine" {
		t.Error("it was written over")
	}
	if _, err := os.Stat(filepath.Join(dir, "shop.socket")); errors.Is(err, fs.ErrNotExist) {
		t.Error("the other one was not written")
	}
}

func TestTheSocketOfProgramsGetsAFolderThatCommandsOutsideCanSee(t *testing.T) {
	for file, want := range map[string]string{
		"":          "",
		"phase = 3": "web",
		"phase = 3\n[admin]\npush_socket = \"/run/shop/push.sock\"": "shop",
		"phase = 3\n[admin]\npush_socket = \"off\"":                 "",
	} {
		dir := project(t, map[string]string{"hello.py": hello, "guado.toml": "[server]\n" + file + "\n[[app]]\ntarget = \"hello\"\n"})
		r := run(t, dir, "service", "--name", "web", "--systemd", "255")
		if got := strings.Join(unitOf(t, r.out)["Service.RuntimeDirectory"], " "); got != want || r.code != 0 {
			t.Errorf("%q: %q %s", file, got, r.err)
		}
	}
}
