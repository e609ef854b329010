package service

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/guado-server/guado/internal/config"
)

// Unit is what systemd is to be told of a server.
type Unit struct {
	Config  *config.Config
	Name    string   // of the unit, without ".service"
	Command []string // absolute
	Reload  []string // what reloads it; nil: SIGHUP
	Old     bool     // systemd does not know notify-reload
	Dir     string
	User    string // empty: root
	Group   string // empty: the user's
	Sockets []Socket
	Paths   []string // what the server reads besides: interpreters, homes of accounts
}

// File is a unit file.
type File struct{ Name, Text string }

// Files gives the unit of the server and those of its sockets.
func (u *Unit) Files() ([]File, error) {
	sockets, err := u.socketFiles()
	if err != nil {
		return nil, err
	}
	return append([]File{{u.Name + ".service", u.service(sockets)}}, sockets...), nil
}

// lines is a unit in the making.
type lines struct{ strings.Builder }

func (l *lines) section(name string) { fmt.Fprintf(&l.Builder, "\n[%s]\n", name) }
func (l *lines) set(name, value string) {
	fmt.Fprintf(&l.Builder, "%s=%s\n", name, value)
}

func (l *lines) why(text string) {
	for line := range strings.SplitSeq(text, "\n") {
		fmt.Fprintf(&l.Builder, "# %s\n", line)
	}
}

func (u *Unit) service(sockets []File) string {
	var l lines
	l.section("Unit")
	l.set("Description", "Guado: "+strings.ReplaceAll(u.Name, "%", "%%"))
	l.set("Documentation", "https://github.com/guado-server/guado")
	l.set("Wants", "network-online.target")
	after := make([]string, 1, 1+len(sockets))
	after[0] = "network-online.target"
	for _, s := range sockets {
		l.set("Requires", s.Name)
		after = append(after, s.Name)
	}
	l.set("After", strings.Join(after, " "))
	l.section("Service")
	u.process(&l)
	u.life(&l)
	u.folders(&l)
	u.resources(&l)
	u.hardening(&l)
	l.section("Install")
	l.set("WantedBy", "multi-user.target")
	return strings.TrimPrefix(l.String(), "\n")
}

func (u *Unit) process(l *lines) {
	switch {
	case !u.Old:
		l.set("Type", "notify-reload")
	case u.Reload == nil:
		l.set("Type", "notify")
		l.set("ExecReload", "/bin/kill -HUP $MAINPID")
	default:
		l.why("Type=notify-reload came with systemd 253; this one reloads by a command.")
		l.set("Type", "notify")
		l.set("ExecReload", commandLine(u.Reload))
	}
	l.set("ExecStart", commandLine(u.Command))
	l.set("WorkingDirectory", strings.ReplaceAll(u.Dir, "%", "%%"))
	switch {
	case u.needsRoot():
		l.why("root, because guado.toml gives processes accounts of their own (user = …).")
	case u.User != "":
		l.set("User", u.User)
		if u.Group != "" {
			l.set("Group", u.Group)
		}
	}
	if u.User != "" && !u.needsRoot() && u.lowPort() {
		l.why("For a port below 1024 without root. A socket unit (--socket) does without it.")
		l.set("AmbientCapabilities", "CAP_NET_BIND_SERVICE")
	}
}

// needsRoot reports whether processes get other accounts than the host's.
func (u *Unit) needsRoot() bool {
	return slices.ContainsFunc(u.Config.Groups, func(g config.Group) bool { return g.User != "" }) ||
		slices.ContainsFunc(u.Config.Programs, func(p config.Program) bool { return p.User != "" })
}

func (u *Unit) lowPort() bool {
	if len(u.Sockets) > 0 {
		return false
	}
	list, err := u.Config.Listeners()
	return err == nil && slices.ContainsFunc(list, func(l config.Listener) bool { return l.Low() })
}

