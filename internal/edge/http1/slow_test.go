package http1

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/edge/lane"
	"github.com/guado-server/guado/internal/exchange"
)

// short makes all timeouts so short that a test can wait them out.
var short = limited(func(l *lane.Limits) {
	l.HeadTimeout, l.KeepAlive, l.ReadIdle, l.WriteIdle =
		300*time.Millisecond, 300*time.Millisecond, 300*time.Millisecond, 300*time.Millisecond
})

func both(options ...option) option {
	return func(r *rig, l *lane.Limits, n *net.Listener) {
		for _, o := range options {
			o(r, l, n)
		}
	}
}

// drip sends one byte after the other, slowly, until the connection breaks.
func (c *client) drip(b string, every time.Duration) {
	for i := range b {
		if _, err := io.WriteString(c, b[i:i+1]); err != nil {
			return
		}
		time.Sleep(every)
	}
}

func TestSlowlorisIsCutAfterTheHeadTimeoutThoughItKeepsSending(t *testing.T) {
	t.Parallel()
	everywhereAtOnce(t, func(t *testing.T, o option) {
		r := serve(t, echo, both(o, short))
		c := r.dial()
		dripped := make(chan struct{})
		start := time.Now()
		go func() {
			defer close(dripped)
			c.drip("GET / HTTP/1.1\r\nHost: x\r\nA: "+strings.Repeat("a", 200), 50*time.Millisecond)
		}()
		c.expect(408, "head_timeout")
		if waited := time.Since(start); waited < 300*time.Millisecond || waited > 3*time.Second {
			t.Errorf("refused after %v", waited)
		}
		_ = c.Close()
		<-dripped
		if rep := r.done(); rep.Status != 408 {
			t.Errorf("reported as %+v", rep)
		}
	})
}

func TestAnIdleConnectionIsClosedWithoutAWord(t *testing.T) {
	t.Parallel()
	everywhereAtOnce(t, func(t *testing.T, o option) {
		r := serve(t, echo, both(o, short))
		fresh := r.dial()
		used := r.dial()
		used.send(get).expect(200, "GET / ")
		r.done()
		start := time.Now()
		used.closed()
		if waited := time.Since(start); waited < 250*time.Millisecond {
			t.Errorf("closed after %v", waited)
		}
		if r.tls != nil {
			// Its handshake ends with the first byte read.
			return
		}
		fresh.closed()
		if len(r.reports) > 0 {
			t.Errorf("reported as %+v", r.done())
		}
	})
}

func TestAnActiveConnectionOutlivesTheKeepAliveTimeout(t *testing.T) {
	t.Parallel()
	const keepAlive = 1500 * time.Millisecond // far over the pause below, also on a busy machine
	r := serve(t, echo, limited(func(l *lane.Limits) { l.KeepAlive = keepAlive }))
	c := r.dial()
	pause := time.NewTicker(keepAlive / 10)
	defer pause.Stop()
	for end := time.Now().Add(keepAlive + keepAlive/2); time.Now().Before(end); <-pause.C {
		c.send(get).expect(200, "GET / ")
	}
}

func TestABodyWithoutProgressEndsInErrSlowClient(t *testing.T) {
	t.Parallel()
	everywhereAtOnce(t, func(t *testing.T, o option) {
		seen := make(chan bodySeen, 1)
		r := serve(t, func(x *exchange.Exchange) { seen <- readAll(x); say(x, 408, "slow") }, both(o, short))
		c := r.dial().send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
		s := <-seen
		if s.text != "hello" || !errors.Is(s.err, exchange.ErrSlowClient) || !errors.Is(s.again, exchange.ErrSlowClient) {
			t.Errorf("body reads as %q and ends with %v, then %v", s.text, s.err, s.again)
		}
		c.expect(408, "slow")
		c.closed()
	})
}

func TestABodyThatProgressesOutlivesTheIdleTimeout(t *testing.T) {
	t.Parallel()
	everywhereAtOnce(t, func(t *testing.T, o option) {
		r := serve(t, echo, both(o, short))
		c := r.dial().send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
		c.drip("0123456789", 100*time.Millisecond)
		c.expect(200, "POST / 0123456789")
	})
}

