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
	told   bool // the output tells of it
}

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
	if b == nil || n < 0 || n >= len(b.args) {
		return ""
	}
	return b.args[n]
}

// readNginx reads a file with what it includes: the whole of nginx.conf, or of a file of
// sites-enabled.
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
	return root, nil
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
	zoneOf    map[string]*block
	seen      map[string]bool   // host + path of mounts
	tables    map[*block]*table // mounts of locations and redirects, for notes beside them
	moves     map[*table]move   // of mounts that redirect
	content   []string          // names of servers that do more than redirect
	allNames  []string
	sockets   map[string]bool // addresses of programs that serve WebSockets
}

// addNginx makes listeners and mounts of the servers.
func (d *draft) addNginx(root *block) {
	http := root
	if found := root.all("http"); len(found) > 0 {
		http = found[0] // else it is a file of sites-enabled
	}
	s := &site{
		draft: d, upstreams: map[string]*block{}, zones: map[string]string{}, zoneOf: map[string]*block{}, seen: map[string]bool{},
		tables: map[*block]*table{}, moves: map[*table]move{}, sockets: map[string]bool{},
	}
	for _, u := range http.all("upstream") {
		s.upstreams[u.arg(0)] = u
	}
	for _, z := range http.all("limit_req_zone") {
		s.zone(z)
	}
	d.listen, d.listenFrom = nil, ""
	servers := http.all("server")
	s.addServers(http, servers)
	if len(servers) == 0 {
		d.miss(nil, filepath.Base(http.file), "server", "there is none in this file; name the one that has it")
	}
	s.cutLoops()
	s.rest(root, nil)
}

// addServers takes over those that only redirect last: it depends on the others how.
func (s *site) addServers(http *block, servers []*block) {
	listens := make([]*block, 0, len(servers))
	for _, server := range servers {
		s.tls = s.tls || s.speaksTLS(server)
		s.allNames = append(s.allNames, s.names(server)...)
		if !onlyRedirects(server) {
			s.content = append(s.content, s.names(server)...)
		}
	}
	slices.Sort(s.content)
	s.content = slices.Compact(s.content)
	for _, server := range servers {
		listens = append(listens, s.addListeners(server)...)
	}
	s.listenFrom = cites(listens...)
	s.addServerKeys(http)
	s.keepSockets(servers)
	for i, server := range servers {
		if !onlyRedirects(server) {
			s.addServer(server, s.hosts(servers, i))
		}
	}
	for _, server := range servers {
		if onlyRedirects(server) {
			s.redirectServer(server)
		}
	}
}

func (s *site) speaksTLS(server *block) bool {
	for _, l := range server.all("listen") {
		if slices.Contains(l.args, "ssl") {
			return true
		}
	}
	return server.arg(0) == "" && len(server.all("ssl_certificate")) > 0 && server.find("ssl").arg(0) == "on"
}

// addListeners takes over where a server listens, and gives what said so.
func (s *site) addListeners(server *block) []*block {
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
			s.at("").set("proxy_protocol", true, l.cite())
		}
	}
	return listens
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
	names := s.names(server)
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

// names gives what a server is called; none is whatever name a client says.
func (s *site) names(server *block) (names []string) {
	for _, n := range server.all("server_name") {
		noted := n.told
		for _, name := range n.args {
			switch {
			case name == "_" || name == "":
			case strings.HasPrefix(name, "~") || strings.HasSuffix(name, ".*"):
				if !noted {
					s.miss(nil, n.cite(), "server_name "+name, "patterns are not matched; name the hosts, or *.example.org")
				}
			case strings.HasPrefix(name, "."):
				names = append(names, name[1:], "*"+name)
			default:
				names = append(names, strings.ToLower(name))
			}
		}
	}
	return names
}

