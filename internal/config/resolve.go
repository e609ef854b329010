package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// DefaultPort is where a host listens that was told nothing.
const DefaultPort = "8000"

// Resolve completes the configuration and checks it: paths become absolute, an app
// without a group gets its own, a lone app without a mount answers at "/". After it
// every App.Group names an element of Groups, which alone says how workers run.
// It may be called once. environ is as of os.Environ; its error is [Problems].
func (c *Config) Resolve(environ []string) error {
	r := resolver{Config: c, environ: environ}
	if c.Dir == "" {
		dir, err := os.Getwd()
		if err != nil {
			return err
		}
		c.Dir = dir
	}
	r.listen()
	r.observe()
	r.folders()
	r.groups()
	r.stateGroup()
	r.mounts()
	if c.Dev {
		r.dev()
	}
	r.paths(reflect.ValueOf(c).Elem(), "")
	r.pythons()
	r.programs()
	r.mountFolders()
	r.executors()
	r.validate()
	return r.err()
}

type resolver struct {
	*Config
	environ []string
	problems
}

func (r *resolver) getenv(name string) string {
	for i := len(r.environ) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(r.environ[i], name+"="); ok {
			return value
		}
	}
	return ""
}

// wrong notes a problem of the value at a path.
func (r *resolver) wrong(path, shown string, value any, format string, args ...any) {
	text := ""
	if value != nil {
		text = spell(value)
	}
	r.add(r.Origin(path), shown, text, format, args...)
}

func (r *resolver) listen() {
	port, s := DefaultPort, &r.Server
	if given := r.getenv("PORT"); given != "" {
		port = given
	}
	if r.Origin("server.listen").Kind == FromDefault && len(s.Listen) == 1 && s.Listen[0] == "127.0.0.1:"+DefaultPort {
		s.Listen = []string{"127.0.0.1:" + port}
		r.derived("server.listen", port != DefaultPort, "PORT")
		if r.activated() {
			s.Listen = []string{"systemd"}
			r.derived("server.listen", true, "LISTEN_FDS")
		}
	}
	for i, text := range s.Listen {
		l, err := ParseListen(text, port)
		if err != nil {
			r.wrong("server.listen", "server.listen", text, "%s", err)
			continue
		}
		if l.Plain && !s.TLS.Enabled() {
			l.Plain = false
		}
		s.Listen[i] = l.absolute(r.Dir).String()
	}
}

// derived notes that a variable other than the override set a value.
func (r *resolver) derived(path string, is bool, variable string) {
	if is {
		if r.origins == nil {
			r.origins = map[string]Origin{}
		}
		r.origins[path] = Origin{Kind: FromEnv, Name: variable}
	}
}

// activated reports whether systemd passed sockets to this very process.
func (r *resolver) activated() bool {
	pid, err := strconv.Atoi(r.getenv("LISTEN_PID"))
	return err == nil && pid == os.Getpid() && r.getenv("LISTEN_FDS") != ""
}

// Listeners gives server.listen taken apart, after Resolve.
func (c *Config) Listeners() ([]Listener, error) {
	list := make([]Listener, len(c.Server.Listen))
	for i, text := range c.Server.Listen {
		var err error
		if list[i], err = ParseListen(text, DefaultPort); err != nil {
			return nil, Problems{{Key: "server.listen", Value: spell(text), Message: err.Error()}}
		}
	}
	return list, nil
}

// folders gives state and cache their places by the XDG rules. An account that has no
// home it can write to, as in many containers, gets a folder of its own in $TMPDIR.
func (r *resolver) folders() {
	own := r.Server.StateDir != ""
	home := r.getenv("HOME")
	fallback := filepath.Join(os.TempDir(), "guado-"+strconv.Itoa(os.Getuid()))
	place := func(key string, value *string, own, xdg, below string) {
		switch {
		case *value != "":
		case own != "" && r.getenv(own) != "":
			*value = r.getenv(own)
			r.derived(key, true, own)
		case filepath.IsAbs(r.getenv(xdg)):
			*value = filepath.Join(r.getenv(xdg), "guado")
		case home != "" && canMake(filepath.Join(home, below)):
			*value = filepath.Join(home, below, "guado")
		default:
			*value = fallback
		}
	}
	place("server.state_dir", &r.Server.StateDir, "", "XDG_STATE_HOME", ".local/state")
	place("server.cache_dir", &r.Server.CacheDir, "GUADO_CACHE_DIR", "XDG_CACHE_HOME", ".cache")
	r.adminSocket(own)
	r.stateFolder(own)
	r.pushSocket()
}

// canMake reports whether a folder is there and can be written to, or could be made.
func canMake(dir string) bool {
	for {
		info, err := os.Stat(dir)
		if err == nil {
			const writeAndEnter = 2 | 1 // W_OK, X_OK
			return info.IsDir() && syscall.Access(dir, writeAndEnter) == nil
		}
		if !os.IsNotExist(err) || filepath.Dir(dir) == dir {
			return false
		}
		dir = filepath.Dir(dir)
	}
}

