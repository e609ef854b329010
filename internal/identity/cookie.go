package identity

import (
	"bytes"

	"github.com/guado-server/guado/internal/exchange"
)

// cookieNames are those of the cookie by scheme. Over https only the name with the prefix
// is read: a browser takes such a cookie from https alone (and, for __Host-, from this very
// host), so that nobody in the network or on a sibling domain can plant one.
type cookieNames struct{ plain, secure string }

func namesOf(c Cookie) cookieNames {
	if c.Domain != "" {
		return cookieNames{c.Name, "__Secure-" + c.Name}
	}
	return cookieNames{c.Name, "__Host-" + c.Name}
}

func (n cookieNames) of(x *exchange.Exchange) string {
	if x.Scheme == "https" {
		return n.secure
	}
	return n.plain
}

// setCookie is the field that gives a token to the browser.
func (s *Server) setCookie(x *exchange.Exchange, token []byte) exchange.Field {
	v := make([]byte, 0, 192)
	v = append(append(append(v, s.names.of(x)...), '='), token...)
	v = append(v, "; Path=/; HttpOnly; SameSite=Lax"...)
	if s.opts.Cookie.Domain != "" {
		v = append(append(v, "; Domain="...), s.opts.Cookie.Domain...)
	}
	if x.Scheme == "https" {
		v = append(v, "; Secure"...)
	}
	return exchange.Field{Name: []byte("Set-Cookie"), Value: v}
}

// cookies iterates over the values of the cookies with this name.
func cookies(x *exchange.Exchange, name string) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for i := range x.Fields {
			f := &x.Fields[i]
			if len(f.Name) != len("cookie") || !f.Is("cookie") {
				continue
			}
			for rest := f.Value; len(rest) > 0; {
				var pair []byte
				pair, rest, _ = bytes.Cut(rest, []byte{';'})
				pair = bytes.TrimLeft(pair, " \t")
				if len(pair) > len(name) && pair[len(name)] == '=' && string(pair[:len(name)]) == name &&
					!yield(bytes.TrimRight(pair[len(name)+1:], " \t")) {
					return
				}
			}
		}
	}
}

// mostTokens are looked at in a request: a hostile one could bring hundreds.
const mostTokens = 4

// find tells whose token the request brings, or whose session carried it.
func (s *Server) find(x *exchange.Exchange) (out found) {
	if x.Carried != "" {
		return s.registry.carried(x.Carried)
	}
	n := 0
	for value := range cookies(x, s.names.of(x)) {
		if n++; n > mostTokens {
			break
		}
		if f := s.registry.recall(value); f.id != "" {
			return f
		}
		t, ok := s.keys.verify(value)
		if !ok {
			continue
		}
		f := s.registry.find(t)
		if f.id != "" {
			if !f.old {
				s.registry.remember(f.id, f.version, value)
			}
			return f
		}
		out.stale = out.stale || f.stale
	}
	return out
}
