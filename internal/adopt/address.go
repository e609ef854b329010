package adopt

import (
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

// address spells where a server listens so that both ends of a proxy have it alike:
// "unix:/run/x.sock", or "127.0.0.1:8888" for whatever of this machine.
func address(text string) string {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		path = strings.TrimPrefix(path, "//")
		return "unix:" + filepath.Clean(path)
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = text, "80"
	}
	switch host {
	case "", "*", "0.0.0.0", "::", "::1", "localhost":
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// listenOf spells a bind address of gunicorn or uvicorn for server.listen.
func listenOf(bind string) string {
	if strings.HasPrefix(bind, "unix:") {
		return address(bind)
	}
	host, port, err := net.SplitHostPort(bind)
	switch {
	case err != nil:
		return bind + ":8000" // gunicorn's default port
	case host == "0.0.0.0" || host == "*" || host == "::":
		return ":" + port
	}
	return bind
}

// proxied is what stands behind proxy_pass, taken apart.
type proxied struct {
	scheme  string // "http"; "https"
	address string // as address gives it; the name of an upstream block otherwise
	uri     string // the path behind it; nil has none
	hasURI  bool
}

// parseProxied reads "http://127.0.0.1:8888/x" and "http://unix:/run/x.sock:/x".
func parseProxied(text string) (proxied, bool) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok || scheme != "http" && scheme != "https" {
		return proxied{}, false
	}
	p := proxied{scheme: scheme}
	if path, ok := strings.CutPrefix(rest, "unix:"); ok {
		socket, uri, has := strings.Cut(path, ":")
		p.address, p.uri, p.hasURI = address("unix:"+socket), uri, has && uri != ""
		return p, socket != ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return proxied{}, false
	}
	p.address, p.uri, p.hasURI = u.Host, u.Path, u.Path != ""
	return p, true
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