func (u *Unit) life(l *lines) {
	c := u.Config
	l.why("The server is killed, with all stacks in the log, when it cannot even say how it is.")
	l.set("WatchdogSec", "60")
	l.set("TimeoutStartSec", seconds(c.StartTime()))
	l.why("drain_delay, graceful_timeout, exit_timeout, then the programs: guado cuts what takes\nlonger itself, and says so in the log.")
	l.set("TimeoutStopSec", seconds(c.StopTime()))
	l.set("Restart", "on-failure")
	l.set("RestartSec", "2")
	l.why("2: guado.toml is wrong, and will be so in two seconds.")
	l.set("RestartPreventExitStatus", "2")
	l.why("SIGTERM to the server alone, which ends workers and programs in their order; SIGKILL\nto all that is left.")
	l.set("KillMode", "mixed")
	l.why("A worker that the kernel kills for want of memory is replaced; the others go on.")
	l.set("OOMPolicy", "continue")
	l.why("A cgroup for each worker and program, so that none leaves anything behind.")
	l.set("Delegate", "yes")
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.0f", d.Round(time.Second).Seconds()) }

// places are the folders that systemd makes for a service and gives to its account.
var places = []struct{ folder, key string }{
	{"/var/lib", "StateDirectory"}, {"/var/cache", "CacheDirectory"},
	{"/var/log", "LogsDirectory"}, {"/run", "RuntimeDirectory"},
}

func (u *Unit) folders(l *lines) {
	c := u.Config
	wanted := map[string][]string{}
	if c.Given("server.state_dir") {
		note(wanted, c.Server.StateDir)
	} else {
		dir := "/var/lib/" + u.Name
		l.why("guado.toml names no state_dir. This one is the same for every account, but then\nguado status and its like need --socket " + dir + "/admin.sock.")
		l.set("Environment", quote("GUADO__SERVER__STATE_DIR="+dir))
		note(wanted, dir)
	}
	if c.Given("server.cache_dir") {
		note(wanted, c.Server.CacheDir)
	} else {
		dir := "/var/cache/" + u.Name
		l.set("Environment", quote("GUADO_CACHE_DIR="+dir))
		note(wanted, dir)
	}
	for _, file := range u.files() {
		note(wanted, filepath.Dir(file))
	}
	for _, p := range places {
		if list := wanted[p.key]; len(list) > 0 {
			slices.Sort(list)
			l.set(p.key, strings.Join(slices.Compact(list), " "))
		}
	}
}

// files are those that the server makes.
func (u *Unit) files() []string {
	c := u.Config
	var all []string
	add := func(path string) {
		if filepath.IsAbs(path) {
			all = append(all, path)
		}
	}
	add(c.Server.AccessLog)
	if c.Given("admin.socket") && c.Admin.Socket != config.AdminOff {
		add(c.Admin.Socket)
	}
	if c.Server.Phase > 0 && c.Admin.PushSocket != config.AdminOff {
		if c.Given("admin.push_socket") {
			add(c.Admin.PushSocket)
		} else { // it goes to the folder of the service, which commands outside can see, too
			add(filepath.Join("/run", u.Name, "push.sock"))
		}
	}
	if list, err := c.Listeners(); err == nil {
		for _, at := range list {
			if at.Network == "unix" {
				add(at.Address)
			}
		}
	}
	for i := range c.Programs {
		add(c.Programs[i].Stdout)
		add(c.Programs[i].Stderr)
	}
	return all
}

// note sorts a folder to the key that makes it; one elsewhere is there already.
func note(wanted map[string][]string, dir string) {
	for _, p := range places {
		if rest, ok := strings.CutPrefix(filepath.Clean(dir), p.folder+"/"); ok && !strings.ContainsAny(rest, " %:\"'\\") {
			wanted[p.key] = append(wanted[p.key], rest)
		}
	}
}

func (u *Unit) resources(l *lines) {
	// A connection is a descriptor, and another one where an upstream answers it.
	const each, others, least, unbounded = 2, 8192, 65536, 524288
	n := unbounded
	if c := u.Config.Server.Limits.Connections; c > 0 {
		n = max(each*c+others, least)
	}
	l.set("LimitNOFILE", fmt.Sprint(n))
}

func (u *Unit) hardening(l *lines) {
	l.why("Hardening that no application should notice. NoNewPrivileges keeps it from programs\nthat are setuid, such as sudo or the sendmail of Postfix: take it out for those.")
	for _, name := range []string{"NoNewPrivileges", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectHostname", "RestrictSUIDSGID", "RestrictRealtime", "LockPersonality"} {
		l.set(name, "yes")
	}
	l.set("SystemCallArchitectures", "native")
	l.why("/usr, /boot and /etc cannot be written to. \"strict\" would need a ReadWritePaths= for\neach folder that an application writes to.")
	l.set("ProtectSystem", "full")
	if !u.below("/home", "/root", "/run/user") {
		l.set("ProtectHome", "yes")
	}
	if !u.below("/tmp", "/var/tmp") {
		l.set("PrivateTmp", "yes")
	}
	l.why("Left out, because they break it: ProtectControlGroups (no cgroups for workers),\n" +
		"MemoryDenyWriteExecute (ctypes, cffi, numba and other compilers at run time),\n" +
		"PrivateUsers (no accounts for apps and programs), ProcSubset=pid (no count of what the\n" +
		"kernel kills), SystemCallFilter and RestrictNamespaces (what applications may do is theirs\n" +
		"to say; headless browsers make namespaces), PrivateDevices (graphics processors).")
}

// below reports whether something of the server is in one of these folders.
func (u *Unit) below(folders ...string) bool {
	c := u.Config
	paths := slices.Concat([]string{u.Dir, c.Dir, c.Server.Spool.Dir, c.Server.TLS.Cert, c.Server.TLS.Key}, u.files(), u.Command[:1], u.Paths)
	if c.Given("server.state_dir") {
		paths = append(paths, c.Server.StateDir)
	}
	if c.Given("server.cache_dir") {
		paths = append(paths, c.Server.CacheDir)
	}
	for i := range c.Groups {
		g := &c.Groups[i]
		paths = append(paths, g.Dir, g.Python, g.EnvFile)
	}
	for i := range c.Programs {
		p := &c.Programs[i]
		paths = append(paths, p.Dir, p.Python, p.EnvFile, strings.TrimPrefix(strings.TrimPrefix(p.Ready, "file:"), "unix:"))
		paths = append(paths, p.Command...)
	}
	for i := range c.Mounts {
		paths = append(paths, c.Mounts[i].Static, strings.TrimPrefix(c.Mounts[i].Upstream, "unix:"))
	}
	return slices.ContainsFunc(paths, func(path string) bool {
		return slices.ContainsFunc(folders, func(dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") })
	})
}

// commandLine spells a command as ExecStart= takes it.
func commandLine(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = strings.ReplaceAll(quote(word), "$", "$$")
	}
	return strings.Join(quoted, " ")
}

// quote spells a word as systemd reads it: % starts a specifier there.
func quote(word string) string {
	word = strings.ReplaceAll(word, "%", "%%")
	if word != "" && !strings.ContainsAny(word, " \t\n\"'\\;#") {
		return word
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(word) + `"`
}