// stuffed writes until an error comes, which it gives, with the time it took.
func stuffed(x *exchange.Exchange) (took time.Duration, err error) {
	start := time.Now()
	if err = x.Answer.Head(exchange.Head{Status: 200, Length: -1}); err == nil {
		piece := make([]byte, 1<<20)
		for err == nil {
			_, err = x.Answer.Write(piece)
		}
	}
	return time.Since(start), err
}

func TestAWriterToAClientThatNeverReadsIsFreed(t *testing.T) {
	t.Parallel()
	everywhereAtOnce(t, func(t *testing.T, o option) {
		type result struct {
			err  error
			took time.Duration
			gone exchange.Gone
		}
		ended := make(chan result, 1)
		r := serve(t, func(x *exchange.Exchange) {
			took, err := stuffed(x)
			ended <- result{err, took, x.Gone()}
		}, both(o, short))
		r.dial().send(get)
		got := <-ended
		if !errors.Is(got.err, exchange.ErrClientGone) || got.gone != exchange.Closed {
			t.Errorf("the writer is told %v, the exchange %v", got.err, got.gone)
		}
		if got.took < 300*time.Millisecond || got.took > 10*time.Second {
			t.Errorf("freed after %v", got.took)
		}
		until(t, "the connection ends", func() bool { return r.Connections() == 0 })
		if rep := r.done(); rep.Err == nil {
			t.Errorf("reported as %+v", rep)
		}
	})
}

func TestSendfileToAClientThatNeverReadsIsFreed(t *testing.T) {
	t.Parallel()
	f, err := os.Create(t.TempDir() + "/f")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	const size = 1 << 30
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	everywhereAtOnce(t, func(t *testing.T, o option) {
		r, failed := answering(t, func(a exchange.Answer) error {
			if err := a.Head(headOf(200, size)); err != nil {
				return err
			}
			return a.File(f, 0, size)
		}, both(o, short))
		r.dial().send(get)
		if err := failed(); !errors.Is(err, exchange.ErrClientGone) {
			t.Errorf("the writer is told %v", err)
		}
	})
}

// smallSteps makes a connection like one over a network: small buffers, and segments
// of a usual size (those of the loopback are so large that a slow reader's window
// opens twice a second).
func smallSteps(r *rig, _ *lane.Limits, _ *net.Listener) {
	r.sendBuffer = 32 << 10
	r.control = func(network, _ string, c syscall.RawConn) error {
		if !strings.HasPrefix(network, "tcp") {
			return nil
		}
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = errors.Join(
				syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1400),
				syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 8<<10))
		})
		return errors.Join(err, failed)
	}
}

// A reader that takes a little at a time makes progress, though a write of a large
// piece does not come back meanwhile.
func TestAClientThatReadsSlowlyOutlivesTheIdleTimeout(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("0123456789abcdef"), 18<<10)
	everywhereAtOnce(t, func(t *testing.T, o option) {
		r, failed := answering(t, func(a exchange.Answer) error {
			if err := a.Head(headOf(200, int64(len(data)))); err != nil {
				return err
			}
			_, err := a.Write(data)
			return err
		}, both(o, smallSteps, limited(func(l *lane.Limits) { l.WriteIdle = 500 * time.Millisecond })))
		c := r.dial()
		c.send(get)
		read := 0
		for buf := make([]byte, 16<<10); read < len(data); time.Sleep(100 * time.Millisecond) {
			n, err := c.Read(buf)
			read += n
			if err != nil {
				t.Fatalf("after %d bytes: %v", read, err)
			}
		}
		if err := failed(); err != nil {
			t.Error(err)
		}
	})
}

func TestAnEmptyLineAloneIsNotAnswered(t *testing.T) {
	t.Parallel()
	r := serve(t, echo, short)
	c := r.dial()
	c.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok\r\n").expect(200, "POST / ok")
	c.closed()
}

func TestAClientThatNeverClosesIsLetGo(t *testing.T) {
	everywhereAtOnce(t, func(t *testing.T, o option) {
		r := serve(t, func(x *exchange.Exchange) { say(x, 200, "done") }, o)
		r.ticks.drain = 3
		refused := r.dial().send("nonsense\r\n")
		refused.expect(400, "bad_request_line")
		// Nor one that owes the rest of a body which nobody wants.
		owing := r.dial().send("GET / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
		owing.expect(200, "done")
		later := r.dial().send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel")
		later.expect(200, "done")
		until(t, "all are gone", func() bool { return r.Connections() == 0 })
	})
}