// addServer makes mounts of a server's locations.
func (s *site) addServer(server *block, hosts []string) {
	server.told = true
	if s.speaksTLS(server) || server.find("ssl_certificate") != nil && s.tls {
		s.addTLS(server)
	}
	s.conditions(server)
	before := len(s.mounts)
	locations := server.locations()
	for _, host := range hosts {
		if host != "" {
			for _, n := range server.all("server_name") {
				n.told = true
			}
		}
		s.rewrites(server, host, "/")
		for _, l := range locations {
			s.addLocation(l, host)
		}
		if root := server.find("root"); root != nil && !s.seen[host+"/"] {
			s.addLocation(&block{name: "location", args: []string{"/"}, file: server.file, line: root.line, parent: server}, host)
		}
	}
	s.sendfile(locations, s.mounts[before:])
}

// locations gives those of a server, nested ones after what they stand in.
func (b *block) locations() (found []*block) {
	for _, l := range b.all("location") {
		found = append(append(found, l), l.locations()...)
	}
	return found
}

// addTLS takes over the certificate; there is one for all listeners.
func (s *site) addTLS(server *block) {
	cert, key := server.find("ssl_certificate"), server.find("ssl_certificate_key")
	if cert == nil || key == nil {
		return
	}
	t := s.at("tls")
	if known := t.get("cert"); known != "" && known != quote(cert.arg(0)) {
		key.told = true
		s.miss(t, cert.cite(), cert.text(), "one certificate serves all listeners; take one that has all names")
		return
	}
	t.set("cert", cert.arg(0), cert.cite())
	t.set("key", key.arg(0), key.cite())
	if p := server.find("ssl_protocols"); p != nil {
		if len(p.args) == 1 && p.args[0] == "TLSv1.3" {
			t.set("min_version", "1.3", p.cite())
		} else if slices.Contains(p.args, "TLSv1") || slices.Contains(p.args, "TLSv1.1") {
			s.miss(t, p.cite(), p.text(), "TLS before 1.2 is not spoken")
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
		s.refuse(nil, z, "requests are counted by address only")
		return
	}
	s.zoneOf[name] = z
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
	{"client_max_body_size", "limits", "body", readSize},
}

// addServerKeys takes over what counts for every host; the first server that says it
// speaks for all.
func (s *site) addServerKeys(http *block) {
	blocks := append([]*block{http}, http.all("server")...)
	for _, b := range blocks {
		for _, k := range serverKeys {
			for _, found := range b.all(k.directive) {
				if value, ok := k.read(found.arg(0)); ok {
					s.once(s.at(k.table), k.key, value, found)
				}
			}
		}
		for _, g := range b.all("gzip") {
			if g.arg(0) == "on" {
				s.once(s.at(""), "compression", []string{"gzip"}, g)
			}
		}
		for _, log := range b.all("access_log") {
			if log.arg(0) == "off" || strings.HasPrefix(log.arg(0), "syslog:") {
				continue
			}
			if log.arg(1) == "" || log.arg(1) == "combined" || log.arg(1) == "main" {
				s.once(s.at(""), "access_log", log.arg(0), log)
			} else if s.once(s.at(""), "access_log", log.arg(0), log) {
				s.miss(s.at(""), log.cite(), log.text(), "its format %s: access_log_format is combined, extended or json", log.arg(1))
			}
		}
		for _, h := range b.all("http2") {
			if h.arg(0) == "off" {
				s.at("").set("http2", false, h.cite())
			}
		}
		var proxies []string
		for _, ip := range b.all("set_real_ip_from") {
			proxies = append(proxies, strings.TrimSuffix(ip.arg(0), ":"))
		}
		if len(proxies) > 0 {
			s.once(s.at(""), "trusted_proxies", proxies, b.all("set_real_ip_from")...)
		}
	}
}

// once sets what has one value for all hosts: the first that is said.
func (s *site) once(t *table, name string, value any, by ...*block) bool {
	if known := t.get(name); known != "" && known != toml(value) {
		return false // rest notes it
	}
	t.set(name, value, cites(by...))
	return true
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
