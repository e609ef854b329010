package compress

import (
	"bytes"

	"github.com/guado-server/guado/internal/exchange"
)

// choose gives the offered coding that the client likes best, the first of equals; nil
// when it takes none (RFC 9110, 12.5.3).
func choose(x *exchange.Exchange, offered []*coding) *coding {
	var best *coding
	bestWeight := 0
	for _, k := range offered {
		if w := weightOf(x, k.name); w > bestWeight {
			best, bestWeight = k, w
		}
	}
	if bestWeight > 0 && weightOf(x, "identity") > bestWeight && names(x, "identity") {
		return nil
	}
	return best
}

// weightOf is the coding's q value in thousandths; 0 when it is not acceptable.
func weightOf(x *exchange.Exchange, name string) int {
	any := 0
	for _, f := range x.Fields {
		if !f.Is("accept-encoding") {
			continue
		}
		for rest := f.Value; len(rest) > 0; {
			var element []byte
			element, rest = cut(rest, ',')
			token, params := cut(element, ';')
			token = bytes.TrimSpace(token)
			if exchange.EqualFold(token, name) || name == "gzip" && exchange.EqualFold(token, "x-gzip") {
				return weight(params)
			}
			if string(token) == "*" {
				any = weight(params)
			}
		}
	}
	return any
}

func names(x *exchange.Exchange, name string) bool {
	for _, f := range x.Fields {
		if !f.Is("accept-encoding") {
			continue
		}
		for rest := f.Value; len(rest) > 0; {
			var element []byte
			element, rest = cut(rest, ',')
			if token, _ := cut(element, ';'); exchange.EqualFold(bytes.TrimSpace(token), name) {
				return true
			}
		}
	}
	return false
}

func cut(b []byte, at byte) (before, after []byte) {
	if i := bytes.IndexByte(b, at); i >= 0 {
		return b[:i], b[i+1:]
	}
	return b, nil
}

// weight reads "q=0.8" as 800; malformed weights count as 0, which is always safe.
func weight(params []byte) int {
	params = bytes.TrimSpace(params)
	if len(params) == 0 {
		return 1000
	}
	if len(params) < 3 || params[0]|0x20 != 'q' || params[1] != '=' {
		return 0
	}
	q := params[2:]
	w := int(q[0]-'0') * 1000
	if q[0] != '0' && q[0] != '1' || len(q) > 5 || len(q) > 1 && q[1] != '.' {
		return 0
	}
	for i, unit := 2, 100; i < len(q); i, unit = i+1, unit/10 {
		if q[i] < '0' || q[i] > '9' {
			return 0
		}
		w += int(q[i]-'0') * unit
	}
	return min(w, 1000)
}
