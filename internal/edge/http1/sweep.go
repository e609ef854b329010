package http1

import (
	"cmp"
	"time"
)

// sweep looks at all connections once a tick and ends those that wait too long. It
// is the lane's only timer. It ends by itself when there is no connection left, or
// by stop.
func (s *Server) sweep(done, stop chan struct{}) {
	defer close(done)
	ticker := time.NewTicker(tickLength)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			stop = nil // a connection may have come meanwhile; then we stay
		case now := <-ticker.C:
			s.clock.look(now)
		}
		if !s.look() {
			return
		}
	}
}

// look is one round; false when the sweeper is not needed any more.
func (s *Server) look() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) == 0 {
		s.sweeper, s.stop = nil, nil
		return false
	}
	now := s.clock.tick()
	for _, c := range s.conns {
		c.sweepRead(now, &s.ticks)
		c.sweepWrite(now, &s.ticks)
	}
	return true
}

// sweepRead ends a wait of the reading side that is too old, and has the client of
// an exchange watched from the second round on that finds it running.
func (c *conn) sweepRead(now int64, t *timeouts) {
	w := c.rd.load()
	var limit int64
	switch w.phase() {
	case reading:
		limit = t.keepAlive
	case readHead:
		limit = t.head
	case readBody:
		limit = cmp.Or(c.readIdle.Load(), t.readIdle)
		if by := c.readBy.Load(); by != 0 && time.Now().UnixNano() >= by {
			limit = 0
		}
	case readDrain:
		limit = t.drain
	default:
		switch {
		case w.phase() != readBusy:
		case w.watched():
			c.lookBehind()
		case c.seen.phase() == readBusy && c.seen.number() == w.number():
			c.startWatch(w)
		}
		c.seen = w
		return
	}
	c.seen = w
	if now-w.tick() >= limit && !w.expired() {
		c.expire(w)
	}
}

// sweepWrite ends a wait of the writing side during which nothing moved. Bytes that
// leave the socket's send queue are progress, though the writer sleeps on: a slow
// client can take minutes to drain it so far that the writer is woken.
func (c *conn) sweepWrite(now int64, t *timeouts) {
	w := c.wr.load()
	if w.phase() != writing || w.expired() {
		return
	}
	if by := c.writeBy.Load(); by != 0 && time.Now().UnixNano() >= by {
		c.expireWrite(w)
		return
	}
	age := now - w.tick()
	if age < 2 {
		return
	}
	if n, ok := c.unsent(); ok && n != c.queue {
		c.queue, c.queueMoved = n, now
	}
	if min(age, now-c.queueMoved) >= cmp.Or(c.writeIdle.Load(), t.writeIdle) {
		c.expireWrite(w)
	}
}
