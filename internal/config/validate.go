package config

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

var (
	nameForm   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)
	targetForm = regexp.MustCompile(`^[\pL_][\pL\pN_]*(\.[\pL_][\pL\pN_]*)*(:[\pL_][\pL\pN_]*(\.[\pL_][\pL\pN_]*)*)?$`)
	envForm    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	hostForm   = regexp.MustCompile(`^(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?$|^\[?[0-9a-f:.]+\]?$`)
)

// validate looks for everything that would fail later, or silently mean something
// else than it says.
func (r *resolver) validate() {
	r.checkServer()
	r.checkNames()
	for i := range r.Groups {
		r.checkGroup(i)
	}
	for i := range r.Apps {
		r.checkApp(i)
	}
	r.checkMounts()
	r.checkPrograms()
	r.checkExecutors()
	r.checkIdentity()
	r.checkPush()
	r.checkState()
}

func (r *resolver) checkServer() {
	s := &r.Server
	if len(s.Listen) == 0 {
		r.wrong("server.listen", "server.listen", s.Listen, "must name at least one address")
	}
	for i, text := range s.Listen {
		// A port that the system chooses is another one each time.
		if slices.Contains(s.Listen[:i], text) && !strings.HasSuffix(text, ":0") {
			r.wrong("server.listen", "server.listen", text, "is there twice")
		}
	}
	r.checkTLS()
	r.checkServerPolicy()
	for _, text := range s.TrustedProxies {
		if _, err := parseNetwork(text); err != nil && text != "unix" {
			r.wrong("server.trusted_proxies", "server.trusted_proxies", text, "must be an address, a network such as \"10.0.0.0/8\", or \"unix\"")
		}
	}
	if s.ProxyProtocol && len(s.TrustedProxies) == 0 {
		r.wrong("server.proxy_protocol", "server.proxy_protocol", true, "nobody could connect: name the proxies in trusted_proxies")
	}
	for _, host := range s.AllowHosts {
		if !hostForm.MatchString(strings.ToLower(host)) {
			r.wrong("server.allow_hosts", "server.allow_hosts", host, "must be a host name without scheme or port, as \"example.org\" or \"*.example.org\"")
		}
	}
	if ring := s.Ring.Bytes(); ring&(ring-1) != 0 || ring > 1<<30 {
		r.wrong("server.ring", "server.ring", s.Ring.String(), "must be a power of two up to 1GiB, as \"1MiB\"")
	}
	if s.Spool.Dir != "" {
		r.checkPath("server.spool.dir", "server.spool.dir", s.Spool.Dir, true)
	}
}

func (r *resolver) checkTLS() {
	s := &r.Server
	if !s.TLS.Enabled() {
		for _, text := range s.Listen {
			if strings.HasSuffix(text, ":443") {
				r.wrong("server.listen", "server.listen", text, "this is the port of https, but [server.tls] names no cert and key")
			}
		}
		return
	}
	if s.TLS.Cert == "" || s.TLS.Key == "" {
		r.wrong("server.tls", "server.tls", nil, "cert and key must both be set")
		return
	}
	ok := r.checkPath("server.tls.cert", "server.tls.cert", s.TLS.Cert, false)
	if r.checkPath("server.tls.key", "server.tls.key", s.TLS.Key, false) && ok {
		if _, err := tls.LoadX509KeyPair(s.TLS.Cert, s.TLS.Key); err != nil {
			r.wrong("server.tls.cert", "server.tls.cert", s.TLS.Cert, "cannot be used with key %q: %s", s.TLS.Key, err)
		}
	}
}

// checkPath reports whether a file or folder is there and can be opened.
func (r *resolver) checkPath(path, shown, value string, dir bool) bool {
	f, err := os.Open(value)
	if err != nil {
		r.wrong(path, shown, value, "%s", errorText(err))
		return false
	}
	info, err := f.Stat()
	if errClose := f.Close(); err == nil {
		err = errClose
	}
	switch {
	case err != nil:
		r.wrong(path, shown, value, "%s", err)
	case info.IsDir() != dir && dir:
		r.wrong(path, shown, value, "is a file; a folder is needed")
	case info.IsDir() != dir:
		r.wrong(path, shown, value, "is a folder; a file is needed")
	default:
		return true
	}
	return false
}

func errorText(err error) string {
	switch {
	case os.IsNotExist(err):
		return "does not exist"
	case os.IsPermission(err):
		return "cannot be read: permission denied"
	}
	return err.Error()
}

// parseNetwork reads an address or a network.
func parseNetwork(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()), nil
	}
	return netip.ParsePrefix(text)
}

