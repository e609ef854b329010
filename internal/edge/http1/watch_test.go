package http1

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/exchange"
)

// waitGone waits on the exchange's bell until it says g.
func waitGone(x *exchange.Exchange, g exchange.Gone) bool {
	deadline := time.AfterFunc(patience, x.Ring)
	defer deadline.Stop()
	for end := time.Now().Add(patience); x.Gone() != g; {
		if time.Now().After(end) {
			return false
		}
		x.Wait()
	}
	return true
}

func TestAnExchangeThatWaitsLearnsThatItsClientHalfClosed(t *testing.T) {
	everywhere(t, func(t *testing.T, o option) {
		r := serve(t, func(x *exchange.Exchange) {
			if !waitGone(x, exchange.HalfClosed) {
				t.Errorf("the exchange is told %v", x.Gone())
			}
			say(x, 200, "still here")
		}, o)
		// FIN behind the request, then the client reads: it is answered.
		c := r.dial().send(get).finish()
		c.expect(200, "still here")
		c.closed()
	})
}

func TestAnExchangeThatWaitsLearnsThatItsClientReset(t *testing.T) {
	gone := make(chan bool, 1)
	r := serve(t, func(x *exchange.Exchange) { gone <- waitGone(x, exchange.Closed) })
	c := r.dial().send(get)
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

func TestAHalfClosedClientIsAnsweredAtOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, o option) {
		r := serve(t, echo, o)
		c := r.dial().send(get + get).finish()
		c.expect(200, "GET / ")
		c.expect(200, "GET / ")
		c.closed()
	})
}

func TestAWriterLearnsThatItsClientLeft(t *testing.T) {
	everywhere(t, func(t *testing.T, o option) {
		ended := make(chan error, 1)
		r := serve(t, func(x *exchange.Exchange) {
			err := x.Answer.Head(exchange.Head{Status: 200, Length: -1})
			for err == nil {
				if _, err = x.Answer.Write([]byte("event\n")); err == nil {
					err = x.Answer.Flush()
				}
			}
			if x.Gone() != exchange.Closed {
				t.Errorf("the exchange is told %v", x.Gone())
			}
			ended <- err
		}, o)
		c := r.dial().send(get)
		if _, err := c.r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, exchange.ErrClientGone) {
			t.Errorf("the writer is told %v", err)
		}
	})
}

// What a watch reads while an exchange runs are the next request's first bytes.
func TestBytesThatComeWhileAnExchangeRunsAreKept(t *testing.T) {
	everywhere(t, func(t *testing.T, o option) {
		watched, goOn := make(chan struct{}, 10), make(chan struct{})
		r := serve(t, func(x *exchange.Exchange) {
			if string(x.Target) == "/wait" {
				watched <- struct{}{}
				<-goOn
			}
			echo(x)
		}, o)
		c := r.dial().send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
		<-watched
		r.untilWatched()
		c.send("POST /next HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
		r.untilWatchHas(1)
		close(goOn)
		c.expect(200, "GET /wait ")
		c.expect(200, "POST /next abc")
		// And without any bytes the watch is called back.
		c.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").expect(200, "GET /wait ")
	})
}

// The body of a request may come while the watch has the connection.
func TestABodyThatComesWhileAnExchangeWaitsIsReadWhole(t *testing.T) {
	everywhere(t, func(t *testing.T, o option) {
		waiting, goOn := make(chan struct{}), make(chan struct{})
		r := serve(t, func(x *exchange.Exchange) {
			waiting <- struct{}{}
			<-goOn
			echo(x)
		}, o)
		c := r.dial()
		for _, head := range []string{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n|hello", chunkedHead + "|5\r\nhello\r\n0\r\n\r\n"} {
			head, body, _ := strings.Cut(head, "|")
			c.send("%s", head)
			<-waiting
			r.untilWatched()
			c.send("%s", body)
			r.untilWatchHas(1)
			goOn <- struct{}{}
			c.expect(200, "POST / hello")
			// Or none of it yet: the watch is called back by the Read.
			c.send("%s", head)
			<-waiting
			r.untilWatched()
			goOn <- struct{}{}
			c.send("%s", body).expect(200, "POST / hello")
		}
	})
}

func TestCloseAllTellsExchangesThatTheirClientIsGone(t *testing.T) {
	everywhere(t, func(t *testing.T, o option) {
		started, gone := make(chan struct{}, 3), make(chan bool, 3)
		r := serve(t, func(x *exchange.Exchange) {
			started <- struct{}{}
			gone <- waitGone(x, exchange.Closed)
		}, o)
		r.dial().send(get)                // waits
		half := r.dial().send(get)        // has half-closed
		ahead := r.dial().send(get + "G") // has sent more
		for range 3 {
			<-started
		}
		half.finish()
		r.untilWatched()
		ahead.send("E")
		r.CloseAll()
		for range 3 {
			if !<-gone {
				t.Error("an exchange was not told")
			}
		}
	})
}

func TestABodyReadIsEndedByCloseAll(t *testing.T) {
	ended := make(chan error, 1)
	started := make(chan struct{})
	r := serve(t, func(x *exchange.Exchange) {
		close(started)
		_, err := io.ReadAll(bodyReader{x})
		ended <- err
	})
	r.dial().send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
	<-started
	until(t, "the body is being read", func() bool { return r.inPhase(readBody) == 1 })
	r.CloseAll()
	if err := <-ended; !errors.Is(err, exchange.ErrClientGone) {
		t.Errorf("the body ends with %v", err)
	}
}

// inPhase counts the connections whose reading side is in a phase.
func (r *rig) inPhase(p phase) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, c := range r.conns {
		if c.rd.load().phase() == p {
			n++
		}
	}
	return n
}

// untilWatched waits until all connections are watched.
func (r *rig) untilWatched() {
	r.t.Helper()
	until(r.t, "the connections are watched", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, c := range r.conns {
			if !c.rd.load().watched() {
				return false
			}
		}
		return true
	})
}

// untilWatchHas waits until that many watches have ended.
func (r *rig) untilWatchHas(n int) {
	r.t.Helper()
	until(r.t, "the watch has read", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		ended := 0
		for _, c := range r.conns {
			c.mu.Lock()
			if c.watch != nil {
				select {
				case <-c.watch.done:
					ended++
				default:
				}
			}
			c.mu.Unlock()
		}
		return ended >= n
	})
}
