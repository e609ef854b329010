package edge

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/guado-server/guado/internal/edge/framing"
	"github.com/guado-server/guado/internal/exchange"
)

// seen is what cleanFields noticed on its way, for the steps of prepare after it. The
// slices are values of the request's own fields.
type seen struct {
	deaf       bool // forwarded fields are a client's, whoever sent them
	hosts      int
	host       []byte
	types      int
	requestID  []byte
	trace      []byte
	traces     int
	forwarded  bool // a Forwarded field was kept
	xForwarded bool // an X-Forwarded-For, -Proto, -Host or -Port field was kept
	realIP     []byte
	page       []byte   // Guado-Page
	ack        []byte   // Guado-Ack
	states     int      // tracestate fields kept
	strange    []byte   // X-Forwarded-Proto of somebody who is no trusted proxy
	named      [][]byte // Connection fields that name others
}

// verdict of one field.
type verdict uint8

const (
	keep verdict = iota
	drop
)

// cleanFields takes out, in place, what no application may see:
//
//   - names with "_" or ".": WSGI and CGI make "_" of "-", and some of ".", so X_Foo
//     would pass for X-Foo, which a proxy may have set or removed;
//   - Proxy, which CGI turns into HTTP_PROXY, read by HTTP clients; Guado-*;
//   - what speaks of one connection, and what Connection names as such;
//   - from peers that are not trusted proxies: X-Forwarded-*, Forwarded, X-Real-IP.
//     Frameworks believe them, so a client must not send them past us. X-Request-ID,
//     traceparent and tracestate likewise;
//   - what has a place of its own in the request: Host, Expect.
func (p *preparer) cleanFields(x *exchange.Exchange, trusted bool, s *seen) *exchange.Problem {
	all, n := x.Fields, 0
	for i := range all {
		f := &all[i]
		if len(f.Name) == 0 || !framing.ValidValue(f.Value) {
			return badRequest("bad_field", fmt.Errorf("field %q has no name or a control character", f.Name))
		}
		if aliases(f.Name) {
			if !p.allows(f.Name) {
				continue
			}
		} else if special[f.Name[0]] && classify(*f, trusted, s) == drop {
			continue
		}
		if i != n {
			all[n] = *f
		}
		n++
	}
	x.Fields = all[:n]
	if s.named != nil {
		x.Fields = dropNamed(x.Fields, s.named)
	}
	if s.types > 1 {
		return badRequest("bad_field", errors.New("several Content-Type fields"))
	}
	return nil
}

// aliases reports whether a name has "_" or ".", eight bytes at a time.
func aliases(name []byte) bool {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	for len(name) >= 8 {
		x := binary.LittleEndian.Uint64(name)
		a, b := x^'_'*ones, x^'.'*ones
		// "Has a zero byte": names are ASCII, so it is exact.
		if ((a-ones)&^a|(b-ones)&^b)&highs != 0 {
			return true
		}
		name = name[8:]
	}
	for _, c := range name {
		if c == '_' || c == '.' {
			return true
		}
	}
	return false
}

func badRequest(code string, err error) *exchange.Problem {
	return &exchange.Problem{Status: 400, Code: code, Err: err}
}

func (p *preparer) allows(name []byte) bool {
	for _, a := range p.allowed {
		if exchange.EqualFold(name, a) {
			return true
		}
	}
	return false
}

// special marks the first letters of the names that classify knows.
var special = func() (t [256]bool) {
	for _, c := range "CEFGHKPTUX" {
		t[c], t[c|0x20] = true, true
	}
	return t
}()

func classify(f exchange.Field, trusted bool, s *seen) verdict {
	switch f.Name[0] | 0x20 {
	case 'c':
		switch {
		case f.Is("connection"):
			if namesFields(f.Value) {
				s.named = append(s.named, f.Value)
			}
			return drop
		case f.Is("content-type"):
			s.types++
		}
	case 'e':
		return dropIf(f.Is("expect"))
	case 'f':
		if f.Is("forwarded") {
			believed := trusted && !s.deaf
			s.forwarded = s.forwarded || believed
			return dropIf(!believed)
		}
	case 'g':
		switch {
		case f.Is("guado-page"):
			s.page = f.Value
		case f.Is("guado-ack"):
			s.ack = f.Value
		}
		return dropIf(hasPrefixFold(f.Name, "guado-"))
	case 'h':
		if f.Is("host") {
			s.hosts++
			s.host = f.Value
			return drop
		}
		return dropIf(f.Is("http2-settings"))
	case 'k':
		return dropIf(f.Is("keep-alive"))
	case 'p':
		return dropIf(f.Is("proxy") || hasPrefixFold(f.Name, "proxy-"))
	case 't':
		return classifyTrace(f, trusted, s)
	case 'u':
		return dropIf(f.Is("upgrade"))
	case 'x':
		return classifyX(f, trusted, s)
	}
	return keep
}

