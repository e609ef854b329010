package http1

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
)

// next serves one exchange, whose first bytes are buffered, and says whether the
// connection goes on.
func (c *conn) next() bool {
	w := c.w
	x := w.x
	x.Version = exchange.HTTP11
	p, ok := c.readRequestHead()
	if !ok {
		return false
	}
	c.requests++
	c.introduce(x)
	refused := p != nil
	if refused {
		// Nothing of a head that was not understood is passed on as if it were.
		x.Length, x.Expect, x.Upgrade, x.Version = 0, false, "", max(x.Version, exchange.HTTP10)
		w.head.chunked = false
		c.server.refused.Add(1)
	}
	w.body.begin(c, x, &w.head)
	w.answer.begin(c, x)
	x.Body, x.Answer = &w.body, &w.answer
	if refused {
		w.answer.persist = false
		x.Fail(p)
	} else {
		c.serve(x)
	}
	return c.conclude(x, refused)
}

// introduce fills in what the connection knows of a request.
func (c *conn) introduce(x *exchange.Exchange) {
	info := c.info
	x.Received = time.Now()
	x.Scheme = "http"
	if info.TLS != nil {
		x.Scheme, x.TLS = "https", info.TLS
	}
	x.Peer, x.Client = info.Peer.Addr(), info.Peer
	x.LocalName, x.LocalPort, x.Unix = info.LocalName, info.LocalPort, info.Unix
}

// serve hands a good request to the edge and the road.
func (c *conn) serve(x *exchange.Exchange) {
	a := &c.w.answer
	defer func() {
		if r := recover(); r != nil {
			c.server.log.Error("handler panicked", "request_id", x.ID, "app", x.App,
				"panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			x.Answer = a // whatever a step had put around it
			if !a.hijacked && a.aborted == nil {
				x.Fail(handlerPanicked)
			}
		}
	}()
	var p *exchange.Problem
	if prepare := c.server.hooks.Prepare; prepare != nil {
		var closeAfter bool
		p, closeAfter = prepare(x, c.info)
		a.persist = !closeAfter
	}
	if p == nil {
		p = c.unmet(x)
	}
	if p != nil {
		x.Fail(p)
		return
	}
	c.server.hooks.Handler.Serve(x)
	if !a.begun && a.aborted == nil && !a.hijacked && a.broken == nil {
		x.Fail(noAnswer)
	}
}

// unmet refuses what is well-formed but not to be had.
func (c *conn) unmet(x *exchange.Exchange) *exchange.Problem {
	limits := &c.server.limits
	switch {
	case c.w.head.unmet:
		return badExpectation
	case limits.BodyBytes > 0 && x.Length > limits.BodyBytes:
		return bodyTooLarge
	}
	return nil
}

// persists reports whether the connection may carry another request after the
// running one, as far as can be told when the head leaves.
func (c *conn) persists() bool {
	s := c.server
	if !c.w.head.persist || s.draining.Load() || s.limits.RequestsPerKA > 0 && c.requests >= s.limits.RequestsPerKA {
		return false
	}
	complete, worth := c.w.body.rest()
	return complete || worth
}

// conclude ends the answer, reports the exchange, and brings the connection to the
// start of the next request, or to its end.
func (c *conn) conclude(x *exchange.Exchange, refused bool) bool {
	w := c.w
	a := &w.answer
	err := a.end()
	in := w.body.settle()
	if a.hijacked {
		c.report(x, lane.Outcome{Status: 101, BytesIn: in})
		return false
	}
	if old := c.rd.enter(reading, c.tick()); old.watched() {
		c.endWatch()
	}
	c.large = in > bufferSize/2
	if w.body.interrupted.Load() {
		c.soothe()
	}
	c.readBy.Store(0)
	c.writeBy.Store(0)
	if c.idleSet {
		c.readIdle.Store(0)
		c.writeIdle.Store(0)
		c.idleSet = false
	}
	c.report(x, lane.Outcome{Status: a.status, BytesIn: in, BytesOut: a.count.Sent(), Err: err})
	if err != nil {
		c.hardClose(a.toClose)
		return false
	}
	complete, worth := w.body.rest()
	keep := a.persist && (complete || worth)
	if keep && !complete {
		c.rd.enter(readDrain, c.tick())
		keep = w.body.discard()
		expired := c.rd.enter(reading, c.tick()).expired()
		keep, complete = keep && !expired, keep
	}
	w.in.release()
	if !keep {
		c.linger(refused || !complete || len(w.in.buffered()) > 0)
		return false
	}
	c.reuse()
	return true
}

// reuse makes the work of an exchange ready for the next one of the connection.
func (c *conn) reuse() {
	w := c.w
	w.x.Reset()
	w.body.reset()
	w.answer.reset()
}

// report tells the edge how the exchange ended, once.
func (c *conn) report(x *exchange.Exchange, o lane.Outcome) {
	if done := c.server.hooks.Done; done != nil {
		done(x, o)
	}
}

// linger closes the connection. When the client may still be sending, a plain close
// would reset the connection and take the answer from under its eyes: our side is
// closed first, and what comes is thrown away for a bounded time.
func (c *conn) linger(sending bool) {
	defer c.closeQuietly(c.nc)
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !sending || !ok || c.server.closed.Load() {
		return
	}
	if err := half.CloseWrite(); err != nil {
		return
	}
	c.rd.enter(readDrain, c.tick())
	for {
		if _, err := c.nc.Read(c.w.in.buf); err != nil {
			if !errors.Is(err, io.EOF) {
				c.server.log.Debug("waiting for a client to close", "error", err)
			}
			return
		}
	}
}
