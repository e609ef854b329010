package guado

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/guado-server/guado/internal/config"
)

// WSGI is the WSGI application "module:attribute" with default settings; change the
// fields of what it gives before it is mounted:
//
//	shop := guado.WSGI("shop.wsgi:application")
//	shop.Threads, shop.Workers = 4, 2
//	s.Mount("/", shop)
func WSGI(target string) App { return newApp("wsgi", target) }

// ASGI is the ASGI application "module:attribute" with default settings.
func ASGI(target string) App { return newApp("asgi", target) }

func newApp(kind, target string) App {
	module, _, _ := strings.Cut(target, ":")
	a := config.NewApp(strings.ReplaceAll(module, ".", "-"), target)
	a.Kind = kind
	return a
}

// Static serves the files of a folder.
func Static(dir string) MountConfig {
	m := config.NewMount("/")
	m.Static = dir
	return m
}

// Redirect sends clients to another path or URL.
func Redirect(to string) MountConfig {
	m := config.NewMount("/")
	m.Redirect = to
	return m
}

// Upstream passes requests on to another server: "http://HOST:PORT", "unix:PATH".
func Upstream(address string) MountConfig {
	m := config.NewMount("/")
	m.Upstream = address
	return m
}

// MountOption changes one mount.
type MountOption func(*MountConfig)

// Host binds the mount to a host name: "example.org", "*.example.org".
func Host(name string) MountOption { return func(m *MountConfig) { m.Host = name } }

// Keep leaves the path as it is: what is mounted sees all of it, and an empty
// SCRIPT_NAME or root_path.
func Keep() MountOption { return func(m *MountConfig) { m.Prefix = "keep" } }

// RootPath is a prefix that a proxy in front has taken off (applications only).
func RootPath(path string) MountOption { return func(m *MountConfig) { m.RootPath = path } }

// Mount binds a path prefix to what answers there: an [App], an http.Handler, or
// what [Static], [Redirect] or [Upstream] give. The longest prefix wins. An App may
// be mounted at several places; it is the same one when its Name is. What is wrong
// with a mount is said by Run.
func (s *Server) Mount(path string, what any, options ...MountOption) {
	m := config.NewMount(path)
	switch v := what.(type) {
	case App:
		s.addApp(v)
		m.App = v.Name
	case MountConfig:
		m = v
		m.Path = path
	case http.Handler:
		m.Handler = v
	default:
		s.problems = append(s.problems, fmt.Errorf("mount %s: a %T cannot be mounted: it is neither an App nor an http.Handler", path, what))
		return
	}
	for _, option := range options {
		option(&m)
	}
	s.config.Mounts = append(s.config.Mounts, m)
}

func (s *Server) addApp(a App) {
	if !slices.ContainsFunc(s.config.Apps, func(o App) bool { return o.Name == a.Name && o.Target == a.Target }) {
		s.config.Apps = append(s.config.Apps, a)
	}
}
