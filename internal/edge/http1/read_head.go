package http1

import (
	"bytes"
	"errors"
	"io"

	"github.com/guado-server/guado/internal/edge/framing"
	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
)

var endOfHead = []byte("\r\n\r\n")

// readRequestHead reads until a head is complete and parses it. ok is false when
// the connection ended without a request.
func (c *conn) readRequestHead() (p *exchange.Problem, ok bool) {
	w, limits := c.w, &c.server.limits
	in := &w.in
	looked, blank := 0, false
	for {
		b := in.buffered()
		if !blank && len(b) > 1 && b[0] == '\r' && b[1] == '\n' {
			// RFC 9112, 2.2: one empty line before a request line is ignored.
			in.take(2)
			b, looked, blank = b[2:], 0, true
		}
		from := max(looked-len(endOfHead)+1, 0)
		if i := bytes.Index(b[from:], endOfHead); i >= 0 && from+i+len(endOfHead) <= limits.HeadBytes {
			if old := c.rd.begin(c.tick()); old.expired() {
				if old.phase() == readHead {
					return slowHead, true
				}
				c.soothe() // idle too long a moment ago, but here is a request
			}
			end := from + i + len(endOfHead)
			in.take(end)
			in.hold()
			return w.head.parse(b[:end:end], w.x, limits), true
		} else if p := checkPartial(b, looked, i >= 0, limits); p != nil {
			c.rd.begin(c.tick())
			return p, true
		}
		if looked == 0 {
			if old := c.rd.enter(readHead, c.tick()); old.expired() {
				c.soothe()
			}
		}
		looked = len(b)
		n, err := c.nc.Read(in.space(2 * len(in.buf)))
		in.w += n
		if n == 0 && err != nil {
			return c.headFailed(err)
		}
	}
}

// headFailed says what to do with a connection that ended inside a head. Where nobody
// is answered it leaves the reading side over: one that is busy has an exchange, and the
// sweeper and CloseAll reach for it while this goroutine lets go of it.
func (c *conn) headFailed(err error) (p *exchange.Problem, ok bool) {
	old := c.rd.enter(readOver, c.tick())
	switch {
	case len(c.w.in.buffered()) == 0:
		// Nothing but an empty line came: an answer to no request would be taken for
		// that to the next.
		return nil, false
	case old.expired():
		p = slowHead
	case errors.Is(err, io.EOF):
		// A client that only closed its sending half can read why.
		p = cutHead
	default:
		return nil, false
	}
	c.rd.begin(c.tick())
	return p, true
}

// checkPartial refuses an incomplete head (or one that is complete but beyond the
// limit) as soon as that can be said: nobody waits for the end of what cannot become
// a request. Bytes before looked are known.
func checkPartial(b []byte, looked int, tooLong bool, limits *lane.Limits) *exchange.Problem {
	if len(b) == 0 || len(b) == 1 && b[0] == '\r' {
		return nil
	}
	if !framing.IsToken(b[0]) {
		return badRequestLine // also a TLS hello at a plain port
	}
	first := bytes.IndexByte(b, '\n')
	if first < 0 {
		if len(b) > maxMethod+limits.TargetBytes+len("  HTTP/1.1\r") {
			return targetTooLong
		}
		if len(b) >= limits.HeadBytes {
			return headTooLarge
		}
		return nil
	}
	for rest := b[min(looked, len(b)):]; ; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			break
		}
		if rest = rest[i+1:]; b[len(b)-len(rest)-2] != '\r' {
			return badLineEnd
		}
	}
	if first >= looked || tooLong {
		var x exchange.Exchange
		if _, p := parseRequestLine(b[:first-1], &x, limits); p != nil {
			return p
		}
	}
	if tooLong || len(b) >= limits.HeadBytes {
		return headTooLarge
	}
	return nil
}
