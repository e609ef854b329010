package framing

import (
	"encoding/binary"

	"github.com/guado-server/guado/internal/exchange"
)

// token marks the characters of a token (RFC 9110, 5.6.2).
var token = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-0x20] = true, true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()

// IsToken reports whether c may stand in a field name or a method.
func IsToken(c byte) bool { return token[c] }

// ValidName reports whether b is a field name: a token.
func ValidName(b []byte) bool {
	for _, c := range b {
		if !token[c] {
			return false
		}
	}
	return len(b) > 0
}

// ValidValue reports whether b has no control character but HTAB. Eight bytes at a
// time: it runs over every byte of every head in both directions.
func ValidValue(b []byte) bool {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	for len(b) >= 8 {
		x := binary.LittleEndian.Uint64(b)
		d := x ^ 0x7f*ones
		// The classic "has a byte less than n": exact in whether, not in which.
		if ((x-0x20*ones)&^x|(d-ones)&^d)&highs != 0 && !validSlow(b[:8]) {
			return false
		}
		b = b[8:]
	}
	return validSlow(b)
}

func validSlow(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// PerConnection reports whether a field speaks of one connection and so never
// travels past it: the lane removes it from requests and never copies it from a
// step's answer.
func PerConnection(name []byte) bool {
	switch len(name) {
	case 2:
		return exchange.EqualFold(name, "te")
	case 7:
		return exchange.EqualFold(name, "upgrade")
	case 10:
		return exchange.EqualFold(name, "connection") || exchange.EqualFold(name, "keep-alive")
	case 16:
		return exchange.EqualFold(name, "proxy-connection")
	case 17:
		return exchange.EqualFold(name, "transfer-encoding")
	}
	return false
}

// Framed reports whether the lane writes a field of an answer itself, so that one
// from a step is left out.
func Framed(name []byte) bool {
	return len(name) == 14 && exchange.EqualFold(name, "content-length") || PerConnection(name) || ForHost(name)
}

// ForHost reports whether a field of an answer is an order to the host, which names files
// of this machine (see sendfile): clients never see one, whether it was obeyed or not.
func ForHost(name []byte) bool {
	switch len(name) {
	case 10:
		return exchange.EqualFold(name, "x-sendfile")
	case 16:
		return exchange.EqualFold(name, "x-accel-redirect")
	}
	return false
}

// forbiddenTrailers are fields that steer framing, routing, authentication,
// request modifiers, caches or the content's form (RFC 9110, 6.5.1): too late in a
// trailer, and dangerous to a recipient that merges it into the head.
var forbiddenTrailers = []string{
	"age", "authorization", "cache-control", "connection", "content-encoding", "content-length",
	"content-range", "content-type", "cookie", "date", "expect", "expires", "forwarded", "host",
	"if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "keep-alive",
	"location", "max-forwards", "pragma", "proxy", "proxy-authenticate", "proxy-authorization",
	"proxy-connection", "range", "retry-after", "set-cookie", "te", "trailer", "transfer-encoding",
	"upgrade", "vary", "via", "warning", "www-authenticate", "x-real-ip", "x-request-id",
}

// TrailerAllowed reports whether a field may stand in a trailer section. Names by
// which the host speaks to applications (Guado-*, X-Forwarded-*) may not.
func TrailerAllowed(name []byte) bool {
	if ForHost(name) || HasPrefixFold(name, "guado-") || HasPrefixFold(name, "x-forwarded-") {
		return false
	}
	for _, f := range forbiddenTrailers {
		if exchange.EqualFold(name, f) {
			return false
		}
	}
	return true
}

// HasPrefixFold reports whether b begins with prefix, ASCII case ignored.
func HasPrefixFold(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && exchange.EqualFold(b[:len(prefix)], prefix)
}
