package config

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Identity is who the clients are, from phase 3 on.
type Identity struct {
	TTL            Duration `toml:"ttl" default:"2h" min:"1m" doc:"A connection (one browser of a user) without requests and without open pages is forgotten after this time; its user must log in again."`
	GuestTTL       Duration `toml:"guest_ttl" default:"30m" min:"1m" doc:"The same for connections of guests."`
	MaxConnections int      `toml:"max_connections" default:"100000" min:"100" doc:"Connections that are remembered; over it those go that were idle longest, guests first."`
	User           string   `toml:"user" doc:"Who the user is, where a trusted proxy says so: \"header:X-Remote-User\" or \"cookie:NAME\". It is believed of server.trusted_proxies alone, and taken off what others send. Empty: the application says so."`
}

// Cookie is that of a connection.
type Cookie struct {
	Name   string `toml:"name" default:"guado" doc:"Name of the cookie; over https it is __Host-NAME, or __Secure-NAME with a domain."`
	Domain string `toml:"domain" doc:"Domain of the cookie, for several host names of one site: \"example.org\". Empty: the host name of the request alone."`
}

// Page is how the host finds out which page a request is of.
type Page struct {
	From []string `toml:"from" default:"header:Guado-Page,query:page_id,form:page_id" doc:"Where a request names its page: \"header:Guado-Page\", \"query:NAME\", \"form:NAME\" (bodies of forms up to 1MiB that are collected before the application is called). Different answers are refused with 400."`
}

// UserSource takes identity.user apart, after Resolve: one of the two, or neither.
func (i *Identity) UserSource() (header, cookie string) {
	kind, name, _ := strings.Cut(i.User, ":")
	switch kind {
	case "header":
		return name, ""
	case "cookie":
		return "", name
	}
	return "", ""
}

// StateGroup is the name of the group that owns users, connections and pages; empty in
// phase 0.
func (c *Config) StateGroup() string {
	if c.Server.Phase > 0 {
		for i := range c.Groups {
			if c.Groups[i].State {
				return c.Groups[i].Name
			}
		}
	}
	return ""
}

// stateFolder gives server.state_dir its place from phase 3 on, where it holds what a
// start needs: of this very host, and not of all hosts of the account.
func (r *resolver) stateFolder(own bool) {
	if own {
		return
	}
	first, _, _ := strings.Cut(r.getenv("STATE_DIRECTORY"), ":")
	service := filepath.IsAbs(first)
	if r.pages = first; !service {
		r.pages = filepath.Join(r.absolute(r.Dir), ".guado")
	}
	if r.Server.Phase > 0 {
		r.Server.StateDir = r.pages
		r.derived("server.state_dir", service, "STATE_DIRECTORY")
	}
}

// stateGroup makes the only group the one with the state.
func (r *resolver) stateGroup() {
	if r.Server.Phase > 0 && len(r.Groups) == 1 {
		r.Groups[0].State = true
	}
}

var domainForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$`)

func (r *resolver) checkIdentity() {
	i := &r.Identity
	header, cookie := i.UserSource()
	switch {
	case i.User == "":
	case header == "" && cookie == "" || !isToken(header+cookie):
		r.wrong("identity.user", "identity.user", i.User, "must be \"header:NAME\" or \"cookie:NAME\"")
	case strings.HasPrefix(strings.ToLower(header), "guado-"):
		r.wrong("identity.user", "identity.user", i.User, "no field of this name comes from outside; name another one")
	case len(r.Server.TrustedProxies) == 0:
		r.wrong("identity.user", "identity.user", i.User, "nobody would be believed: name the proxy that says who the user is in server.trusted_proxies")
	}
	if i.GuestTTL.Std() > i.TTL.Std() {
		r.wrong("identity.guest_ttl", "identity.guest_ttl", i.GuestTTL.String(), "must be at most identity.ttl (%s): a guest is not known longer than a user", i.TTL)
	}
	if i.TTL.Std() > 366*24*time.Hour {
		r.wrong("identity.ttl", "identity.ttl", i.TTL.String(), "must be at most a year")
	}
	if !isToken(r.Cookie.Name) || strings.HasPrefix(r.Cookie.Name, "__") {
		r.wrong("cookie.name", "cookie.name", r.Cookie.Name, "must be the name of a cookie, without the prefixes __Host- and __Secure-, which the server adds")
	}
	if d := strings.ToLower(r.Cookie.Domain); d != "" && !domainForm.MatchString(d) {
		r.wrong("cookie.domain", "cookie.domain", r.Cookie.Domain, "must be a domain such as \"example.org\"")
	}
	for _, text := range r.Page.From {
		kind, name, _ := strings.Cut(text, ":")
		switch {
		case kind == "header" && !strings.EqualFold(name, "Guado-Page"):
			r.wrong("page.from", "page.from", text, "the only field is \"header:Guado-Page\"")
		case !slices.Contains([]string{"header", "query", "form"}, kind) || !isToken(name):
			r.wrong("page.from", "page.from", text, "must be \"header:Guado-Page\", \"query:NAME\" or \"form:NAME\"")
		}
	}
	r.checkStateGroup()
	r.checkStateFolder()
}

// checkStateFolder refuses to serve the keys.
func (r *resolver) checkStateFolder() {
	if r.Server.Phase == 0 {
		return
	}
	for i := range r.Mounts {
		m := &r.Mounts[i]
		below, err := filepath.Rel(m.Static, r.Server.StateDir)
		if m.Kind() != MountStatic || err != nil || below == ".." || strings.HasPrefix(below, "../") {
			continue
		}
		hidden := slices.ContainsFunc(strings.Split(below, "/"), func(s string) bool { return len(s) > 1 && s[0] == '.' })
		if !hidden || m.Hidden {
			r.wrong("server.state_dir", "server.state_dir", r.Server.StateDir, "lies in the folder that the mount %s%s serves: anybody could fetch the keys of cookies from it", m.Host, m.Path)
		}
	}
}

func (r *resolver) checkStateGroup() {
	var with []string
	for i := range r.Groups {
		g, path := &r.Groups[i], element("group", i)
		if !g.State {
			continue
		}
		with = append(with, g.Name)
		if r.Server.Phase > 0 && g.Workers > 1 && !r.Dev {
			r.wrong(path+".workers", "group."+g.Name+".workers", g.Workers,
				"must be 1: in phase %d pages live in one process, that of the group with the state", r.Server.Phase)
		}
	}
	switch {
	case len(with) > 1:
		r.wrong("", "state", nil, "several groups say state = true (%s); exactly one has users, connections and pages", strings.Join(with, ", "))
	case r.Server.Phase > 0 && len(with) == 0 && len(r.Groups) > 0:
		r.wrong("server.phase", "server.phase", r.Server.Phase, "say which group has users, connections and pages, as state = true on its [[group]] or [[app]]; there are: %s", strings.Join(r.groupNames(), ", "))
	case r.Server.Phase > 0 && len(r.Groups) == 0 && len(r.Apps) == 0:
		r.wrong("server.phase", "server.phase", r.Server.Phase, "there is no application whose pages the server could keep; phase 0 is for servers without one")
	}
}

// checkMountIdentity refuses to believe what no application says.
func (r *resolver) checkMountIdentity(m *Mount, path string) {
	if !m.Identity {
		return
	}
	if kind := m.Kind(); kind != MountApp {
		r.wrong(path+".identity", path+".identity", true, "is for mounts of an app, and this is one of %s", kind)
	}
}
