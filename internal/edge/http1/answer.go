package http1

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/guado-server/guado/internal/edge/framing"
	"github.com/guado-server/guado/internal/exchange"
)

var (
	errNoHead   = errors.New("body of an answer without a head")
	errTwoHeads = errors.New("second head of one answer")
	errEnded    = errors.New("answer was aborted or has ended")
)

// answer writes the answer of one exchange. Head and a small body gather in the
// connection's output buffer and leave in one write.
type answer struct {
	c        *conn
	x        *exchange.Exchange
	count    framing.Body
	status   int
	begun    bool
	chunked  bool
	persist  bool  // the connection may be used again
	toClose  bool  // the body ends with the connection
	aborted  error // why it was cut, if it was
	hijacked bool
	broken   error // no more bytes can leave
}

func (a *answer) begin(c *conn, x *exchange.Exchange) { a.c, a.x, a.persist = c, x, true }
func (a *answer) reset()                              { *a = answer{} }

// Begun reports whether a final head was written.
func (a *answer) Begun() bool { return a.begun }

// Informational sends an interim answer at once. HTTP/1.0 clients know none; a
// 100 goes to those who wait for it only.
func (a *answer) Informational(status int, fields []exchange.Field) error {
	switch {
	case a.broken != nil:
		return a.broken
	case a.begun:
		return fmt.Errorf("interim answer %d: %w", status, errTwoHeads)
	case status < 100 || status > 199 || status == 101:
		return fmt.Errorf("status %d is not that of an interim answer", status)
	case a.x.Version == exchange.HTTP10:
		return nil
	case status == 100 && !a.c.w.body.waiting.Swap(false):
		return nil
	}
	if err := framing.CheckFields(fields); err != nil {
		return err
	}
	out := appendStatus(a.c.w.out, status, "")
	for i := range fields {
		if f := &fields[i]; !framing.Framed(f.Name) {
			out = appendField(out, f)
		}
	}
	out = append(out, "\r\n"...)
	a.c.w.out = out
	return a.Flush()
}

// Head writes the final head into the output buffer.
func (a *answer) Head(h exchange.Head) error {
	switch {
	case a.broken != nil:
		return a.broken
	case a.begun:
		return errTwoHeads
	}
	if err := framing.CheckHead(&h); err != nil {
		return err
	}
	a.begun, a.status = true, h.Status
	a.count = framing.Begin(a.x.Method, h.Status, h.Length)
	out := appendStatus(a.c.w.out, h.Status, h.Reason)
	dated := false
	for i := range h.Fields {
		f := &h.Fields[i]
		if framing.Framed(f.Name) {
			if framing.ForHost(f.Name) {
				a.c.server.strays.Warn(a.c.server.log, a.x)
			}
			if f.Is("connection") && hasToken(f.Value, "close") {
				a.persist = false
			}
			continue
		}
		dated = dated || f.Is("date")
		out = appendField(out, f)
	}
	if !dated {
		out = append(out, "Date: "...)
		out = append(out, *a.c.server.clock.date.Load()...)
		out = append(out, "\r\n"...)
	}
	old := a.x.Version == exchange.HTTP10
	if n, ok := a.count.Length(); ok {
		out = append(out, "Content-Length: "...)
		out = strconv.AppendInt(out, n, 10)
		out = append(out, "\r\n"...)
	} else if a.count.Streams() {
		if a.chunked = !old; old {
			a.persist, a.toClose = false, true
		} else {
			out = append(out, "Transfer-Encoding: chunked\r\n"...)
		}
	}
	if a.persist = a.persist && a.c.persists(); !a.persist {
		out = append(out, "Connection: close\r\n"...)
	} else if old {
		out = append(out, "Connection: keep-alive\r\n"...)
	}
	out = append(out, "\r\n"...)
	a.c.w.out = out
	return nil
}

// Write adds bytes to the body. They leave when the buffer is full, with Flush, or
// at the end of the answer.
func (a *answer) Write(p []byte) (int, error) {
	switch {
	case a.broken != nil:
		return 0, a.broken
	case !a.begun:
		return 0, errNoHead
	}
	allowed := p[:a.count.Take(int64(len(p)))]
	if len(allowed) == 0 {
		return len(p), nil
	}
	if err := a.put(allowed); err != nil {
		return 0, err
	}
	return len(p), nil
}

// put frames p and buffers or sends it.
func (a *answer) put(p []byte) error {
	const frame = 16 + len("\r\n\r\n") // a chunk's size in hexadecimal, and its line ends
	w := a.c.w
	if fits := len(w.out)+len(p)+frame <= cap(w.out); fits || !a.c.plain {
		if !fits {
			return a.putSealed(p)
		}
		if a.chunked {
			w.out = appendChunkSize(w.out, int64(len(p)))
		}
		w.out = append(w.out, p...)
		if a.chunked {
			w.out = append(w.out, "\r\n"...)
		}
		return nil
	}
	if !a.chunked {
		return a.failed(a.c.send(p, nil))
	}
	w.out = appendChunkSize(w.out, int64(len(p)))
	return a.failed(a.c.send(p, lineEnd))
}

var lineEnd = []byte("\r\n")

// recordSize is how much is gathered for one TLS record: encrypting copies anyway,
// and a record of its own for each small piece costs more than the copy.
const recordSize = 16 << 10

