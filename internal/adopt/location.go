package adopt

import (
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// addLocation makes a mount of a location for one host.
func (s *site) addLocation(l *block, host string) {
	path, exact, ok := s.place(l)
	if !ok {
		return
	}
	if s.seen[host+path] {
		s.miss(nil, l.from(), l.text(), "%s%s is taken already; mounts tell neither ports nor exact paths apart", host, path)
		return
	}
	t := newTable("[[mount]]", "")
	t.set("path", path, l.from())
	if host != "" {
		t.set("host", host, "")
	}
	if !s.answers(t, l, path) {
		return
	}
	if exact {
		t.about = "nginx matched this path exactly; here it is a prefix."
	}
	s.seen[host+path] = true
	s.mounts = append(s.mounts, t)
	s.options(t, l)
	s.leftOver(t, l)
}

// place gives the path of a location; not ok: it has none, or nothing is lost with it.
func (s *site) place(l *block) (path string, exact, ok bool) {
	path = l.arg(len(l.args) - 1)
	modifier := ""
	if len(l.args) > 1 {
		modifier = l.arg(0)
	}
	switch {
	case strings.HasPrefix(path, "@"):
		return "", false, false // who names it takes it over
	case harmless(l):
		return "", false, false
	case modifier == "~" || modifier == "~*":
		if strings.Contains(path, `/\.`) && l.find("deny").arg(0) == "all" {
			return "", false, false // names that begin with a dot are never served
		}
		s.miss(nil, l.from(), l.text(), "patterns are not matched: mount the prefixes that are meant")
		return "", false, false
	}
	if len(path) > 1 {
		path = strings.TrimRight(path, "/")
	}
	return path, modifier == "=", true
}

// harmless tells locations that only quieten nginx: those of favicons and robots.
func harmless(l *block) bool {
	quiet := []string{"access_log", "log_not_found", "expires", "allow"}
	return len(l.inside) > 0 && !slices.ContainsFunc(l.inside, func(b *block) bool { return !slices.Contains(quiet, b.name) }) && l.arg(0) == "="
}

// answers sets what answers at the mount; false: nothing that could be carried over.
func (s *site) answers(t *table, l *block, path string) bool {
	if len(l.all("internal")) > 0 {
		s.internal(l, path)
		return false
	}
	if pass := l.all("proxy_pass"); len(pass) > 0 {
		return s.passes(t, pass[0], path)
	}
	for _, name := range []string{"uwsgi_pass", "fastcgi_pass", "scgi_pass", "grpc_pass"} {
		if pass := l.all(name); len(pass) > 0 {
			if app := s.serves[address(strings.TrimPrefix(pass[0].arg(0), "uwsgi://"))]; app != "" {
				t.set("app", app, pass[0].from())
				return true
			}
			s.miss(nil, pass[0].from(), pass[0].text(), "only HTTP is spoken to upstreams: let Guado run the application as an [[app]]")
			return false
		}
	}
	if r := l.all("return"); len(r) > 0 {
		s.returns(l, r[0], t, path)
		return false
	}
	if try := l.all("try_files"); len(try) > 0 {
		last := try[0].arg(len(try[0].args) - 1)
		if named := s.named(l, last); named != nil {
			if root := l.find("root"); root != nil {
				s.miss(t, try[0].from(), try[0].text(), "files of %s were tried first: mount those that are there by their own prefixes", root.arg(0))
			}
			if pass := named.all("proxy_pass"); len(pass) > 0 {
				return s.passes(t, pass[0], path)
			}
		}
	}
	return s.static(t, l, path)
}

// named finds the location @name beside l.
func (s *site) named(l *block, name string) *block {
	if !strings.HasPrefix(name, "@") || l.parent == nil {
		return nil
	}
	for _, other := range l.parent.all("location") {
		if other.arg(0) == name {
			return other
		}
	}
	return nil
}

// passes makes the mount one of an app, where proxy_pass led to one that Guado runs now,
// else of an upstream.
func (s *site) passes(t *table, pass *block, path string) bool {
	p, ok := parseProxied(pass.arg(0))
	if !ok || strings.Contains(pass.arg(0), "$") {
		s.miss(nil, pass.from(), pass.text(), "where it leads cannot be told from here")
		return false
	}
	if u := s.upstreams[p.address]; u != nil {
		servers := u.all("server")
		if len(servers) == 0 {
			return false
		}
		if len(servers) > 1 {
			s.miss(t, u.from(), "upstream "+u.arg(0), "an upstream is one server; the first of %d was taken", len(servers))
		}
		p.address = servers[0].arg(0)
	}
	at := address(p.address)
	if app := s.serves[at]; app != "" {
		t.set("app", app, pass.from())
	} else if strings.HasPrefix(at, "unix:") {
		t.set("upstream", at, pass.from())
	} else {
		t.set("upstream", p.scheme+"://"+at, pass.from())
	}
	uri := p.uri
	if len(uri) > 1 {
		uri = strings.TrimRight(uri, "/")
	}
	switch {
	case path == "/" && (!p.hasURI || uri == "/"):
	case !p.hasURI || uri == path:
		if t.get("app") != "" {
			t.set("prefix", "keep", "")
		}
	case uri == "/":
		t.set("prefix", "strip", "")
	default:
		s.miss(t, pass.from(), pass.text(), "%s was put in place of %s; the application must do that now", uri, path)
	}
	return true
}

// internal takes over a folder whose files the application names by X-Accel-Redirect.
func (s *site) internal(l *block, path string) {
	folder := s.folder(l, path)
	if folder == "" {
		s.miss(nil, l.from(), l.text()+" { internal; }", "only folders can be internal: see sendfile of [[mount]]")
		return
	}
	for _, m := range s.mounts {
		if m.get("app") != "" || m.get("upstream") != "" {
			s.maybe(m, "mount", "sendfile", map[string]string{path: folder}, l.from(), "internal "+path)
			return
		}
	}
	s.later = append(s.later, func(m *table) {
		s.maybe(m, "mount", "sendfile", map[string]string{path: folder}, l.from(), "internal "+path)
	})
}

// folder gives where the files of a location are: alias, or root with the path.
func (s *site) folder(l *block, path string) string {
	if a := l.all("alias"); len(a) > 0 {
		return strings.TrimRight(a[0].arg(0), "/")
	}
	if root := l.find("root"); root != nil {
		return filepath.Join(root.arg(0), path)
	}
	return ""
}

func (s *site) static(t *table, l *block, path string) bool {
	folder := s.folder(l, path)
	if folder == "" || strings.Contains(folder, "$") {
		s.miss(nil, l.from(), l.text(), "nothing answers there that could be carried over")
		return false
	}
	t.set("static", folder, l.from())
	if index := l.find("index"); index != nil && !slices.Equal(index.args, []string{"index.html"}) {
		t.set("index", index.args, index.from())
	}
	if e := l.find("expires"); e != nil {
		if value := expires(e.arg(0)); value != "" {
			t.set("cache_control", value, e.from())
		}
	}
	if g := l.find("gzip_static"); g != nil && g.arg(0) != "off" {
		t.set("precompressed", true, g.from())
	}
	if try := l.all("try_files"); len(try) > 0 {
		s.tries(t, try[0], path)
	}
	if auto := l.find("autoindex"); auto != nil && auto.arg(0) == "on" {
		s.miss(t, auto.from(), "autoindex on", "folders are never listed")
	}
	return true
}

// expires turns its word into Cache-Control.
func expires(word string) string {
	if word == "max" {
		return "max-age=315360000"
	}
	if word == "-1" || word == "epoch" {
		return "no-cache"
	}
	d, ok := nginxTime(word)
	if !ok {
		return ""
	}
	return "max-age=" + toml(int64(d/time.Second))
}

// tries takes over try_files of a folder.
func (s *site) tries(t *table, try *block, path string) {
	var list []string
	for _, word := range try.args {
		switch {
		case word == "$uri" || word == "$uri/" || word == "=404" || strings.HasPrefix(word, "@"):
		case strings.HasPrefix(word, "/") && filepath.Base(word) == "index.html":
			if inside, ok := strings.CutPrefix(word, path+"/"); ok {
				word = inside
			}
			t.set("fallback", strings.TrimPrefix(word, "/"), try.from())
		case strings.HasPrefix(word, "$uri"):
			list = append(list, "{path}"+strings.TrimPrefix(word, "$uri"))
		case strings.Contains(word, "$") || strings.HasPrefix(word, "="):
			s.miss(t, try.from(), try.text(), "%s has no counterpart", word)
		default:
			list = append(list, word)
		}
	}
	if len(list) > 0 {
		t.set("try_files", list, try.from())
	}
}

// returns takes over a redirect; other answers of nginx's own are noted.
func (s *site) returns(l, r *block, t *table, path string) {
	code, to := r.arg(0), r.arg(1)
	if to == "" && strings.Contains(code, "/") {
		code, to = "302", r.arg(0)
	}
	to, whole := strings.CutSuffix(to, "$request_uri")
	to = strings.TrimPrefix(strings.TrimPrefix(to, "$scheme://$host"), "https://$host")
	if !slices.Contains([]string{"301", "302", "303", "307", "308"}, code) || strings.Contains(to, "$") || to == "" || whole && path != "/" {
		s.miss(nil, r.from(), l.text()+" { "+r.text()+" }", "answer it in the application, or redirect by a [[mount]]")
		return
	}
	s.redirect(strings.Trim(t.get("host"), `"`), path, to, r, whole)
}

func (s *site) redirect(host, path, to string, r *block, keep bool) {
	if s.seen[host+path] {
		return
	}
	s.seen[host+path] = true
	t := newTable("[[mount]]", "")
	t.set("path", path, r.from())
	if host != "" {
		t.set("host", host, "")
	}
	t.set("redirect", to, "")
	code := r.arg(0)
	if strings.Trim(code, "0123456789") != "" {
		code = "302"
	}
	t.set("code", number(code), "")
	if keep {
		t.set("keep_path", true, "")
	}
	s.mounts = append(s.mounts, t)
}
