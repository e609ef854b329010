package edge

import (
	"bytes"
	"net/netip"
	"strconv"

	"github.com/guado-server/guado/internal/exchange"
)

// ForwardedPolicy says which fields of a trusted proxy tell of its client. A proxy that
// sets one family usually passes the other on as its client sent it, so only one is
// ever read.
type ForwardedPolicy uint8

const (
	// ForwardedAuto reads X-Forwarded-* when there are any, else Forwarded, else X-Real-IP.
	ForwardedAuto ForwardedPolicy = iota
	// ForwardedX reads X-Forwarded-* and X-Real-IP only.
	ForwardedX
	// ForwardedRFC reads Forwarded (RFC 7239) only.
	ForwardedRFC
	// ForwardedOff reads none, and drops them like those of a client.
	ForwardedOff
)

// applyForwarded believes what a trusted proxy says of its client. Lists are read from
// the right: each proxy appends, so the rightmost address that is not one of our
// proxies is the last that somebody trustworthy has seen; what is left of it the client
// may have made up. Scheme, host and port are taken from that same proxy's entry.
func (p *preparer) applyForwarded(x *exchange.Exchange, s *seen) {
	switch {
	case s.xForwarded && p.forwarded != ForwardedRFC:
		p.applyX(x)
	case s.forwarded && p.forwarded != ForwardedX:
		p.applyRFC(x)
	case s.realIP != nil && p.forwarded != ForwardedRFC:
		if a, ok := parseNode(s.realIP); ok {
			x.Client = a
		}
	}
}

func (p *preparer) applyX(x *exchange.Exchange) {
	hops := p.walk(x, listFromRight(x.Fields, "x-forwarded-for"))
	if proto, ok := nthFromRight(x.Fields, "x-forwarded-proto", hops); ok {
		setScheme(x, proto)
	}
	host, hostOK := nthFromRight(x.Fields, "x-forwarded-host", hops)
	if hostOK {
		setHost(x, host)
	}
	if port, ok := nthFromRight(x.Fields, "x-forwarded-port", hops); ok {
		setPort(x, port)
	}
}

// walk sets x.Client from a list of nodes, rightmost first, and tells how many of
// our proxies it passed.
func (p *preparer) walk(x *exchange.Exchange, nodes func(func([]byte) bool)) (hops int) {
	first := true
	for node := range nodes {
		a, ok := parseNode(node)
		if !ok {
			break // "unknown", "_hidden", garbage: the proxy that wrote it is the last we know
		}
		if !first {
			hops++
		}
		first = false
		x.Client = a
		if !p.isProxy(a.Addr()) {
			break
		}
	}
	return hops
}

// parseNode reads an address as proxies write it: 192.0.2.1, 192.0.2.1:80, 2001:db8::1,
// [2001:db8::1], [2001:db8::1]:80. The port is 0 when there is none.
func parseNode(b []byte) (netip.AddrPort, bool) {
	s := string(b)
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a.Unmap().WithZone(""), 0), true
	}
	if a, err := netip.ParseAddrPort(s); err == nil {
		return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port()), true
	}
	if len(s) > 2 && s[0] == '[' && s[len(s)-1] == ']' {
		if a, err := netip.ParseAddr(s[1 : len(s)-1]); err == nil && a.Is6() {
			return netip.AddrPortFrom(a.Unmap().WithZone(""), 0), true
		}
	}
	return netip.AddrPort{}, false
}

func setScheme(x *exchange.Exchange, proto []byte) {
	switch {
	case exchange.EqualFold(proto, "https"), exchange.EqualFold(proto, "wss"):
		x.Scheme = "https"
	case exchange.EqualFold(proto, "http"), exchange.EqualFold(proto, "ws"):
		x.Scheme = "http"
	}
}

func setHost(x *exchange.Exchange, host []byte) {
	if len(host) > 0 && validHost(host) {
		x.Host = host
	}
}

// setPort adds the port that the client used when the host does not say it and it is
// not the scheme's own.
func setPort(x *exchange.Exchange, port []byte) {
	n, err := strconv.ParseUint(string(port), 10, 16)
	if err != nil || n == 0 || len(x.Host) == 0 {
		return
	}
	if bytes.LastIndexByte(x.Host, ':') > bytes.LastIndexByte(x.Host, ']') {
		return // it has one
	}
	if x.Scheme == "https" && n == 443 || x.Scheme == "http" && n == 80 {
		return
	}
	from := len(x.Scratch)
	x.Scratch = strconv.AppendUint(append(append(x.Scratch, x.Host...), ':'), n, 10)
	x.Host = x.Scratch[from:len(x.Scratch):len(x.Scratch)]
}

// listFromRight iterates over the elements of all fields of this name, as one list,
// from its end.
func listFromRight(fields []exchange.Field, name string) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for i := len(fields) - 1; i >= 0; i-- {
			if !fields[i].Is(name) {
				continue
			}
			rest := fields[i].Value
			for {
				comma := bytes.LastIndexByte(rest, ',')
				if !yield(trimSpace(rest[comma+1:])) {
					return
				}
				if comma < 0 {
					break
				}
				rest = rest[:comma]
			}
		}
	}
}

// nthFromRight gives an element of a list; of a shorter list its leftmost, since many
// proxies overwrite these fields instead of appending.
func nthFromRight(fields []exchange.Field, name string, n int) (last []byte, ok bool) {
	for element := range listFromRight(fields, name) {
		last, ok = element, true
		if n--; n < 0 {
			break
		}
	}
	return last, ok
}
