// Package route finds the mount of a request by host and path prefix, and sets
// the exchange's Root.
// Before it: edge. After it: what is mounted (pool, gohandler, redirect).
// Not here: decoding or cleaning of paths (edge); what a mount does.
package route

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/guado-server/guado/internal/exchange"
)

// Mount binds a host and a path prefix to a handler.
type Mount struct {
	Name     string // x.App, for logs
	Host     string // "example.org", "*.example.org" (any depth); empty: every host
	Path     string // decoded prefix, matched on whole segments: "/", "/api"
	Keep     bool   // the handler sees the whole path and no root
	RootPath string // prefix that a proxy in front has taken off: put back in front of the path
	AddSlash bool   // send "/static" to "/static/", so that relative links in it are right
	Handler  exchange.Handler
	Meter    exchange.Meter // counts its exchanges; nil: nobody
}

// Table finds the mount of an exchange. It never changes: a new configuration is a
// new table.
type Table struct {
	hosts map[string]*site // exact names, lower case
	wild  []wildcard       // longest suffix first
	any   *site
}

type wildcard struct {
	suffix string // ".example.org", lower case
	site   *site
}

// site is the mounts of one host, longest path first.
type site struct{ entries []entry }

type entry struct {
	Mount
	prefix string // Path without the slash at its end; "" for the mount at "/"
	root   []byte // what x.Root becomes
}

var (
	errNoMount = errors.New("no mount for this host and path")
	// maxHost bounds the copy of a Host field that is made to compare it.
	maxHost = 255
)

// New checks the mounts and builds the table.
func New(mounts []Mount) (*Table, error) {
	t := &Table{hosts: map[string]*site{}, any: &site{}}
	wild := map[string]*site{}
	for _, m := range mounts {
		e, err := check(m)
		if err != nil {
			return nil, err
		}
		s := t.any
		switch name := strings.ToLower(m.Host); {
		case name == "":
		case strings.HasPrefix(name, "*."):
			s = siteOf(wild, name[1:])
		default:
			s = siteOf(t.hosts, name)
		}
		if slices.ContainsFunc(s.entries, func(o entry) bool { return o.prefix == e.prefix }) {
			return nil, fmt.Errorf("mount %q%s is there twice", m.Host, m.Path)
		}
		s.entries = append(s.entries, e)
	}
	for suffix, s := range wild {
		t.wild = append(t.wild, wildcard{suffix, s})
	}
	slices.SortFunc(t.wild, func(a, b wildcard) int {
		return cmp.Or(cmp.Compare(len(b.suffix), len(a.suffix)), cmp.Compare(a.suffix, b.suffix))
	})
	for _, s := range t.sites() {
		slices.SortFunc(s.entries, func(a, b entry) int { return cmp.Compare(len(b.prefix), len(a.prefix)) })
	}
	return t, nil
}

func check(m Mount) (entry, error) {
	if m.Handler == nil {
		return entry{}, fmt.Errorf("mount %q has no handler", m.Path)
	}
	if !strings.HasPrefix(m.Path, "/") {
		return entry{}, fmt.Errorf("mount path %q must start with /", m.Path)
	}
	if strings.Contains(m.Path, "//") {
		return entry{}, fmt.Errorf("mount path %q has an empty segment", m.Path)
	}
	if h := strings.TrimPrefix(m.Host, "*."); strings.ContainsAny(h, "*/ \t") || (m.Host != "" && h == "") {
		return entry{}, fmt.Errorf("mount host %q must be a name or *.name", m.Host)
	}
	root := strings.TrimRight(m.RootPath, "/")
	if root != "" && !strings.HasPrefix(root, "/") {
		return entry{}, fmt.Errorf("root path %q of mount %q must start with /", m.RootPath, m.Path)
	}
	m.RootPath = root
	e := entry{Mount: m, prefix: strings.TrimRight(m.Path, "/")}
	if !m.Keep {
		root += e.prefix
	}
	if root != "" {
		e.root = []byte(root)
	}
	return e, nil
}

func siteOf(sites map[string]*site, name string) *site {
	s := sites[name]
	if s == nil {
		s = &site{}
		sites[name] = s
	}
	return s
}

func (t *Table) sites() []*site {
	all := append(make([]*site, 0, 1+len(t.hosts)+len(t.wild)), t.any)
	for _, s := range t.hosts {
		all = append(all, s)
	}
	for _, w := range t.wild {
		all = append(all, w.site)
	}
	return all
}

// Serve hands x to its mount, or answers 404 with code no_mount.
func (t *Table) Serve(x *exchange.Exchange) {
	e := t.find(x.Host, x.Path)
	if e == nil {
		x.Fail(&exchange.Problem{Status: 404, Code: "no_mount", Err: errNoMount})
		return
	}
	x.App = e.Name
	if e.Meter != nil {
		x.Meter = e.Meter
		e.Meter.Begin()
	}
	if e.AddSlash && len(x.Path) == len(e.prefix) && e.prefix != "" {
		addSlash(x)
		return
	}
	x.Root = e.root
	if e.RootPath != "" {
		x.Path = append([]byte(e.RootPath), x.Path...)
	}
	e.Handler.Serve(x)
}

// Mount gives the mount of a host and a decoded path; nil: there is none.
func (t *Table) Mount(host, path []byte) *Mount {
	if e := t.find(host, path); e != nil {
		return &e.Mount
	}
	return nil
}

// find looks at the mounts of the host first, then at those of every host: a host
// that has a mount for /api only still gets the rest from the common ones.
func (t *Table) find(host, path []byte) *entry {
	if len(t.hosts) > 0 || len(t.wild) > 0 {
		var room [256]byte
		if name := lowerName(room[:0], host); name != nil {
			if s := t.hosts[string(name)]; s != nil {
				if e := s.find(path); e != nil {
					return e
				}
			}
			for _, w := range t.wild {
				if len(name) > len(w.suffix) && string(name[len(name)-len(w.suffix):]) == w.suffix {
					if e := w.site.find(path); e != nil {
						return e
					}
				}
			}
		}
	}
	return t.any.find(path)
}

func (s *site) find(path []byte) *entry {
	for i := range s.entries {
		p := s.entries[i].prefix
		if len(path) >= len(p) && string(path[:len(p)]) == p && (len(path) == len(p) || path[len(p)] == '/') {
			return &s.entries[i]
		}
	}
	return nil
}

// lowerName copies the name of a Host field without its port and the root dot.
func lowerName(dst, host []byte) []byte {
	if len(host) > 0 && host[0] == '[' {
		if end := bytes.IndexByte(host, ']'); end > 0 {
			host = host[:end+1]
		}
	} else if colon := bytes.IndexByte(host, ':'); colon >= 0 {
		host = host[:colon]
	}
	host = bytes.TrimSuffix(host, []byte("."))
	if len(host) == 0 || len(host) > maxHost {
		return nil
	}
	for _, c := range host {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	return dst
}

// addSlash redirects with the method and body kept (308), to the path as the
// client spelled it.
func addSlash(x *exchange.Exchange) {
	to := append(append([]byte{}, x.RawPath...), '/')
	if len(x.Query) > 0 {
		to = append(append(to, '?'), x.Query...)
	}
	if err := x.Answer.Head(exchange.Head{Status: 308, Fields: []exchange.Field{{Name: []byte("Location"), Value: to}}}); err != nil {
		x.Answer.Abort(err)
	}
}
