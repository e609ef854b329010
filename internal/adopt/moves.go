package adopt

import (
	"net"
	"regexp"
	"slices"
	"strings"
)

// move is a redirect as nginx has it.
type move struct {
	by    *block // return, rewrite
	base  string // where to, without variables of the path: "https://$host", "/new"
	whole bool   // path and query of the request follow behind base
	code  string
	exact bool // it is for one path, and not for what lies below
	query bool // the query follows, without the path
}

// parts takes base apart; scheme and host are empty for a path.
func (m *move) parts() (scheme, host, port, path string) {
	scheme, rest, ok := strings.Cut(m.base, "://")
	if !ok {
		return "", "", "", m.base
	}
	if at := strings.IndexByte(rest, '/'); at >= 0 {
		rest, path = rest[:at], rest[at:]
	}
	host = rest
	if name, number, err := net.SplitHostPort(rest); err == nil {
		host, port = name, number
	}
	return scheme, host, port, strings.TrimSuffix(path, "/")
}

// returned reads return; not ok: it is no redirect.
func returned(r *block) (move, bool) {
	code, to := r.arg(0), r.arg(1)
	if to == "" && strings.Contains(code, "/") {
		code, to = "302", r.arg(0)
	}
	m := move{by: r, code: code}
	for _, tail := range []string{"$request_uri", "$uri$is_args$args"} {
		if base, ok := strings.CutSuffix(to, tail); ok && !m.whole {
			to, m.whole = base, true
		}
	}
	m.base = to
	return m, slices.Contains([]string{"301", "302", "303", "307", "308"}, code) && (to != "" || m.whole)
}

// begins reads the patterns of rewrite that are prefixes: "^/old/(.*)$", "^/old", "^", "(.*)".
var begins = regexp.MustCompile(`^\^?((?:/[A-Za-z0-9_~%-]*|\\.)*)(\(/?\.\*\)|\(/\.\*\)\?|\.\*|/\?)?(\$?)$`)

// rewritten reads a rewrite that redirects, in the location at or, at "/", in a server;
// path is the prefix that it is for. Not ok: it is no redirect of a prefix.
func rewritten(r *block, at string) (m move, path string, ok bool) {
	m = move{by: r, base: strings.TrimSuffix(r.arg(1), "?"), code: map[string]string{"permanent": "301", "redirect": "302"}[r.arg(2)]}
	if m.code == "" && r.arg(2) == "" && (strings.HasPrefix(m.base, "http://") || strings.HasPrefix(m.base, "https://")) {
		m.code = "302"
	}
	found := begins.FindStringSubmatch(r.arg(0))
	if m.code == "" || found == nil {
		return m, "", false
	}
	path, group := prefixOf(found), strings.HasPrefix(found[2], "(")
	m.exact = found[2] == "" && found[3] != ""
	if base, all := strings.CutSuffix(m.base, "$request_uri"); all {
		m.base, m.whole = base+strings.TrimSuffix(path, "/"), true
	} else if base, tail := strings.CutSuffix(m.base, "$1"); tail && group {
		m.base, m.whole = strings.TrimSuffix(base, "/"), true
	} else if strings.Contains(m.base, "$") {
		return m, "", false
	}
	m.query = !m.whole && !strings.HasSuffix(r.arg(1), "?")
	switch {
	case path == at || at == "/" || strings.HasPrefix(path, at+"/"):
	case m.exact:
		return m, "", false
	case path == "/" || strings.HasPrefix(at, path+"/"): // what the location is for is part of that
		if m.whole {
			m.base += strings.TrimPrefix(at, strings.TrimSuffix(path, "/"))
		}
		path = at
	default:
		return m, "", false // it never comes to that
	}
	return m, path, true
}

