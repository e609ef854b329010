package adopt

import (
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const exactly = "nginx matched this path exactly; here it is a prefix."

// addLocation makes a mount of a location for one host.
func (s *site) addLocation(l *block, host string) {
	path, exact, ok := s.place(l)
	if ok {
		s.rewrites(l, host, path)
	}
	switch {
	case !ok || len(l.all("internal")) > 0:
		return
	case exact && path == "/":
		s.refuse(nil, l, "a mount is a prefix, and / is everything: answer it in the application")
		return
	case s.seen[host+path] && len(l.all("rewrite")) > 0:
		l.told = true // the mount of its redirect
		return
	case s.seen[host+path]:
		s.refuse(nil, l, "%s%s is taken already; mounts tell neither ports nor exact paths apart", host, path)
		return
	}
	t := newTable("[[mount]]", "")
	t.set("path", path, source(l.file, l.line))
	if host != "" {
		t.set("host", host, "")
	}
	if exact {
		t.about = exactly
	}
	answering := s.answers(t, l, path, exact)
	if answering == nil {
		return
	}
	l.told, answering.told = true, true
	s.seen[host+path] = true
	s.tables[l], s.tables[answering] = t, t
	s.mounts = append(s.mounts, t)
	s.options(t, answering)
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
		s.spare(l)
		return "", false, false
	case modifier == "~" || modifier == "~*":
		if strings.Contains(path, `/\.`) && l.find("deny").arg(0) == "all" {
			s.spare(l) // names that begin with a dot are never served
			return "", false, false
		}
		s.refuse(nil, l, "patterns are not matched: mount the prefixes that are meant")
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

// answers sets what answers at the mount, and gives the location that says more of it: l,
// or the one that try_files leads to; nil: nothing that could be carried over.
func (s *site) answers(t *table, l *block, path string, exact bool) *block {
	if pass := l.all("proxy_pass"); len(pass) > 0 {
		return s.passes(t, l, pass[0], path)
	}
	for _, name := range []string{"uwsgi_pass", "fastcgi_pass", "scgi_pass", "grpc_pass"} {
		if pass := l.all(name); len(pass) > 0 {
			if app := s.serves[address(strings.TrimPrefix(pass[0].arg(0), "uwsgi://"))]; app != "" {
				t.set("app", app, pass[0].cite())
				return l
			}
			s.refuse(nil, l, "only HTTP is spoken to upstreams: let Guado run the application as an [[app]]")
			return nil
		}
	}
	if r := l.all("return"); len(r) > 0 {
		s.returns(l, r[0], unquoteTOML(t.get("host")), path, exact)
		return nil
	}
	if try := l.all("try_files"); len(try) > 0 {
		last := try[0].arg(len(try[0].args) - 1)
		if named := s.named(l, last); named != nil && len(named.all("proxy_pass")) > 0 {
			if root := l.find("root"); root != nil {
				s.miss(t, try[0].cite(), try[0].text(), "files of %s (%s) were tried first: mount those that are there by their own prefixes", root.arg(0), root.cite())
			}
			try[0].told = true
			return s.passes(t, named, named.all("proxy_pass")[0], path)
		}
	}
	return s.static(t, l, path, exact)
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
func (s *site) passes(t *table, l, pass *block, path string) *block {
	p, ok := parseProxied(pass.arg(0))
	if !ok || strings.Contains(pass.arg(0), "$") {
		l.cover()
		s.miss(nil, pass.cite(), pass.text(), "where it leads cannot be told from here")
		return nil
	}
	by := []*block{pass}
	if u := s.upstreams[p.address]; u != nil {
		servers := u.all("server")
		if len(servers) == 0 {
			s.refuse(nil, l, "upstream %s has no server", u.arg(0))
			return nil
		}
		if len(servers) > 1 {
			s.miss(t, u.cite(), "upstream "+u.arg(0), "an upstream is one server; the first of %d was taken", len(servers))
		}
		u.told, p.address, by = true, servers[0].arg(0), append(by, servers...)
	}
	from := cites(by...)
	at := address(p.address)
	s.noteSocket(t, l, at)
	if app := s.serves[at]; app != "" {
		t.set("app", app, from)
	} else if strings.HasPrefix(at, "unix:") {
		t.set("upstream", at, from)
	} else {
		t.set("upstream", p.scheme+"://"+at, from)
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
		s.miss(t, pass.cite(), pass.text(), "%s was put in place of %s; the application must do that now", uri, path)
	}
	return l
}

// sendfile takes over the folders whose files the applications of a server name by
// X-Accel-Redirect: nginx finds internal locations from every other one.
func (s *site) sendfile(locations []*block, mounts []*table) {
	folders := map[string]string{}
	var all, by []*block
	for _, l := range locations {
		inside := l.all("internal")
		if len(inside) == 0 || l.told {
			continue
		}
		path, _, ok := s.place(l)
		folder, said := s.folder(l, path)
		if !ok || folder == "" || strings.Contains(folder, "$") || len(l.all("proxy_pass")) > 0 {
			l.cover()
			s.miss(nil, l.cite(), l.text()+" { internal; }", "only folders can be internal: see sendfile of [[mount]]")
			continue
		}
		l.told, inside[0].told = true, true
		folders[path], by, all = folder, append(by, l, said), append(all, l)
	}
	if len(folders) == 0 {
		return
	}
	found := false
	for _, m := range mounts {
		if m.get("app") != "" || m.get("upstream") != "" {
			m.set("sendfile", folders, cites(by...))
			found = true
		}
	}
	for _, l := range all {
		if !found {
			s.refuse(nil, l, "no application of this server could name its files")
		}
	}
}

// folder gives where the files of a location are: alias, or root with the path; by says so.
func (s *site) folder(l *block, path string) (folder string, by *block) {
	if a := l.all("alias"); len(a) > 0 {
		return strings.TrimRight(a[0].arg(0), "/"), a[0]
	}
	if root := l.find("root"); root != nil {
		return filepath.Join(root.arg(0), path), root
	}
	return "", nil
}

// ownFiles tells locations that say themselves that files answer: all others have only
// inherited a root that nobody may have meant.
func ownFiles(l *block) bool {
	if l.parent != nil && l.parent.name == "location" && ownFiles(l.parent) {
		return true
	}
	return len(l.all("alias"))+len(l.all("root"))+len(l.all("try_files")) > 0
}

func (s *site) static(t *table, l *block, path string, exact bool) *block {
	if len(l.all("rewrite")) > 0 && !ownFiles(l) {
		s.refuse(nil, l, "what its rewrite leads to cannot be told from here: redirect by a [[mount]], or let the application do it")
		return nil
	}
	folder, by := s.folder(l, path)
	if folder == "" || strings.Contains(folder, "$") {
		s.refuse(nil, l, "nothing answers there that could be carried over")
		return nil
	}
	// The file may be on another machine than this.
	aliased := len(l.all("alias")) > 0 && !strings.HasSuffix(l.all("alias")[0].arg(0), "/")
	oneFile := isFile(folder) || exact && (aliased || filepath.Ext(folder) != "")
	switch {
	case !oneFile:
		t.set("static", folder, by.cite())
	case strings.HasSuffix(folder, path):
		// The file lies in its folder as it does in the address.
		t.set("static", strings.TrimSuffix(folder, path)+map[bool]string{true: "/"}[folder == path], by.cite())
		t.set("prefix", "keep", "one file")
	default:
		s.refuse(nil, l, "a folder is mounted, not a file of another name: put the file where its address says")
		return nil
	}
	if index := l.find("index"); index != nil {
		if slices.Equal(index.args, []string{"index.html"}) {
			index.told = true
		} else {
			t.set("index", index.args, index.cite())
		}
	}
	if e := l.find("expires"); e != nil {
		if value := expires(e.arg(0)); value != "" && len(e.args) == 1 {
			t.set("cache_control", value, e.cite())
		}
	}
	if g := l.find("gzip_static"); g != nil && g.arg(0) != "off" {
		t.set("precompressed", true, g.cite())
	}
	if try := l.all("try_files"); len(try) > 0 {
		s.tries(t, try[0], path)
	}
	if auto := l.find("autoindex"); auto != nil && auto.arg(0) == "on" {
		s.miss(t, auto.cite(), "autoindex on", "folders are never listed")
	}
	return l
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
	try.told = true // each word of it has its place, or a note
	for _, word := range try.args {
		switch {
		case word == "$uri" || word == "$uri/" || word == "=404" || strings.HasPrefix(word, "@"):
		case strings.HasPrefix(word, "/") && filepath.Base(word) == "index.html":
			if inside, ok := strings.CutPrefix(word, path+"/"); ok {
				word = inside
			}
			t.set("fallback", strings.TrimPrefix(word, "/"), try.cite())
		case strings.HasPrefix(word, "$uri"):
			list = append(list, "{path}"+strings.TrimPrefix(word, "$uri"))
		case strings.Contains(word, "$") || strings.HasPrefix(word, "="):
			s.miss(t, try.cite(), try.text(), "%s has no counterpart", word)
		default:
			list = append(list, word)
		}
	}
	if len(list) > 0 {
		t.set("try_files", list, try.cite())
	}
}