func dropIf(yes bool) verdict {
	if yes {
		return drop
	}
	return keep
}

func classifyTrace(f exchange.Field, trusted bool, s *seen) verdict {
	switch {
	case f.Is("te"), f.Is("transfer-encoding"):
		return drop
	case f.Is("traceparent"):
		s.traces++
		if trusted {
			s.trace = f.Value
		}
		return drop
	case f.Is("tracestate"):
		if trusted {
			s.states++
		}
		return dropIf(!trusted)
	}
	return keep
}

func classifyX(f exchange.Field, trusted bool, s *seen) verdict {
	believed := trusted && !s.deaf
	switch {
	case hasPrefixFold(f.Name, "x-forwarded-"):
		switch rest := (exchange.Field{Name: f.Name[len("x-forwarded-"):]}); {
		case rest.Is("for"), rest.Is("proto"), rest.Is("host"), rest.Is("port"):
			s.xForwarded = s.xForwarded || believed
		}
		if !trusted && hasSuffixFold(f.Name, "-proto") {
			s.strange = f.Value
		}
		return dropIf(!believed)
	case f.Is("x-real-ip"):
		if believed {
			s.realIP = f.Value
		}
		return dropIf(!believed)
	case f.Is("x-request-id"):
		if trusted {
			s.requestID = f.Value
		}
		return drop
	}
	return keep
}

// reservedName says that a name is one which is always dropped.
func reservedName(name []byte) bool {
	var s seen
	return special[name[0]] && classify(exchange.Field{Name: name}, false, &s) == drop
}

func hasPrefixFold(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && exchange.EqualFold(b[:len(prefix)], prefix)
}

func hasSuffixFold(b []byte, suffix string) bool {
	return len(b) >= len(suffix) && exchange.EqualFold(b[len(b)-len(suffix):], suffix)
}

// namesFields reports whether a Connection field names more than the connection's own
// options.
func namesFields(value []byte) bool {
	for token := range tokens(value) {
		if !isConnectionOption(token) {
			return true
		}
	}
	return false
}

func isConnectionOption(token []byte) bool {
	switch len(token) {
	case 0:
		return true
	case 2:
		return exchange.EqualFold(token, "te")
	case 5:
		return exchange.EqualFold(token, "close")
	case 7:
		return exchange.EqualFold(token, "upgrade")
	case 10:
		return exchange.EqualFold(token, "keep-alive")
	case 14:
		return exchange.EqualFold(token, "http2-settings")
	}
	return false
}

// dropNamed takes out the fields that Connection names. What a proxy in front sets, and
// what frames or authenticates the request, stays: naming them is how a client would
// strip them (hop-by-hop abuse).
func dropNamed(kept []exchange.Field, lists [][]byte) []exchange.Field {
	left := kept[:0]
	for _, f := range kept {
		if isEndToEnd(f.Name) || !isNamed(f.Name, lists) {
			left = append(left, f)
		}
	}
	return left
}

func isNamed(name []byte, lists [][]byte) bool {
	for _, list := range lists {
		for token := range tokens(list) {
			if exchange.EqualFold(name, string(token)) {
				return true
			}
		}
	}
	return false
}

func isEndToEnd(name []byte) bool {
	for _, known := range []string{
		"authorization", "cache-control", "content-length", "content-type", "content-encoding", "cookie",
		"date", "forwarded", "origin", "range", "referer", "tracestate", "x-real-ip",
	} {
		if exchange.EqualFold(name, known) {
			return true
		}
	}
	return hasPrefixFold(name, "x-forwarded-") || hasPrefixFold(name, "sec-")
}

// tokens iterates over a comma-separated list.
func tokens(value []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(value) > 0 {
			var token []byte
			if i := bytes.IndexByte(value, ','); i >= 0 {
				token, value = value[:i], value[i+1:]
			} else {
				token, value = value, nil
			}
			if !yield(trimSpace(token)) {
				return
			}
		}
	}
}

// trimSpace takes off optional whitespace as HTTP defines it.
func trimSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}