// Proxies gives trusted_proxies taken apart, after Resolve: networks, and whether
// peers on Unix sockets are trusted.
func (s *Server) Proxies() (networks []netip.Prefix, unix bool) {
	for _, text := range s.TrustedProxies {
		if text == "unix" {
			unix = true
		} else if network, err := parseNetwork(text); err == nil {
			networks = append(networks, network.Masked())
		}
	}
	return networks, unix
}

func (r *resolver) checkNames() {
	check := func(key string, names []string) {
		seen := map[string]int{}
		for i, name := range names {
			path := element(key, i) + ".name"
			switch first, again := seen[name]; {
			case name == "":
				r.wrong(element(key, i), element(key, i), nil, "needs a name")
			case !nameForm.MatchString(name):
				r.wrong(path, path, name, "must be letters, digits, \"-\" and \"_\"")
			case again:
				r.wrong(path, path, name, "is the name of %s, too (%s)", element(key, first), r.Origin(element(key, first)+".name"))
			default:
				seen[name] = i
			}
		}
	}
	groups, apps := make([]string, 0, len(r.Groups)), make([]string, 0, len(r.Apps))
	for _, g := range r.Groups {
		if r.App(g.Name) == nil {
			groups = append(groups, g.Name)
		}
	}
	for _, a := range r.Apps {
		apps = append(apps, a.Name)
	}
	check("group", groups)
	check("app", apps)
	programs := make([]string, 0, len(r.Programs))
	for _, p := range r.Programs {
		programs = append(programs, p.Name)
	}
	check("program", programs)
	executors := make([]string, 0, len(r.Executors))
	for _, e := range r.Executors {
		executors = append(executors, e.Name)
	}
	check("executor", executors)
}

func (r *resolver) checkGroup(i int) {
	g, path, shown := &r.Groups[i], element("group", i), "group."+r.Groups[i].Name
	used := slices.ContainsFunc(r.Apps, func(a App) bool { return a.Group == g.Name })
	if !used {
		r.wrong(path, shown, nil, "no app joins this group; add group = %q to an [[app]] or remove it", g.Name)
	}
	if r.App(g.Name) != nil && r.App(g.Name).Group == g.Name {
		shown = "app." + g.Name
	}
	r.checkPath(path+".dir", shown+".dir", g.Dir, true)
	if filepath.IsAbs(g.Python) {
		if _, err := os.Stat(g.Python); err != nil {
			r.wrong(path+".python", shown+".python", g.Python, "%s", errorText(err))
		}
	}
	r.checkCare(&g.Care, path, shown)
	if g.EnvFile != "" {
		r.checkPath(path+".env_file", shown+".env_file", g.EnvFile, false)
	}
	for name := range g.Env {
		if !envForm.MatchString(name) {
			r.wrong(path+".env."+name, shown+".env."+name, nil, "is not a name that an environment variable can have")
		}
	}
	for name, file := range g.SecretEnv {
		r.checkPath(path+".secret_env."+name, shown+".secret_env."+name, file, false)
		if _, twice := g.Env[name]; twice {
			r.wrong(path+".secret_env."+name, shown+".secret_env."+name, nil, "is set in env, too; remove one of them")
		}
	}
}

func (r *resolver) checkApp(i int) {
	a, path, shown := &r.Apps[i], element("app", i), "app."+r.Apps[i].Name
	switch {
	case a.Target == "":
		r.wrong(path, shown, nil, "needs a target: target = \"module:attribute\"")
	case strings.ContainsRune(a.Target, '/') || strings.HasSuffix(a.Target, ".py"):
		r.wrong(path+".target", shown+".target", a.Target, "is a file; name the module as Python imports it, as %q, and set dir to its folder", fileTarget(a.Target))
	case !targetForm.MatchString(a.Target):
		r.wrong(path+".target", shown+".target", a.Target, "must be module:attribute, as \"shop.wsgi:application\"")
	}
	if r.Group(a.Group) == nil {
		names := make([]string, 0, len(r.Groups))
		for _, g := range r.Groups {
			names = append(names, g.Name)
		}
		r.wrong(path+".group", shown+".group", a.Group, "there is no such [[group]]; %s", hint(a.Group, names))
	}
	if a.Kind == "wsgi" && a.Lifespan == "on" {
		r.wrong(path+".lifespan", shown+".lifespan", a.Lifespan, "lifespan is ASGI's; a WSGI application has none")
	}
}

// fileTarget guesses the module from a file: "./shop/wsgi.py:app" is "wsgi:app".
func fileTarget(target string) string {
	file, attribute, _ := strings.Cut(target, ":")
	if attribute == "" {
		attribute = "app"
	}
	return strings.TrimSuffix(filepath.Base(file), ".py") + ":" + attribute
}

