package http1

import (
	"net"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/exchange"
)

// waitLeft waits until the exchange is told that its client is gone, in some way.
func waitLeft(x *exchange.Exchange) bool {
	deadline := time.AfterFunc(patience, x.Ring)
	defer deadline.Stop()
	for end := time.Now().Add(patience); x.Gone() == exchange.Present; {
		if time.Now().After(end) {
			return false
		}
		x.Wait()
	}
	return true
}

// The watch reads one byte; what comes behind it must not hide the end.
func TestAnExchangeThatWaitsLearnsThatAClientWhichSentMoreHasLeft(t *testing.T) {
	everywhere(t, func(t *testing.T, o option) {
		for _, early := range []string{"G", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"} {
			started, left := make(chan struct{}, 1), make(chan bool, 1)
			r := serve(t, func(x *exchange.Exchange) {
				if string(x.Target) == "/poll" {
					started <- struct{}{}
					left <- waitLeft(x)
				}
				say(x, 200, "")
			}, o)
			c := r.dial().send("GET /poll HTTP/1.1\r\nHost: x\r\n\r\n")
			<-started
			r.untilWatched()
			c.send("%s", early)
			r.untilWatchHas(1)
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			if !<-left {
				t.Errorf("after %q the exchange was not told", early)
			}
		}
	})
}

func TestAnExchangeThatWaitsLearnsThatAClientWhichSentMoreHasReset(t *testing.T) {
	started, gone := make(chan struct{}), make(chan bool, 1)
	r := serve(t, func(x *exchange.Exchange) { close(started); gone <- waitGone(x, exchange.Closed) })
	c := r.dial().send(get)
	<-started
	r.untilWatched()
	c.send("G")
	r.untilWatchHas(1)
	if err := c.Conn.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if !<-gone {
		t.Error("the exchange was not told")
	}
}

// A FIN behind a body that was not read yet is the end of the request only.
func TestAFinBehindAnUnreadBodyIsNoDisconnect(t *testing.T) {
	waiting, goOn := make(chan struct{}), make(chan struct{})
	r := serve(t, func(x *exchange.Exchange) {
		waiting <- struct{}{}
		<-goOn
		if x.Gone() != exchange.Present {
			t.Errorf("told %v before the body was read", x.Gone())
		}
		echo(x)
	})
	c := r.dial().send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
	<-waiting
	r.untilWatched()
	c.send("hello").finish()
	r.untilWatchHas(1)
	looked := r.clock.tick() + 3
	until(t, "the sweeper has looked", func() bool { return r.clock.tick() >= looked })
	goOn <- struct{}{}
	c.expect(200, "POST / hello")
}
