package adopt

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	nginx "github.com/tufanbarisyildirim/gonginx/config"
	"github.com/tufanbarisyildirim/gonginx/parser"

	"github.com/guado-server/guado/internal/config"
)

// block is a directive of nginx: its words, and what stands in its braces. Includes are
// dissolved into it.
type block struct {
	name   string
	args   []string
	file   string
	line   int
	inside []*block
	parent *block
}

func (b *block) from() string { return source(b.file, b.line) }

func (b *block) text() string { return strings.Join(append([]string{b.name}, b.args...), " ") }

// all gives the directives of this name.
func (b *block) all(name string) []*block {
	var found []*block
	for _, each := range b.inside {
		if each.name == name {
			found = append(found, each)
		}
	}
	return found
}

// find gives the last directive of this name that is in force here: nginx inherits from
// outer blocks.
func (b *block) find(name string) *block {
	for at := b; at != nil; at = at.parent {
		if found := at.all(name); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	return nil
}

// arg gives a word, "" when there are not so many; b may be nil.
func (b *block) arg(n int) string {
	if b == nil || n >= len(b.args) {
		return ""
	}
	return b.args[n]
}

// readNginx reads a file with what it includes.
func readNginx(path string) (*block, error) {
	p, err := parser.NewParser(path, parser.WithIncludeParsing(), parser.WithSkipIncludeParsingErr(), parser.WithSkipValidDirectivesErr())
	if err != nil {
		return nil, err
	}
	parsed, err := p.Parse()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	root := &block{file: path}
	root.fill(parsed.Block, path)
	if http := root.all("http"); len(http) > 0 {
		return http[0], nil
	}
	return root, nil // a file of sites-enabled
}

func (b *block) fill(from nginx.IBlock, file string) {
	if from == nil {
		return
	}
	for _, d := range from.GetDirectives() {
		if include, ok := d.(*nginx.Include); ok {
			for _, c := range include.Configs {
				b.fill(c.Block, c.FilePath)
			}
			if len(include.Configs) == 0 {
				b.inside = append(b.inside, &block{name: "include", args: []string{include.IncludePath}, file: file, line: d.GetLine(), parent: b})
			}
			continue
		}
		each := &block{name: d.GetName(), file: file, line: d.GetLine(), parent: b}
		for _, p := range d.GetParameters() {
			each.args = append(each.args, unquote(p.Value))
		}
		each.fill(d.GetBlock(), file)
		if len(each.inside) > 0 && each.inside[0].file == file {
			each.line = min(each.line, each.inside[0].line) // the library gives the end of a block
		}
		b.inside = append(b.inside, each)
	}
}

func unquote(word string) string {
	if len(word) > 1 && (word[0] == '"' || word[0] == '\'') && word[len(word)-1] == word[0] {
		return strings.NewReplacer(`\"`, `"`, `\'`, `'`, `\\`, `\`).Replace(word[1 : len(word)-1])
	}
	return word
}

// site is what is being made of nginx's http block.
type site struct {
	*draft
	upstreams map[string]*block
	zones     map[string]string // of limit_req_zone: name → "10/s"
	seen      map[string]bool   // host + path of mounts
	later     []func(*table)    // what waits for a mount that an application answers
}

// addNginx makes listeners and mounts of the servers.
func (d *draft) addNginx(http *block) {
	s := &site{draft: d, upstreams: map[string]*block{}, zones: map[string]string{}, seen: map[string]bool{}}
	for _, u := range http.all("upstream") {
		s.upstreams[u.arg(0)] = u
	}
	for _, z := range http.all("limit_req_zone") {
		s.zone(z)
	}
	d.listen = nil
	servers := http.all("server")
	for _, server := range servers {
		s.tls = s.tls || s.speaksTLS(server)
	}
	for _, server := range servers {
		s.addListeners(server)
	}
	s.addServerKeys(http)
	for i, server := range servers {
		s.addServer(server, s.hosts(servers, i))
	}
	if len(servers) == 0 {
		d.miss(nil, filepath.Base(http.file), "server", "there is none in this file; name the one that has it")
	}
	s.known(nil, http)
}

func (s *site) speaksTLS(server *block) bool {
	for _, l := range server.all("listen") {
		if slices.Contains(l.args, "ssl") {
			return true
		}
	}
	return server.arg(0) == "" && len(server.all("ssl_certificate")) > 0 && server.find("ssl").arg(0) == "on"
}

// addListeners takes over where a server listens.
func (s *site) addListeners(server *block) {
	listens := server.all("listen")
	if len(listens) == 0 {
		listens = []*block{{name: "listen", args: []string{"80"}, file: server.file, line: server.line}}
	}
	for _, l := range listens {
		at := l.arg(0)
		switch host, port, found := strings.Cut(at, ":"); {
		case strings.HasPrefix(at, "unix:"):
			at = address(at)
		case strings.HasPrefix(at, "[::]:"): // ":80" is both
			at = at[len("[::]"):]
		case strings.HasPrefix(at, "["):
		case !found && strings.Trim(at, "0123456789") == "":
			at = ":" + at
		case !found:
			at += ":80"
		case host == "*" || host == "0.0.0.0":
			at = ":" + port
		}
		if s.tls && !slices.Contains(l.args, "ssl") && !strings.HasPrefix(at, "unix:") {
			at = "http://" + at
		}
		if !slices.Contains(s.listen, at) {
			s.listen = append(s.listen, at)
		}
		if slices.Contains(l.args, "proxy_protocol") {
			s.at("").set("proxy_protocol", true, l.from())
		}
	}
}

// hosts tells for which names a server answers; "" is every name, as its first or
// default server answers for nginx.
func (s *site) hosts(servers []*block, i int) []string {
	server := servers[i]
	isDefault := func(b *block) bool {
		return slices.ContainsFunc(b.all("listen"), func(l *block) bool {
			return slices.Contains(l.args, "default_server") || slices.Contains(l.args, "default")
		})
	}
	var names []string
	for _, n := range server.all("server_name") {
		for _, name := range n.args {
			switch {
			case name == "_" || name == "":
			case strings.HasPrefix(name, "~") || strings.HasSuffix(name, ".*"):
				s.miss(nil, n.from(), "server_name "+name, "patterns are not matched; name the hosts, or *.example.org")
			case strings.HasPrefix(name, "."):
				names = append(names, name[1:], "*"+name)
			default:
				names = append(names, strings.ToLower(name))
			}
		}
	}
	content := func(b *block) bool { return !onlyRedirects(b) }
	first := slices.IndexFunc(servers, isDefault)
	if first < 0 || !content(servers[first]) {
		first = slices.IndexFunc(servers, content)
	}
	if i == first || len(names) == 0 {
		return []string{""}
	}
	return names
}

// onlyRedirects tells the servers that send everybody elsewhere.
func onlyRedirects(server *block) bool {
	return len(server.all("return")) > 0 && len(server.all("location")) == 0
}

// addServer makes mounts of a server's locations.
func (s *site) addServer(server *block, hosts []string) {
	if r := server.all("return"); onlyRedirects(server) {
		s.redirectServer(server, r[0], hosts)
		return
	}
	if s.speaksTLS(server) || server.find("ssl_certificate") != nil && s.tls {
		s.addTLS(server)
	}
	for _, host := range hosts {
		for _, l := range server.all("location") {
			s.addLocation(l, host)
		}
		if root := server.find("root"); root != nil && !s.seen[host+"/"] {
			s.addLocation(&block{name: "location", args: []string{"/"}, file: server.file, line: root.line, parent: server}, host)
		}
	}
	s.known(nil, server)
}

// redirectServer takes over a server that only redirects.
func (s *site) redirectServer(server, r *block, hosts []string) {
	to := r.arg(1)
	if to == "" {
		to = r.arg(0)
	}
	if base, ok := strings.CutSuffix(to, "$request_uri"); ok {
		switch {
		case base == "https://$host" || base == "https://$server_name" || base == "https://$http_host":
			s.maybe(s.at(""), "server", "https_redirect", true, r.from(), "return "+to)
			return
		case !strings.Contains(base, "$"):
			for _, n := range server.all("server_name") {
				hosts = n.args
			}
			for _, host := range hosts {
				s.redirect(host, "/", base, r, true)
			}
			return
		}
	}
	s.miss(nil, r.from(), r.text(), "write it as a [[mount]] with redirect")
}

// addTLS takes over the certificate; there is one for all listeners.
func (s *site) addTLS(server *block) {
	cert, key := server.find("ssl_certificate"), server.find("ssl_certificate_key")
	if cert == nil || key == nil {
		return
	}
	t := s.at("tls")
	if known := t.get("cert"); known != "" && known != quote(cert.arg(0)) {
		s.miss(t, cert.from(), cert.text(), "one certificate serves all listeners; take one that has all names")
		return
	}
	t.set("cert", cert.arg(0), cert.from())
	t.set("key", key.arg(0), key.from())
	if p := server.find("ssl_protocols"); p != nil {
		if len(p.args) == 1 && p.args[0] == "TLSv1.3" {
			t.set("min_version", "1.3", p.from())
		} else if slices.Contains(p.args, "TLSv1") || slices.Contains(p.args, "TLSv1.1") {
			s.miss(t, p.from(), p.text(), "TLS before 1.2 is not spoken")
		}
	}
}

// zone reads the rate of a limit_req_zone.
func (s *site) zone(z *block) {
	name, rate := "", ""
	for _, arg := range z.args {
		if text, ok := strings.CutPrefix(arg, "zone="); ok {
			name, _, _ = strings.Cut(text, ":")
		}
		if text, ok := strings.CutPrefix(arg, "rate="); ok {
			rate = strings.Replace(text, "r/", "/", 1)
		}
	}
	if !strings.HasSuffix(z.arg(0), "remote_addr") {
		s.miss(nil, z.from(), z.text(), "requests are counted by address only")
		return
	}
	s.zones[name] = rate
}

// serverKeys are directives that are keys of [server] or a table below it, for all hosts.
var serverKeys = []struct {
	directive, table, key string
	read                  func(string) (any, bool)
}{
	{"client_header_timeout", "timeouts", "head", readTime}, {"client_body_timeout", "timeouts", "read_idle", readTime},
	{"send_timeout", "timeouts", "write_idle", readTime}, {"keepalive_timeout", "timeouts", "keep_alive", readTime},
	{"keepalive_requests", "limits", "requests_per_connection", readNumber}, {"gzip_min_length", "", "compression_min", readSize},
}

// addServerKeys takes over what counts for every host; the first server that says it
// speaks for all.
func (s *site) addServerKeys(http *block) {
	blocks := append([]*block{http}, http.all("server")...)
	for _, b := range blocks {
		for _, k := range serverKeys {
			for _, found := range b.all(k.directive) {
				if value, ok := k.read(found.arg(0)); ok && s.at(k.table).get(k.key) == "" {
					s.at(k.table).set(k.key, value, found.from())
				}
			}
		}
		for _, g := range b.all("gzip") {
			if g.arg(0) == "on" {
				s.at("").set("compression", []string{"gzip"}, g.from())
			}
		}
		for _, size := range b.all("client_max_body_size") {
			if value, ok := readSize(size.arg(0)); ok && s.at("limits").get("body") == "" {
				s.at("limits").set("body", value, size.from())
			}
		}
		for _, log := range b.all("access_log") {
			if log.arg(0) != "off" && s.at("").get("access_log") == "" && !strings.HasPrefix(log.arg(0), "syslog:") {
				s.at("").set("access_log", log.arg(0), log.from())
			}
		}
		for _, h := range b.all("http2") {
			if h.arg(0) == "off" {
				s.at("").set("http2", false, h.from())
			}
		}
		var proxies []string
		for _, ip := range b.all("set_real_ip_from") {
			proxies = append(proxies, strings.TrimSuffix(ip.arg(0), ":"))
		}
		if len(proxies) > 0 {
			s.at("").set("trusted_proxies", proxies, "set_real_ip_from")
		}
	}
}

func readNumber(text string) (any, bool) {
	n, err := strconv.Atoi(text)
	return n, err == nil
}

func readSize(text string) (any, bool) {
	size, err := config.ParseSize(text)
	return size, err == nil
}

// readTime reads "65", "30s", "2m", "1h30m", "7d".
func readTime(text string) (any, bool) {
	total, ok := nginxTime(text)
	return total, ok
}

var units = map[string]time.Duration{
	"": time.Second, "ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour,
	"d": 24 * time.Hour, "w": 7 * 24 * time.Hour, "M": 30 * 24 * time.Hour, "y": 365 * 24 * time.Hour,
}

func nginxTime(text string) (total time.Duration, ok bool) {
	for text != "" {
		digits := len(text) - len(strings.TrimLeft(text, "0123456789"))
		n, err := strconv.Atoi(text[:digits])
		if err != nil {
			return 0, false
		}
		text = text[digits:]
		letters := len(text) - len(strings.TrimLeft(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))
		unit, known := units[text[:letters]]
		if !known {
			return 0, false
		}
		total += time.Duration(n) * unit
		text, ok = text[letters:], true
	}
	return total, ok
}