func (r *resolver) checkMounts() {
	if len(r.Mounts) == 0 {
		if len(r.Programs) > 0 && len(r.Apps) == 0 {
			return // a host of programs alone
		}
		if len(r.Apps) == 0 {
			r.wrong("", "", nil, "nothing to serve: name an application (guado serve MODULE:ATTR), or write an [[app]] or a [[mount]]")
		} else {
			r.wrong("", "mount", nil, "there are %d apps; say where each answers, as [[mount]] path = \"/\" app = %q", len(r.Apps), r.Apps[0].Name)
		}
	}
	seen := map[string]int{}
	for i := range r.Mounts {
		m := &r.Mounts[i]
		r.checkMount(m, element("mount", i))
		place := m.Host + m.Path
		if first, twice := seen[place]; twice {
			r.wrong(element("mount", i)+".path", element("mount", i)+".path", m.Path, "%s is at this place, too (%s)", element("mount", first), r.Origin(element("mount", first)))
		}
		seen[place] = i
	}
	r.checkUnmounted()
}

func (r *resolver) checkUnmounted() {
	for i := range r.Apps {
		name := r.Apps[i].Name
		if len(r.Mounts) > 0 && !slices.ContainsFunc(r.Mounts, func(m Mount) bool { return m.App == name }) {
			r.wrong(element("app", i), "app."+name, nil, "is not mounted, so it would never be called; add a [[mount]] with app = %q or remove it", name)
		}
	}
}

func (r *resolver) checkMount(m *Mount, path string) {
	set := 0
	for _, target := range []string{m.App, m.Static, m.Redirect, m.Upstream} {
		if target != "" {
			set++
		}
	}
	if m.Handler != nil {
		set++
	}
	if set != 1 {
		r.wrong(path, path, nil, "exactly one of app, static, redirect and upstream must be set, not %d", set)
		return
	}
	if !isPlainPath(m.Path) {
		r.wrong(path+".path", path+".path", m.Path, "must be a plain path prefix that starts with \"/\", as \"/api\"")
	}
	if m.Host != "" && !hostForm.MatchString(m.Host) {
		r.wrong(path+".host", path+".host", m.Host, "must be a host name without scheme or port, as \"example.org\" or \"*.example.org\"")
	}
	if m.RootPath != "" && (!strings.HasPrefix(m.RootPath, "/") || strings.ContainsAny(m.RootPath, "?#%")) {
		r.wrong(path+".root_path", path+".root_path", m.RootPath, "must be a path that starts with \"/\"")
	}
	r.checkForeignKeys(m, path)
	r.checkMountPolicy(m, path)
	switch m.Kind() {
	case MountApp:
		if r.App(m.App) == nil {
			names := make([]string, len(r.Apps))
			for i := range r.Apps {
				names[i] = r.Apps[i].Name
			}
			r.wrong(path+".app", path+".app", m.App, "there is no such [[app]]; %s", hint(m.App, names))
		}
	case MountStatic:
		r.checkPath(path+".static", path+".static", m.Static, true)
	case MountRedirect:
		if u, err := url.Parse(m.Redirect); err != nil || !strings.HasPrefix(m.Redirect, "/") && (u.Scheme == "" || u.Host == "") {
			r.wrong(path+".redirect", path+".redirect", m.Redirect, "must be a path that starts with \"/\" or an absolute URL")
		}
	case MountUpstream:
		if err := checkUpstream(m.Upstream); err != nil {
			r.wrong(path+".upstream", path+".upstream", m.Upstream, "%s", err)
		}
	}
}

func checkUpstream(text string) error {
	if path, ok := strings.CutPrefix(text, "unix:"); ok && path != "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return fmt.Errorf("must be http://HOST:PORT, https://HOST:PORT or unix:PATH")
	}
	return nil
}

// mountKeys are the keys that mean something for one kind of mount only.
var mountKeys = map[string]string{
	"root_path": MountApp, "wsx": MountApp,
	"index": MountStatic, "try_files": MountStatic, "fallback": MountStatic,
	"precompressed": MountStatic, "cache_control": MountStatic, "hidden": MountStatic,
	"code": MountRedirect, "keep_path": MountRedirect,
	"keep_host": MountUpstream, "connect_timeout": MountUpstream, "answer_timeout": MountUpstream,
}

func (r *resolver) checkForeignKeys(m *Mount, path string) {
	for key, kind := range mountKeys {
		if kind != m.Kind() && r.Origin(join(path, key)).Kind != FromDefault {
			r.wrong(join(path, key), join(path, key), nil, "is for %s mounts only, and this is one of %s", kind, m.Kind())
		}
	}
}