// prefixOf gives the prefix that a pattern begins with.
func prefixOf(found []string) string {
	if path := strings.TrimRight(strings.ReplaceAll(found[1], `\`, ""), "/"); path != "" {
		return path
	}
	return "/"
}

// cutsPrefix tells a rewrite that takes the path of its location off before it is passed on.
func cutsPrefix(r *block, path string) bool {
	found := begins.FindStringSubmatch(r.arg(0))
	if r.arg(2) != "break" || found == nil || prefixOf(found) != path || !strings.HasPrefix(found[2], "(") {
		return false
	}
	slash := strings.HasSuffix(found[1], "/")
	return slash && r.arg(1) == "/$1" || !slash && (r.arg(1) == "$1" || r.arg(1) == "/$1")
}

// onlyRedirects tells the servers that send everybody elsewhere, but for proofs of a
// certificate authority.
func onlyRedirects(server *block) bool {
	redirects := len(server.all("return")) > 0
	for _, r := range server.all("rewrite") {
		_, path, ok := rewritten(r, "/")
		redirects = redirects || ok && path == "/"
	}
	for _, l := range server.all("location") {
		switch {
		case isChallenge(l):
		case l.arg(0) == "/" && len(l.args) == 1 && len(l.all("return")) > 0:
			redirects = true
		default:
			return false
		}
	}
	return redirects
}

func isChallenge(l *block) bool {
	return strings.HasPrefix(l.arg(len(l.args)-1), "/.well-known/acme-challenge")
}

// redirectServer takes over a server that only redirects.
func (s *site) redirectServer(server *block) {
	server.told = true
	names := s.names(server)
	if s.speaksTLS(server) {
		s.addTLS(server)
	}
	s.conditions(server)
	blocks := append([]*block{server}, server.all("location")...)
	for _, b := range blocks {
		if b != server && isChallenge(b) {
			s.challenge(b, names)
			continue
		}
		for _, r := range b.all("rewrite") {
			if m, path, ok := rewritten(r, "/"); ok && path == "/" {
				s.moved(server, names, m)
			}
		}
		for _, r := range b.all("return") {
			b.told = true
			switch m, ok := returned(r); {
			case ok:
				s.moved(server, names, m)
			case len(server.all("if")) > 0 && r.arg(0) == "404":
				s.spare(r) // of certbot, behind its conditions
			default:
				s.refuse(nil, r, "hosts that are not named in server.allow_hosts get 421")
			}
		}
	}
}

// challenge leaves the files of a certificate authority where they are.
func (s *site) challenge(l *block, names []string) {
	hosts := []string{""}
	for _, name := range names {
		if slices.ContainsFunc(s.mounts, func(m *table) bool { return m.get("host") == quote(name) }) {
			hosts = append(hosts, name)
		}
	}
	for _, host := range hosts {
		if path, _, ok := s.place(l); ok && !s.seen[host+path] {
			s.addLocation(l, host)
		}
	}
}

// condition reads "($host = shop.example)".
var condition = regexp.MustCompile(`^\(\s*(\$\w+)\s*(=|!=)\s*["']?([^"']*?)["']?\s*\)$`)

// conditions takes over the ifs of a server that only choose between http and https, or
// between names.
func (s *site) conditions(server *block) {
	for _, b := range server.all("if") {
		m, ok := move{}, false
		for _, r := range b.inside {
			switch r.name {
			case "return":
				m, ok = returned(r)
			case "rewrite":
				m, _, ok = rewritten(r, "/")
			}
		}
		c := condition.FindStringSubmatch(strings.Join(b.args, " "))
		if !ok || c == nil || !m.whole {
			continue // rest notes it
		}
		_, host, _, _ := m.parts()
		switch variable, equal, value := c[1], c[2] == "=", c[3]; {
		case variable == "$scheme" && equal == (value == "http"), variable == "$server_port" && equal && value == "80",
			variable == "$https" && equal == (value == ""), variable == "$http_x_forwarded_proto" && equal == (value == "http"):
			m.base = "https://$host"
			s.moved(server, s.names(server), m)
		case (variable == "$host" || variable == "$http_host") && equal:
			s.moved(server, []string{value}, m)
		case (variable == "$host" || variable == "$http_host") && host == value:
			s.canonical(host, &m)
		}
		b.told = m.by.told
	}
}

// moved takes over that all requests for names (none: whatever name) go elsewhere. Mounts
// answer at every listener, so that what is between http and https is the server's.
func (s *site) moved(server *block, names []string, m move) {
	if tail, ok := strings.CutPrefix(m.base, "$scheme://"); ok {
		m.base = map[bool]string{true: "https://", false: "http://"}[s.tls] + tail
	}
	scheme, host, port, path := m.parts()
	own := slices.Contains([]string{"$host", "$server_name", "$http_host"}, host)
	https := scheme == "https" && (s.tls || len(s.server[""].get("trusted_proxies")) > 0)
	switch {
	case strings.Contains(path+port, "$") || strings.Contains(host, "$") && !own || host == "" && m.whole:
		s.refuse(nil, m.by, "where it leads cannot be told from here")
		return
	case path != "" || !m.whole:
		s.movedNames(names, m)
		return
	case https && s.isPlain(server):
		s.at("").set("https_redirect", true, m.by.cite())
		if port != "" && port != "443" {
			s.at("").set("https_port", number(port), m.by.cite())
		}
	case own && (scheme == "http" || s.tls || len(names) == 0):
		s.refuse(nil, m.by, "set https_redirect = true in [server], with [server.tls] or trusted_proxies")
		return
	}
	if own {
		if !m.by.told {
			for _, name := range names { // https is elsewhere
				s.redirect(name, "/", move{by: m.by, base: scheme + "://" + name, whole: true, code: m.code})
			}
		}
		return
	}
	others := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == host || https && slices.Contains(s.content, name) })
	switch {
	case slices.Equal(s.content, []string{host}) && (https || scheme == "http" && len(names) == 0):
		s.canonical(host, &m)
	case len(names) == 0 && m.by.told:
		// Its scheme was taken over; the name is the client's.
	default:
		if !https {
			others = names
		}
		s.movedNames(others, m)
	}
}

// movedNames sends names elsewhere by mounts of their own.
func (s *site) movedNames(names []string, m move) {
	if len(names) == 0 && !m.by.told && !s.seen["/"] {
		names = []string{""}
	}
	for _, name := range names {
		s.redirect(name, "/", m)
	}
	if !m.by.told {
		s.refuse(nil, m.by, "write it as a [[mount]] with redirect")
	}
}

// canonical sends all names but one there.
func (s *site) canonical(host string, m *move) {
	if known := s.at("").get("canonical_host"); known != "" && known != quote(host) {
		s.refuse(nil, m.by, "canonical_host is %s already", known)
		return
	}
	s.at("").set("canonical_host", host, m.by.cite())
}

func (s *site) isPlain(server *block) bool {
	listens := server.all("listen")
	return len(listens) == 0 || slices.ContainsFunc(listens, func(l *block) bool { return !slices.Contains(l.args, "ssl") })
}

// returns takes over a redirect of a location; other answers of nginx's own are noted.
func (s *site) returns(l, r *block, host, path string, exact bool) {
	m, ok := returned(r)
	m.exact = exact
	if ok && path == "/" && m.whole {
		l.told = true
		s.moved(l.parent, s.names(l.parent), m)
		return
	}
	if m.whole && path != "/" {
		m.base += path // the whole path, with that of the location
	}
	for _, same := range []string{"$scheme://$host", "https://$host", "$scheme://$http_host", "https://$http_host"} {
		m.base = strings.TrimPrefix(m.base, same)
	}
	if !ok || strings.Contains(m.base, "$") || m.base == "" {
		l.cover()
		s.miss(nil, l.cite(), l.text()+" { "+r.text()+" }", "answer it in the application, or redirect by a [[mount]]")
		return
	}
	l.told = true
	s.redirect(host, path, m)
}

// rewrites makes redirects of those rewrites that are for a prefix. What they are not
// for goes on to what else answers there.
func (s *site) rewrites(b *block, host, at string) {
	for _, r := range b.all("rewrite") {
		m, path, ok := rewritten(r, at)
		switch {
		case !ok:
		case path == "/" && m.whole && b.name == "server":
			s.moved(b, s.names(b), m)
		case strings.Contains(m.base, "$"):
		default:
			s.redirect(host, path, m)
		}
	}
}

func (s *site) redirect(host, path string, m move) {
	if s.seen[host+path] {
		return
	}
	s.seen[host+path] = true
	if m.base == "" {
		m.base = "/"
	}
	t := newTable("[[mount]]", "")
	if m.exact {
		t.about = exactly
	}
	if m.query {
		t.about = strings.TrimSpace(t.about + " nginx sent the query of the request on; this does not.")
	}
	t.set("path", path, m.by.cite())
	if host != "" {
		t.set("host", host, "")
	}
	t.set("redirect", m.base, "")
	t.set("code", number(m.code), "")
	if m.whole {
		t.set("keep_path", true, "")
	}
	s.tables[m.by] = t
	s.moves[t] = m
	s.mounts = append(s.mounts, t)
}

// cutLoops takes redirects out that would lead to themselves: a mount is a prefix, and
// answers at every listener.
func (s *site) cutLoops() {
	s.mounts = slices.DeleteFunc(s.mounts, func(t *table) bool {
		m, ok := s.moves[t]
		if !ok || s.answerer(t, &m) != t {
			return false
		}
		m.by.cover()
		s.miss(nil, m.by.cite(), m.by.text(), "as a mount, which is a prefix at every listener, it would lead to itself: redirect in the application")
		return true
	})
}

// answerer gives the mount that a redirect leads to; nil when that is not here.
func (s *site) answerer(from *table, m *move) (best *table) {
	scheme, host, _, path := m.parts()
	named := unquoteTOML(from.get("host"))
	if host != "" {
		if !slices.Contains(s.allNames, host) && host != named || scheme == "https" && !s.tls {
			return nil
		}
		named = host
	}
	for _, wanted := range []string{named, ""} {
		longest := 0
		for _, t := range s.mounts {
			prefix := unquoteTOML(t.get("path"))
			under := prefix == "/" || path == prefix || strings.HasPrefix(path, prefix+"/")
			if unquoteTOML(t.get("host")) == wanted && under && len(prefix) > longest {
				best, longest = t, len(prefix)
			}
		}
		if best != nil {
			return best
		}
	}
	return nil
}

func unquoteTOML(text string) string { return strings.Trim(text, `"`) }
