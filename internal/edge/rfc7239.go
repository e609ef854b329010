package edge

import (
	"bytes"

	"github.com/guado-server/guado/internal/exchange"
)

// hop is one element of Forwarded: what one proxy says of who connected to it.
type hop struct{ node, proto, host []byte }

// applyRFC reads Forwarded from the right, as applyForwarded says. A field that is
// malformed is not read at all.
func (p *preparer) applyRFC(x *exchange.Exchange) {
	var hops []hop
	for i := range x.Fields {
		if !x.Fields[i].Is("forwarded") {
			continue
		}
		var ok bool
		if hops, ok = appendHops(hops, x.Fields[i].Value); !ok {
			return
		}
	}
	for i := len(hops) - 1; i >= 0; i-- {
		h := hops[i]
		a, ok := parseNode(h.node)
		if ok {
			x.Client = a
		}
		if len(h.proto) > 0 {
			setScheme(x, h.proto)
		}
		setHost(x, h.host)
		if !ok || !p.isProxy(a.Addr()) {
			return
		}
	}
}

// appendHops parses one Forwarded value: elements parted by commas, pairs by
// semicolons, values tokens or quoted strings.
func appendHops(hops []hop, v []byte) ([]hop, bool) {
	var h hop
	for {
		v = trimSpace(v)
		eq := bytes.IndexByte(v, '=')
		if eq < 0 {
			return nil, false
		}
		name := v[:eq]
		value, rest, ok := pairValue(v[eq+1:])
		if !ok {
			return nil, false
		}
		switch {
		case exchange.EqualFold(name, "for"):
			h.node = value
		case exchange.EqualFold(name, "proto"):
			h.proto = value
		case exchange.EqualFold(name, "host"):
			h.host = value
		}
		rest = trimSpace(rest)
		if len(rest) == 0 {
			return append(hops, h), true
		}
		if rest[0] == ',' {
			hops, h = append(hops, h), hop{}
		} else if rest[0] != ';' {
			return nil, false
		}
		v = rest[1:]
	}
}

// pairValue takes a token or quoted string from the front of b. Quoted values with a
// backslash occur in nothing that these parameters may hold.
func pairValue(b []byte) (value, rest []byte, ok bool) {
	if len(b) > 0 && b[0] == '"' {
		end := bytes.IndexByte(b[1:], '"')
		if end < 0 || bytes.IndexByte(b[1:1+end], '\\') >= 0 {
			return nil, nil, false
		}
		return b[1 : 1+end], b[end+2:], true
	}
	end := bytes.IndexAny(b, ",; \t\"")
	if end < 0 {
		end = len(b)
	}
	return b[:end], b[end:], end > 0
}
