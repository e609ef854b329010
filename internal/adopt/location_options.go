package adopt

import (
	"path/filepath"
	"strings"
)

// options takes over what a location says beside what answers there.
func (s *site) options(t *table, l *block) {
	app, upstream := t.get("app") != "", t.get("upstream") != ""
	if b := l.find("proxy_read_timeout"); b != nil && (app || upstream) {
		if d, ok := nginxTime(b.arg(0)); ok {
			t.set(map[bool]string{true: "request_timeout", false: "answer_timeout"}[app], d, b.cite())
		}
	}
	if b := l.find("proxy_connect_timeout"); b != nil && upstream {
		if d, ok := nginxTime(b.arg(0)); ok {
			t.set("connect_timeout", d, b.cite())
		}
	}
	if b := l.find("client_max_body_size"); b != nil && (app || upstream) {
		value, ok := readSize(b.arg(0))
		if ok && toml(value) != s.server["limits"].get("body") {
			t.set("body_limit", value, b.cite())
		} else if ok {
			b.told = true
		}
	}
	for _, r := range l.all("rewrite") {
		if (app || upstream) && cutsPrefix(r, unquoteTOML(t.get("path"))) {
			t.set("prefix", "strip", r.cite())
		}
	}
	s.headers(t, l)
	s.access(t, l)
	if limit := l.find("limit_req"); limit != nil {
		s.rate(t, limit)
	}
	if upstream {
		s.hostOf(t, l)
	}
}

// hostOf takes over which Host an upstream sees: nginx sends the upstream's own name
// unless it is told otherwise.
func (s *site) hostOf(t *table, l *block) {
	from, value := "no proxy_set_header Host", "$proxy_host"
	var said *block
	for at := l; at != nil; at = at.parent {
		for _, file := range at.all("include") {
			if filepath.Base(file.arg(0)) == "proxy_params" { // it is not on this machine, and says Host $http_host
				value = "$http_host"
			}
		}
	}
	for _, set := range inForce(l, "proxy_set_header") {
		if strings.EqualFold(set.arg(0), "host") {
			said, value = set, set.arg(1)
		}
	}
	if strings.HasPrefix(value, "$host") || strings.HasPrefix(value, "$http_host") {
		return // rest names it
	}
	if said != nil {
		from = said.cite()
	}
	t.set("keep_host", false, from)
	if value != "$proxy_host" {
		s.miss(t, from, "proxy_set_header Host "+value, "an upstream sees the client's Host or its own name")
	}
}

// inForce gives the directives of a kind that nginx collects: those of the innermost
// block that has any.
func inForce(l *block, name string) []*block {
	for at := l; at != nil; at = at.parent {
		if found := at.all(name); len(found) > 0 {
			return found
		}
	}
	return nil
}

func (s *site) headers(t *table, l *block) {
	added, always := map[string]string{}, true
	var by []*block
	for _, h := range inForce(l, "add_header") {
		if strings.Contains(h.arg(1), "$") {
			s.miss(t, h.cite(), h.text(), "values have no variables here")
			continue
		}
		added[h.arg(0)], by = h.arg(1), append(by, h)
		always = always && h.arg(2) == "always"
	}
	if len(added) > 0 {
		t.set("add_headers", added, cites(by...))
		if !always {
			t.set("headers_when", "success", "")
		}
	}
	hiding := inForce(l, "proxy_hide_header")
	hidden := make([]string, 0, len(hiding))
	for _, h := range hiding {
		hidden = append(hidden, h.arg(0))
	}
	if len(hidden) > 0 {
		t.set("remove_headers", hidden, cites(hiding...))
	}
}

// access takes over who is let in.
func (s *site) access(t *table, l *block) {
	for _, kind := range []string{"allow", "deny"} {
		var list []string
		rules := inForce(l, kind)
		for _, a := range rules {
			list = append(list, strings.TrimSuffix(a.arg(0), ":"))
		}
		if len(list) > 0 {
			t.set(kind, list, cites(rules...))
		}
	}
	if any := l.find("satisfy"); any.arg(0) == "any" && t.get("allow") != "" {
		t.set("satisfy", "any", any.cite())
	}
	realm, file := l.find("auth_basic"), l.find("auth_basic_user_file")
	if realm == nil || realm.arg(0) == "off" || file == nil {
		return
	}
	t.set("basic_auth", file.arg(0), file.cite())
	t.set("basic_auth_realm", realm.arg(0), realm.cite())
	t.about = strings.TrimSpace(t.about + " The password file must have bcrypt hashes (htpasswd -B).")
}

func (s *site) rate(t *table, limit *block) {
	rate, burst := "", ""
	var zone *block
	for _, arg := range limit.args {
		if name, ok := strings.CutPrefix(arg, "zone="); ok {
			rate, zone = s.zones[name], s.zoneOf[name]
		}
		if n, ok := strings.CutPrefix(arg, "burst="); ok {
			burst = n
		}
	}
	if rate == "" {
		limit.told = true // its zone was noted
		return
	}
	t.set("rate_limit", rate, cites(limit, zone))
	if burst != "" && burst != "0" {
		t.set("rate_burst", number(burst), "burst")
	}
}

// noCounterpart are directives whose loss must be known, wherever they stand.
var noCounterpart = map[string]string{
	"rewrite": "paths are not rewritten: redirect by a [[mount]], or let the application do it", "if": "there are no conditions",
	"error_page": "error pages have a form of their own, by Accept", "proxy_cache": "there is no cache: let the application or a CDN keep copies",
	"proxy_cache_path": "there is no cache", "sub_filter": "bodies are not changed", "auth_request": "ask in the application",
	"mirror": "requests are not mirrored", "proxy_next_upstream": "an upstream is one server", "limit_conn": "connections of an address: server.limits.connections_per_address",
	"lua_code": "there is no Lua", "perl_set": "there is no Perl", "geo": "there are no variables", "split_clients": "there are no variables",
	"underscores_in_headers": "name the fields in server.allow_headers", "ssl_client_certificate": "client certificates are not asked for",
	"ssl_verify_client": "client certificates are not asked for", "proxy_ssl_certificate": "no certificate is shown to upstreams",
	"proxy_method": "methods are not changed", "proxy_set_body": "bodies are not changed", "dav_methods": "WebDAV is the application's",
}

// standard are files that distributions bring, with nothing that would be missed.
var standard = []string{"mime.types", "proxy_params", "fastcgi_params", "fastcgi.conf", "uwsgi_params", "scgi_params", "options-ssl-nginx.conf"}

// toldAnyway are fields of requests that Guado sets itself.
var toldAnyway = []string{
	"host", "upgrade", "connection", "x-real-ip", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port",
	"x-forwarded-server", "x-scheme", "x-request-id", "accept-encoding", "x-forwarded-ssl", "x-url-scheme", "forwarded", "proxy",
}