func (a *answer) putSealed(p []byte) error {
	w := a.c.w
	if a.chunked {
		w.out = appendChunkSize(w.out, int64(len(p)))
	}
	for len(p) > 0 {
		n := min(len(p), max(recordSize-len(w.out), 0))
		w.out = append(w.out, p[:n]...)
		if p = p[n:]; len(w.out) >= recordSize {
			if err := a.Flush(); err != nil {
				return err
			}
		}
	}
	if a.chunked {
		w.out = append(w.out, "\r\n"...)
	}
	return nil
}

// Trailers ends the body with fields, where the client said that it reads them and
// the framing has room for them; elsewhere they are dropped, as RFC 9110, 6.5.1 says.
func (a *answer) Trailers(fields []exchange.Field) error {
	switch {
	case a.broken != nil:
		return a.broken
	case !a.begun:
		return errNoHead
	}
	if err := framing.CheckFields(fields); err != nil {
		return err
	}
	if !a.chunked {
		return nil
	}
	out := a.c.w.out
	out = append(out, "0\r\n"...)
	for i := range fields {
		if f := &fields[i]; a.x.TrailersOK && framing.TrailerAllowed(f.Name) {
			out = appendField(out, f)
		}
	}
	out = append(out, "\r\n"...)
	a.c.w.out, a.chunked = out, false
	err := a.Flush()
	if a.broken == nil {
		a.broken = errEnded
	}
	return err
}

// Flush sends what is buffered.
func (a *answer) Flush() error {
	switch {
	case a.broken != nil:
		return a.broken
	case len(a.c.w.out) == 0:
		return nil
	}
	return a.failed(a.c.send(nil, nil))
}

// failed notes an error of the socket: after it the client is gone.
func (a *answer) failed(err error) error {
	if err == nil {
		return nil
	}
	a.broken = fmt.Errorf("%w: %w", exchange.ErrClientGone, err)
	a.x.SetGone(exchange.Closed)
	return a.broken
}

// Abort ends the connection after Serve, without a clean end of the answer.
func (a *answer) Abort(err error) {
	if a.aborted == nil {
		if err == nil {
			err = errEnded
		}
		a.aborted = err
	}
	if a.broken == nil {
		a.broken = errEnded
	}
}

// Problem writes the host's own answer.
func (a *answer) Problem(x *exchange.Exchange, p *exchange.Problem) {
	head, page := a.c.server.hooks.Render(x, p)
	if err := a.Head(head); err != nil {
		if a.broken == nil {
			a.c.server.log.Error("error page cannot be sent", "request_id", x.ID, "code", p.Code, "error", err)
		}
		a.Abort(err)
		return
	}
	// An error is sticky and found at the end of the answer.
	_, _ = a.Write(page)
}

// Hijack hands the connection to the caller.
func (a *answer) Hijack() (net.Conn, []byte, error) {
	c := a.c
	if complete, _ := c.w.body.rest(); a.begun || a.broken != nil || a.x.Upgrade == "" || !complete {
		return nil, nil, errNotUpgradable
	}
	if old := c.rd.enter(readOver, c.tick()); old.watched() {
		c.endWatch()
	}
	if err := c.nc.SetDeadline(time.Time{}); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", exchange.ErrClientGone, err)
	}
	a.hijacked, a.broken = true, errEnded
	c.server.remove(c)
	return c.nc, append([]byte(nil), c.w.in.buffered()...), nil
}

// SetReadDeadline holds reads of the body to an absolute time; see
// [exchange.Deadliner]. A read under way ends within a tick.
func (a *answer) SetReadDeadline(t time.Time) error {
	a.c.readBy.Store(unixNano(t))
	return nil
}

// SetWriteDeadline does the same for the answer.
func (a *answer) SetWriteDeadline(t time.Time) error {
	a.c.writeBy.Store(unixNano(t))
	return nil
}

// SetIdle changes the idle times until the exchange ends; see [exchange.Idler].
func (a *answer) SetIdle(read, write time.Duration) {
	if read > 0 {
		a.c.readIdle.Store(ticksOf(read))
	}
	if write > 0 {
		a.c.writeIdle.Store(ticksOf(write))
	}
	a.c.idleSet = true
}

func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(t.UnixNano(), 1)
}

// end completes the answer that a step has left, and gives the reason when it
// cannot be completed.
func (a *answer) end() error {
	if a.aborted != nil {
		return a.aborted
	}
	if errors.Is(a.broken, errEnded) {
		return nil // by Trailers
	}
	if a.broken != nil {
		return a.broken
	}
	if cut := a.count.Cut(); cut > 0 {
		a.c.server.log.Warn("answer is longer than its declared length; the rest was cut",
			"request_id", a.x.ID, "app", a.x.App, "sent", a.count.Sent(), "cut", cut)
	}
	if err := a.count.Finish(); err != nil {
		a.c.server.log.Warn("answer is shorter than its declared length; the connection was cut",
			"request_id", a.x.ID, "app", a.x.App, "error", err)
		// What there is still goes out: it shows the reader of the cut answer where.
		_ = a.Flush()
		a.Abort(err)
		return err
	}
	if a.chunked {
		a.c.w.out = append(a.c.w.out, "0\r\n\r\n"...)
	}
	return a.Flush()
}
