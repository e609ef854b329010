// Package redirect answers a mount with another address.
// Before it: route. After it: nothing.
// Not here: http → https and canonical hosts, which are the server's own.
package redirect

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/guado-server/guado/internal/exchange"
)

// Options of one redirect mount.
type Options struct {
	To       string // absolute URL or path: "https://example.com/new", "/new"
	Code     int    // 301, 302, 303, 307 or 308 (default: keeps method and body)
	KeepPath bool   // append what follows the mount's prefix, and the query
}

// Handler redirects.
type Handler struct {
	to       string
	code     int
	keepPath bool
}

// New checks the target.
func New(o Options) (*Handler, error) {
	u, err := url.Parse(o.To)
	if err != nil {
		return nil, fmt.Errorf("redirect target %q: %w", o.To, err)
	}
	path := u.Scheme == ""
	if path && (!strings.HasPrefix(o.To, "/") || otherHost(o.To)) || !path && u.Host == "" {
		return nil, fmt.Errorf("redirect target %q: must be a path that starts with one / or an absolute URL", o.To)
	}
	switch o.Code {
	case 0:
		o.Code = 308
	case 301, 302, 303, 307, 308:
	default:
		return nil, fmt.Errorf("redirect code %d: must be 301, 302, 303, 307 or 308", o.Code)
	}
	if o.KeepPath {
		o.To = strings.TrimSuffix(o.To, "/")
	}
	return &Handler{to: o.To, code: o.Code, keepPath: o.KeepPath}, nil
}

// otherHost reports whether a browser reads a reference without a scheme as the name
// of a host: it begins with two slashes, and backslashes count as such (WHATWG URL).
func otherHost[T string | []byte](ref T) bool {
	return len(ref) > 1 && isSlash(ref[0]) && isSlash(ref[1])
}

func isSlash(c byte) bool { return c == '/' || c == '\\' }

// Serve answers with the redirect.
func (h *Handler) Serve(x *exchange.Exchange) {
	location := []byte(h.to)
	if h.keepPath {
		// The raw path, not the decoded one: what the client escaped stays escaped.
		location = append(location, x.RawPathInfo()...)
		if len(h.to) == 0 {
			// The target is "/": the client must not be able to make a host of its path.
			for otherHost(location) {
				location = location[1:]
			}
			if len(location) == 0 {
				location = append(location, '/')
			}
			location[0] = '/'
		}
		if len(x.Query) > 0 {
			location = append(append(location, '?'), x.Query...)
		}
	}
	head := exchange.Head{Status: h.code, Fields: []exchange.Field{{Name: []byte("Location"), Value: location}}}
	if err := x.Answer.Head(head); err != nil {
		x.Answer.Abort(err)
	}
}
