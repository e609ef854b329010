package edge

import (
	"bytes"
	"errors"

	"github.com/guado-server/guado/internal/exchange"
)

var (
	errTargetByte = errors.New("target has a space, a control character, a byte over 0x7e or a fragment")
	errTargetForm = errors.New("target is not a path")
	errEscape     = errors.New("path has a malformed percent escape")
	errNUL        = errors.New("path has %00")
	errDots       = errors.New("path has a \".\" or \"..\" segment")
)

// SplitTarget does for an exchange that the host makes itself what is done for requests:
// Target becomes RawPath, Query and Path, or is refused.
func SplitTarget(x *exchange.Exchange) *exchange.Problem { return splitTarget(x) }

// splitTarget fills RawPath, Query and Path. The path is decoded once, here, and route
// and application see the same bytes:
//
//   - "//a" and "%2F" survive in RawPath; Path has what they stand for, as PEP 3333
//     wants it. "%252F" becomes "%2F" and is not decoded again;
//   - a malformed escape or %00 is refused;
//   - "." and ".." segments are refused, raw or escaped, also between "\": clients
//     take them out themselves, and whoever sends them hopes that a later party
//     resolves them behind our choice of a mount.
func splitTarget(x *exchange.Exchange) *exchange.Problem {
	for _, c := range x.Target {
		if c <= ' ' || c >= 0x7f || c == '#' {
			return badRequest("bad_target", errTargetByte)
		}
	}
	if x.RawPath == nil {
		x.RawPath = x.Target
		if i := bytes.IndexByte(x.Target, '?'); i >= 0 {
			x.RawPath, x.Query = x.Target[:i], x.Target[i+1:]
		}
	}
	switch {
	case x.Method == "CONNECT":
		return &exchange.Problem{Status: 501, Code: "method_not_implemented", Err: errors.New("CONNECT: this is no forward proxy")}
	case len(x.RawPath) == 0 || x.RawPath[0] != '/':
		if x.Method != "OPTIONS" || string(x.RawPath) != "*" {
			return badRequest("bad_target", errTargetForm)
		}
	}
	path, err := decodePath(x)
	if err != nil {
		return badRequest("bad_path", err)
	}
	if hasDotSegment(path) {
		return badRequest("bad_path", errDots)
	}
	x.Path = path
	return nil
}

// decodePath gives RawPath itself when it has no escape.
func decodePath(x *exchange.Exchange) ([]byte, error) {
	raw := x.RawPath
	i := bytes.IndexByte(raw, '%')
	if i < 0 {
		return raw, nil
	}
	out, from := x.Scratch, len(x.Scratch)
	out = append(out, raw[:i]...)
	for ; i < len(raw); i++ {
		c := raw[i]
		if c == '%' {
			if i+2 >= len(raw) {
				return nil, errEscape
			}
			hi, lo := unhex[raw[i+1]], unhex[raw[i+2]]
			if hi|lo > 0xf {
				return nil, errEscape
			}
			if c = hi<<4 | lo; c == 0 {
				return nil, errNUL
			}
			i += 2
		}
		out = append(out, c)
	}
	x.Scratch = out
	return out[from:len(out):len(out)], nil
}

// unhex gives the value of a hexadecimal digit; 0xff for other bytes.
var unhex = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i, c := range "0123456789abcdef" {
		t[c] = byte(i)
	}
	for i, c := range "ABCDEF" {
		t[c] = byte(10 + i)
	}
	return t
}()

func hasDotSegment(path []byte) bool {
	for from := 0; ; {
		i := bytes.IndexByte(path[from:], '.')
		if i < 0 {
			return false
		}
		i += from
		end := i + 1
		if end < len(path) && path[end] == '.' {
			end++
		}
		if (i == 0 || isSeparator(path[i-1])) && (end == len(path) || isSeparator(path[end])) {
			return true
		}
		for end < len(path) && path[end] == '.' {
			end++
		}
		from = end
	}
}

func isSeparator(c byte) bool { return c == '/' || c == '\\' }
