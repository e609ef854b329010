package http1

import (
	"bytes"

	"github.com/guado-server/guado/internal/edge/framing"
	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
)

// maxMethod is the longest method taken for one; RFC 9112, section 3 asks for 501
// on longer ones.
const maxMethod = 32

// head is what a request head says about its connection and its framing, beside
// what it leaves in the exchange.
type head struct {
	persist bool // the client wants the connection kept
	chunked bool
	unmet   bool // an expectation other than 100-continue

	hosts, lengths, codings   int
	close, keepAlive, upgrade bool // of Connection
	webSocket                 bool // of Upgrade
}

// parse reads a complete request head, its empty line included, into x. What is
// not exactly RFC 9112 is refused. The slices of x point into b.
func (h *head) parse(b []byte, x *exchange.Exchange, limits *lane.Limits) *exchange.Problem {
	*h = head{}
	line, rest, p := cutLine(b)
	if p != nil {
		return p
	}
	authority, p := parseRequestLine(line, x, limits)
	if p != nil {
		return p
	}
	for {
		if line, rest, p = cutLine(rest); p != nil {
			return p
		}
		if len(line) == 0 {
			break
		}
		f, p := parseField(line)
		if p != nil {
			return p
		}
		if len(x.Fields) >= limits.Fields {
			return tooManyFields
		}
		if p = h.meet(f, x); p != nil {
			return p
		}
		x.Fields = append(x.Fields, f)
	}
	return h.conclude(x, authority)
}

// cutLine takes the first line off b, which holds at least one line feed. CR LF is
// the only line end: another reading of a bare one by someone before or behind us
// is how requests are smuggled.
func cutLine(b []byte) (line, rest []byte, p *exchange.Problem) {
	i := bytes.IndexByte(b, '\n')
	if i < 1 || b[i-1] != '\r' {
		return nil, nil, badLineEnd
	}
	return b[:i-1], b[i+1:], nil
}

// parseField reads one field line of a head or a trailer section.
func parseField(line []byte) (exchange.Field, *exchange.Problem) {
	i := 0
	for i < len(line) && framing.IsToken(line[i]) {
		i++
	}
	switch {
	case i == len(line):
		return exchange.Field{}, badField
	case line[i] != ':' || i == 0:
		if i == 0 && (line[0] == ' ' || line[0] == '\t') {
			return exchange.Field{}, obsFold
		}
		return exchange.Field{}, badField
	}
	value := trim(line[i+1:])
	if !framing.ValidValue(value) {
		return exchange.Field{}, badField
	}
	return exchange.Field{Name: line[:i:i], Value: value}, nil
}

// trim removes optional white space: SP and HTAB only.
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b[:len(b):len(b)]
}

// meet notes what a field says about framing and connection. It stays in the
// exchange: the edge takes out what ends here, of both lanes alike.
func (h *head) meet(f exchange.Field, x *exchange.Exchange) *exchange.Problem {
	// The length tells most fields apart from all that matter here.
	switch len(f.Name) {
	case 2:
		if f.Is("te") {
			x.TrailersOK = x.TrailersOK || hasToken(f.Value, "trailers")
		}
	case 4:
		if f.Is("host") {
			if h.hosts++; h.hosts > 1 {
				return manyHosts
			}
		}
	case 6:
		if f.Is("expect") {
			if exchange.EqualFold(f.Value, "100-continue") {
				x.Expect = true
			} else {
				h.unmet = true
			}
		}
	case 7:
		if f.Is("upgrade") {
			// Any other protocol is ignored, as RFC 9110, 7.8 allows: behind "h2c" or a
			// token that only an upstream knows, requests would run past cleaning,
			// routing and the log.
			h.webSocket = h.webSocket || hasToken(f.Value, "websocket")
		}
	case 10:
		if f.Is("connection") {
			h.meetConnection(f.Value)
		}
	case 14:
		if f.Is("content-length") {
			return h.meetLength(f.Value, x)
		}
	case 17:
		if f.Is("transfer-encoding") {
			return h.meetCoding(f.Value)
		}
	}
	return nil
}

func (h *head) meetLength(value []byte, x *exchange.Exchange) *exchange.Problem {
	if h.lengths++; h.lengths > 1 {
		return manyLengths // also of one value: two readers may take two of them
	}
	n, ok := parseLength(value)
	if !ok {
		return badLength
	}
	x.Length = n
	return nil
}

func (h *head) meetCoding(value []byte) *exchange.Problem {
	if h.codings++; h.codings > 1 {
		return badCoding
	}
	if !exchange.EqualFold(value, "chunked") {
		return unknownCoding
	}
	h.chunked = true
	return nil
}

// parseLength reads 1*DIGIT: no sign, no list, no other base. 18 digits cannot
// overflow and are beyond any body.
func parseLength(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

func (h *head) meetConnection(value []byte) {
	for len(value) > 0 {
		var option []byte
		option, value = cutToken(value)
		switch {
		case exchange.EqualFold(option, "close"):
			h.close = true
		case exchange.EqualFold(option, "keep-alive"):
			h.keepAlive = true
		case exchange.EqualFold(option, "upgrade"):
			h.upgrade = true
		}
	}
}

// cutToken takes the first element off a comma-separated list.
func cutToken(list []byte) (element, rest []byte) {
	if i := bytes.IndexByte(list, ','); i >= 0 {
		return trim(list[:i]), list[i+1:]
	}
	return trim(list), nil
}

// hasToken reports whether a comma-separated list has an element; parameters
// behind a semicolon do not matter.
func hasToken(list []byte, token string) bool {
	for len(list) > 0 {
		var element []byte
		element, list = cutToken(list)
		if i := bytes.IndexByte(element, ';'); i >= 0 {
			element = trim(element[:i])
		}
		if exchange.EqualFold(element, token) {
			return true
		}
	}
	return false
}

// conclude checks what only the whole head can tell.
func (h *head) conclude(x *exchange.Exchange, authority []byte) *exchange.Problem {
	old := x.Version == exchange.HTTP10
	switch {
	case h.hosts == 0 && !old:
		return noHost
	case h.chunked && h.lengths > 0:
		return lengthAndCoding
	case h.chunked && old:
		return badCoding
	}
	if h.chunked {
		x.Length = -1
	}
	if old {
		// HTTP/1.0 knows none of these; a client that sends them has them forwarded
		// by something that does not (RFC 9110, 7.8 and 10.1.1).
		x.Expect, h.unmet, h.upgrade, x.TrailersOK = false, false, false, false
	}
	x.Expect = x.Expect && x.Length != 0
	h.persist = !h.close && (!old || h.keepAlive)
	if h.upgrade && h.webSocket {
		x.Upgrade = "websocket"
	}
	if authority != nil {
		setHost(x, authority)
	}
	return nil
}
