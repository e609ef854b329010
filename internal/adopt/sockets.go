package adopt

import (
	"slices"
	"strings"
)

// asksUpgrade tells locations that pass WebSockets on.
func asksUpgrade(l *block) bool {
	return slices.ContainsFunc(inForce(l, "proxy_set_header"), func(b *block) bool { return strings.EqualFold(b.arg(0), "upgrade") && b.arg(1) != "" })
}

// keepSockets leaves those ASGI applications to the server that they have now to which a
// location passes WebSockets: this version does not serve that scope. The server goes on
// as a program, and the location leads to it as to any other upstream.
func (s *site) keepSockets(servers []*block) {
	for _, server := range servers {
		for _, l := range server.locations() {
			pass := l.find("proxy_pass")
			if !asksUpgrade(l) || pass == nil || pass.parent != l {
				continue
			}
			if p, ok := parseProxied(pass.arg(0)); ok {
				s.keepServer(s.serves[s.reached(&p)])
			}
		}
	}
}

// reached gives the address behind proxy_pass, through an upstream block.
func (s *site) reached(p *proxied) string {
	if u := s.upstreams[p.address]; u != nil && len(u.all("server")) > 0 {
		return address(u.all("server")[0].arg(0))
	}
	return address(p.address)
}

const noSockets = "the websocket scope is not served by this version: its server goes on behind an upstream"

// keepServer makes a program of an ASGI app again.
func (s *site) keepServer(name string) {
	at := slices.IndexFunc(s.apps, func(t *table) bool { return appName(t) == name && t.get("kind") == quote("asgi") })
	if name == "" || at < 0 {
		return
	}
	app := s.apps[at]
	s.apps = slices.Delete(s.apps, at, at+1)
	for addr, served := range s.serves {
		if served == name {
			delete(s.serves, addr)
			s.sockets[addr] = true
		}
	}
	s.missed = slices.DeleteFunc(s.missed, func(text string) bool { return slices.Contains(app.missed, text) })
	s.needless = slices.DeleteFunc(s.needless, func(text string) bool { return slices.Contains(app.needless, text) })
	p := s.supervised[name]
	if p == nil {
		s.miss(nil, app.keys[0].from, unquoteTOML(app.get("target"))+" as an [[app]]", "%s; start it as a [[program]], or leave it where it runs now", noSockets)
		return
	}
	s.addProgram(p)
	s.miss(s.programs[len(s.programs)-1], p.place(), unquoteTOML(app.get("target"))+" as an [[app]]", "%s", noSockets)
}

// noteSocket says so beside a mount, too.
func (s *site) noteSocket(t *table, l *block, at string) {
	if s.sockets[at] && asksUpgrade(l) {
		t.about = strings.TrimSpace(t.about + " WebSockets pass to the program that serves them.")
	}
}
