package http1

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"github.com/guado-server/guado/internal/exchange"
)

// watch reads from a connection whose exchange runs for longer than a tick and does
// not read itself, so that the exchange learns when its client leaves. It reads at
// most one byte, which is kept; of a client that has sent one, the sweeper asks the
// socket from then on.
type watch struct {
	c    *conn
	x    *exchange.Exchange // until the exchange ends; guarded by conn.mu
	done chan struct{}

	// Results, of whoever has received from done.
	byte [1]byte
	n    int
}

// startWatch begins a watch if the reading side still is at old.
func (c *conn) startWatch(old word) {
	t := &watch{c: c, done: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.rd.flag(old, watchedFlag) {
		return
	}
	// The connection's goroutine cannot let go of its exchange now: it must first
	// end the watch, and for that it takes mu.
	t.x = c.w.x
	c.watch = t
	go t.run(c.nc)
}

func (t *watch) run(nc net.Conn) {
	defer close(t.done)
	n, err := nc.Read(t.byte[:])
	t.n = n
	switch {
	case n > 0 || errors.Is(err, os.ErrDeadlineExceeded):
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		t.tell(exchange.HalfClosed)
	default:
		t.tell(exchange.Closed)
	}
}

// lookBehind asks the socket what became of a client whose watch has ended, behind the
// bytes that nobody reads now.
func (c *conn) lookBehind() {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.watch
	if t == nil || t.x == nil || t.x.Gone() == exchange.Closed {
		return
	}
	select {
	case <-t.done:
	default:
		return
	}
	switch g := c.hungUp(); {
	case g == exchange.HalfClosed && t.x.Gone() == exchange.Present:
		// Until the body was read, what lies before the FIN may be its rest.
		if complete, _ := c.w.body.rest(); complete {
			t.x.SetGone(g)
		}
	case g == exchange.Closed:
		t.x.SetGone(g)
	}
}

// tell says to the watched exchange, if it still runs, what became of its client.
func (t *watch) tell(g exchange.Gone) {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	if t.x != nil && t.x.Gone() < g {
		t.x.SetGone(g)
	}
}

// endWatch stops the watch, waits for it, and takes over the byte it has read. It
// is called by the goroutine that has the reading side, when the word that it left
// had watchedFlag.
func (c *conn) endWatch() {
	c.mu.Lock()
	t := c.watch
	c.watch = nil
	wake := false
	select {
	case <-t.done:
	default:
		wake = !c.poked
		if wake {
			_ = c.nc.SetReadDeadline(past) // fails on a closed connection only, which wakes too
		}
	}
	c.mu.Unlock()
	<-t.done
	c.mu.Lock()
	t.x = nil
	if wake && !c.poked {
		_ = c.nc.SetReadDeadline(time.Time{})
	}
	c.mu.Unlock()
	c.rd.unwatched()
	if t.n > 0 {
		c.w.in.push(t.byte[0])
	}
}
