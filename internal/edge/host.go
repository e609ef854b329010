package edge

import (
	"errors"
	"fmt"
	"strings"

	"github.com/guado-server/guado/internal/exchange"
)

// takeHost settles whom the request is for: exactly one answer, or 400.
func takeHost(x *exchange.Exchange, s *seen) *exchange.Problem {
	switch {
	case s.hosts > 1:
		return badRequest("host_duplicate", errors.New("several Host fields"))
	case s.hosts == 0 && len(x.Host) == 0:
		if x.Version == exchange.HTTP11 || x.Version == exchange.HTTP2 {
			return badRequest("host_missing", errors.New("request without Host"))
		}
		return nil
	case len(x.Host) == 0:
		x.Host = s.host
	case s.hosts == 1 && !sameHost(x.Host, s.host):
		return badRequest("host_conflict", fmt.Errorf("authority %q and Host %q differ", x.Host, s.host))
	}
	if !validHost(x.Host) {
		return badRequest("bad_host", fmt.Errorf("host %q is none", x.Host))
	}
	return nil
}

func sameHost(a, b []byte) bool { return exchange.EqualFold(a, string(b)) }

// hostByte marks what a name or an IPv4 address consists of. Underscores are no DNS,
// but names of containers have them.
var hostByte = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-0x20] = true, true
	}
	t['-'], t['.'], t['_'] = true, true, true
	return t
}()

// validHost accepts NAME, IPv4 and [IPv6], each with or without a port, and nothing
// that some later party could split in another way: no userinfo, list, path or escape.
func validHost(h []byte) bool {
	i := 0
	if len(h) > 0 && h[0] == '[' {
		for i = 1; i < len(h) && h[i] != ']'; i++ {
			if c := h[i] | 0x20; (c < 'a' || c > 'f') && (h[i] < '0' || h[i] > ':') && h[i] != '.' {
				return false
			}
		}
		if i < 3 || i == len(h) {
			return false
		}
		i++
	} else {
		for i < len(h) && hostByte[h[i]] {
			i++
		}
	}
	if i == len(h) {
		return true
	}
	return h[i] == ':' && i > 0 && validPort(h[i+1:])
}

func validPort(p []byte) bool {
	if len(p) > 5 {
		return false
	}
	for _, c := range p {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// hostName is a host without its port, and without the dot of the root.
func hostName(h []byte) []byte {
	if len(h) > 0 && h[0] == '[' {
		for i, c := range h {
			if c == ']' {
				return h[:i+1]
			}
		}
	}
	for i, c := range h {
		if c == ':' {
			h = h[:i]
			break
		}
	}
	if len(h) > 1 && h[len(h)-1] == '.' {
		h = h[:len(h)-1]
	}
	return h
}

// hostList is the names that are answered.
type hostList struct {
	exact    []string
	suffixes []string // ".example.org"
}

func newHostList(names []string) (hostList, error) {
	var l hostList
	for _, name := range names {
		suffix, wild := strings.CutPrefix(name, "*")
		switch {
		case wild && strings.HasPrefix(suffix, ".") && validHost([]byte(suffix[1:])) && len(suffix) > 1:
			l.suffixes = append(l.suffixes, suffix)
		case !wild && name != "" && validHost([]byte(name)) && string(hostName([]byte(name))) == name:
			l.exact = append(l.exact, name)
		default:
			return l, fmt.Errorf("edge: allow_hosts: %q is neither a host name without port nor *.NAME", name)
		}
	}
	return l, nil
}

func (l *hostList) allows(host []byte) bool {
	if len(l.exact) == 0 && len(l.suffixes) == 0 {
		return true
	}
	name := hostName(host)
	for _, e := range l.exact {
		if exchange.EqualFold(name, e) {
			return true
		}
	}
	for _, s := range l.suffixes {
		if n := len(name) - len(s); n > 0 && exchange.EqualFold(name[n:], s) {
			return true
		}
	}
	return false
}
