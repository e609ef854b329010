package http1

import (
	"bytes"
	"net/netip"

	"github.com/guado-server/guado/internal/edge/framing"
	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
)

// parseRequestLine reads method, target and version into x. authority is that of a
// target in absolute form and takes the place of Host.
func parseRequestLine(line []byte, x *exchange.Exchange, limits *lane.Limits) (authority []byte, p *exchange.Problem) {
	i := 0
	for i < len(line) && framing.IsToken(line[i]) {
		i++
	}
	if i == 0 || i == len(line) || line[i] != ' ' {
		return nil, badRequestLine
	}
	method, rest := line[:i], line[i+1:]
	i = bytes.IndexByte(rest, ' ')
	if i <= 0 {
		return nil, badRequestLine
	}
	target, version := rest[:i:i], rest[i+1:]
	if x.Version, p = parseVersion(version); p != nil {
		return nil, p
	}
	if len(target) > limits.TargetBytes {
		return nil, targetTooLong
	}
	if len(method) > maxMethod {
		return nil, unknownMethod
	}
	x.Method = methodName(method)
	return parseTarget(target, x)
}

func parseVersion(b []byte) (exchange.Version, *exchange.Problem) {
	switch string(b) {
	case "HTTP/1.1":
		return exchange.HTTP11, nil
	case "HTTP/1.0":
		return exchange.HTTP10, nil
	}
	if len(b) == 8 && string(b[:5]) == "HTTP/" && digit(b[5]) && b[6] == '.' && digit(b[7]) {
		return 0, unknownVersion
	}
	return 0, badRequestLine
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// methodName makes a string without allocating for the methods in use.
func methodName(b []byte) string {
	switch string(b) {
	case "GET":
		return "GET"
	case "POST":
		return "POST"
	case "HEAD":
		return "HEAD"
	case "PUT":
		return "PUT"
	case "PATCH":
		return "PATCH"
	case "DELETE":
		return "DELETE"
	case "OPTIONS":
		return "OPTIONS"
	}
	return string(b)
}

// parseTarget tells the four forms of RFC 9112, section 3.2 apart.
func parseTarget(target []byte, x *exchange.Exchange) (authority []byte, p *exchange.Problem) {
	for _, c := range target {
		// Clients do send "|", "{" and the like unescaped; what is refused is what
		// could end or split the target: white space, controls, "#", bytes over 0x7e.
		if c <= ' ' || c >= 0x7f || c == '#' {
			return nil, badTarget
		}
	}
	x.Target = target
	path := target
	switch {
	case x.Method == "CONNECT":
		return nil, unknownMethod
	case target[0] == '/':
	case len(target) == 1 && target[0] == '*':
		if x.Method != "OPTIONS" {
			return nil, badTarget
		}
	default:
		if authority, path, p = splitAbsolute(target); p != nil {
			return nil, p
		}
	}
	x.RawPath = path
	if i := bytes.IndexByte(path, '?'); i >= 0 {
		x.RawPath, x.Query = path[:i:i], path[i+1:]
	}
	if len(x.RawPath) == 0 {
		x.RawPath = slash
	}
	if !validEscapes(x.RawPath) {
		return nil, badTarget
	}
	return authority, nil
}

var slash = []byte("/")

// splitAbsolute cuts "http://authority/path" in two. User information has no place
// in a request (RFC 9110, 4.2.4) and misleads who reads the host from the left.
func splitAbsolute(target []byte) (authority, path []byte, p *exchange.Problem) {
	switch {
	case framing.HasPrefixFold(target, "http://"):
		path = target[len("http://"):]
	case framing.HasPrefixFold(target, "https://"):
		path = target[len("https://"):]
	default:
		return nil, nil, badTarget
	}
	i := bytes.IndexAny(path, "/?")
	if i < 0 {
		i = len(path)
	}
	authority, path = path[:i:i], path[i:]
	if !validAuthority(authority) {
		return nil, nil, badTarget
	}
	return authority, path, nil
}

// validAuthority reports whether b is host or host:port: a registered name or IPv4
// address of unreserved characters, or an IPv6 address in brackets.
func validAuthority(b []byte) bool {
	host, port := b, []byte(nil)
	if len(b) > 0 && b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		if end < 0 {
			return false
		}
		addr, err := netip.ParseAddr(string(b[1:end]))
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return false
		}
		host, port = nil, b[end+1:]
	} else {
		if i := bytes.IndexByte(b, ':'); i >= 0 {
			host, port = b[:i], b[i:]
		}
		if len(host) == 0 {
			return false
		}
	}
	for _, c := range host {
		if !digit(c) && (c|0x20 < 'a' || c|0x20 > 'z') && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	if len(port) > 0 && (port[0] != ':' || len(port) > 6) {
		return false
	}
	for i := 1; i < len(port); i++ {
		if !digit(port[i]) {
			return false
		}
	}
	return true
}

// validEscapes reports whether each "%" begins an escape. Only the path is held to
// it: a lone "%" in a query is common and harmless, as nobody decodes it on the road.
func validEscapes(path []byte) bool {
	for i := bytes.IndexByte(path, '%'); i >= 0; {
		if i+2 >= len(path) || unhex(path[i+1]) > 15 || unhex(path[i+2]) > 15 {
			return false
		}
		next := bytes.IndexByte(path[i+3:], '%')
		if next < 0 {
			return true
		}
		i += 3 + next
	}
	return true
}

// unhex gives the value of a hexadecimal digit, over 15 for anything else.
func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}

// setHost puts the authority of the target in the place of Host, as RFC 9112,
// section 3.2.2 asks.
func setHost(x *exchange.Exchange, authority []byte) {
	x.Host = authority
	for i := range x.Fields {
		if x.Fields[i].Is("host") {
			x.Fields[i].Value = authority
			return
		}
	}
	x.Fields = append(x.Fields, exchange.Field{})
	copy(x.Fields[1:], x.Fields)
	x.Fields[0] = exchange.Field{Name: hostName, Value: authority}
}

var hostName = []byte("Host")