// groups gives each app without a group one of its own, from its shorthand.
func (r *resolver) groups() {
	explicit := len(r.Groups)
	for i := range r.Apps {
		a, path := &r.Apps[i], element("app", i)
		if a.Group != "" {
			r.noShorthand(a, path)
			continue
		}
		for j := range explicit {
			if r.Groups[j].Name == a.Name {
				r.wrong(path+".name", "app."+a.Name+".name", nil,
					"there is a [[group]] of this name, too; write group = %q to join it, or rename one of them", a.Name)
			}
		}
		a.Group = a.Name
		r.Groups = append(r.Groups, Group{Name: a.Name, Process: a.Process})
		a.Process = NewApp("", "").Process
		r.moveOrigins(path, element("group", len(r.Groups)-1))
	}
}

// moveOrigins makes messages about a group that was made from an app's shorthand
// point at the app.
func (r *resolver) moveOrigins(app, group string) {
	for _, f := range fieldsOf(reflect.TypeFor[Process]()) {
		from := join(app, f.key)
		for path, origin := range r.origins {
			if path == from || strings.HasPrefix(path, from+".") {
				delete(r.origins, path)
				r.origins[join(group, f.key)+path[len(from):]] = origin
			}
		}
	}
}

// noShorthand refuses keys of the group on an app that joined one: two apps of a
// group could contradict each other.
func (r *resolver) noShorthand(a *App, path string) {
	for _, f := range fieldsOf(reflect.TypeFor[Process]()) {
		if r.Origin(join(path, f.key)).Kind != FromDefault {
			r.wrong(join(path, f.key), "app."+a.Name+"."+f.key, nil,
				"the app runs in the group %q, so this key belongs on that [[group]]", a.Group)
		}
	}
}

func (r *resolver) mounts() {
	if len(r.Mounts) == 0 && len(r.Apps) == 1 {
		m := NewMount("/")
		m.App = r.Apps[0].Name
		r.Mounts = append(r.Mounts, m)
	}
	for i := range r.Mounts {
		m := &r.Mounts[i]
		if m.App == "" && m.Kind() == "" && len(r.Apps) == 1 && r.Origin(element("mount", i)).Kind == FromDefault {
			m.App = r.Apps[0].Name // from the command line: --root-path alone
		}
		if len(m.Path) > 1 {
			m.Path = strings.TrimRight(m.Path, "/")
		}
		m.RootPath = strings.TrimRight(m.RootPath, "/")
		m.Host = strings.ToLower(m.Host)
		if path, ok := strings.CutPrefix(m.Upstream, "unix:"); ok && path != "" && !filepath.IsAbs(path) {
			m.Upstream = "unix:" + filepath.Join(r.Dir, path)
		}
		if m.Name == "" {
			m.Name = m.App
		}
		if m.Name == "" {
			m.Name = m.Host + m.Path
		}
	}
}

// devPatience is how long a restart or a stop under `guado dev` waits for what is
// under way: a page with an open event stream would hold up every one.
const devPatience = Duration(2 * time.Second)

// dev makes a debugger usable: one worker, and nothing that ends it for being slow.
func (r *resolver) dev() {
	r.Server.RequestTimeout = 0
	if r.Origin("server.graceful_timeout").Kind == FromDefault {
		r.Server.GracefulTimeout = devPatience
	}
	if r.Origin("server.exit_timeout").Kind == FromDefault {
		r.Server.ExitTimeout = devPatience
	}
	for i := range r.Apps {
		r.Apps[i].RequestTimeout = nil
	}
	for i := range r.Executors {
		r.Executors[i].TaskTimeout = 0
	}
	for i := range r.Groups {
		g := &r.Groups[i]
		g.Workers, g.PingTimeout, g.HangTimeout, g.SlowRequest, g.QueueWait = 1, 0, 0, 0, 0
		g.BootTimeout = Duration(24 * time.Hour) // breakpoint() may stand in a module that is being imported
	}
}

// paths makes what the path tags mark absolute.
func (r *resolver) paths(v reflect.Value, path string) {
	for _, f := range fieldsOf(v.Type()) {
		target, below := v.FieldByIndex(f.index), join(path, f.key)
		switch k := kindOf(f.typ); {
		case k == kindTable:
			r.paths(target, below)
		case k == kindTables:
			for i := range target.Len() {
				r.paths(target.Index(i), element(below, i))
			}
		case f.path() != "" && target.String() != "" && target.String() != "-":
			target.SetString(r.absolute(target.String()))
		}
	}
}

func (r *resolver) absolute(path string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok && r.getenv("HOME") != "" {
		return filepath.Join(r.getenv("HOME"), rest)
	}
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(r.Dir, path)
}

// python makes the path of an interpreter absolute; a command stays as it is.
func (r *resolver) python(python string) string {
	info, err := os.Stat(r.absolute(python))
	if strings.ContainsRune(python, '/') || err == nil && info.IsDir() {
		return r.absolute(python)
	}
	return python
}

// pythons completes dir, python and the files of secrets. A bare word for python
// is a command, unless a folder of that name is there.
func (r *resolver) pythons() {
	for i := range r.Groups {
		g := &r.Groups[i]
		if g.Dir == "" {
			g.Dir = r.Dir
		}
		if g.Python != "" {
			g.Python = r.python(g.Python)
		}
		for name, file := range g.SecretEnv {
			g.SecretEnv[name] = r.absolute(file)
		}
	}
}
