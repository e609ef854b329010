package edge

import (
	"crypto/rand"
	"encoding/base32"
	"strings"
	"sync/atomic"

	"github.com/guado-server/guado/internal/exchange"
)

// ids makes request ids: eight characters of this process, eight of a counter. They are
// names, not secrets; the order of requests can be read from them.
type ids struct {
	prefix [8]byte
	last   atomic.Uint64
}

// idDigits are 32 characters in ASCII order, so that ids sort.
const idDigits = "0123456789abcdefghjkmnpqrstvwxyz"

func newIDs() *ids {
	var random [5]byte
	rand.Read(random[:]) //nolint:errcheck // since Go 1.24 it does not fail
	s := &ids{}
	base32.NewEncoding(idDigits).WithPadding(base32.NoPadding).Encode(s.prefix[:], random[:])
	return s
}

func (s *ids) next() string {
	var id [16]byte
	copy(id[:], s.prefix[:])
	for n, i := s.last.Add(1), len(id)-1; i >= len(s.prefix); i-- {
		id[i] = idDigits[n&31]
		n >>= 5
	}
	return string(id[:])
}

// identify sets the request id and the trace context: those of a trusted proxy when
// they are well-formed, new ones otherwise.
func (p *preparer) identify(x *exchange.Exchange, s *seen) {
	if wellFormedID(s.requestID) {
		x.ID = string(s.requestID)
	} else {
		x.ID = p.ids.next()
	}
	if s.traces == 1 && validTrace(s.trace) {
		p.joinTrace(x, s.trace)
		return
	}
	if s.states > 0 {
		// A tracestate belongs to a traceparent that we did not take.
		left := x.Fields[:0]
		for _, f := range x.Fields {
			if !f.Is("tracestate") {
				left = append(left, f)
			}
		}
		x.Fields = left
	}
	p.beginTrace(x)
}

// wellFormedID bounds what a proxy may put into our logs and into application code.
func wellFormedID(id []byte) bool {
	if len(id) < 8 || len(id) > 128 {
		return false
	}
	for _, c := range id {
		if !hostByte[c] && !strings.ContainsRune("+/=:@", rune(c)) {
			return false
		}
	}
	return true
}

// traceLength is that of a traceparent of version 00.
const traceLength = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")

// validTrace checks the form of a traceparent (W3C Trace Context, level 1): a later
// version may have more at its end.
func validTrace(t []byte) bool {
	if len(t) < traceLength || t[2] != '-' || t[35] != '-' || t[52] != '-' {
		return false
	}
	version := string(t[:2])
	if version == "ff" || version == "00" && len(t) != traceLength || len(t) > traceLength && t[traceLength] != '-' {
		return false
	}
	return lowerHex(t[:2]) && lowerHex(t[3:35]) && lowerHex(t[36:52]) && lowerHex(t[53:55]) &&
		strings.Trim(string(t[3:35]), "0") != "" && strings.Trim(string(t[36:52]), "0") != ""
}

func lowerHex(b []byte) bool {
	for _, c := range b {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
