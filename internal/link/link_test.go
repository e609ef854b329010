package link_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/link/linktest"
)

// patience bounds every wait for an event; no test waits for time to pass.
const patience = 40 * time.Second

// overBoth runs one test body over both transports.
func overBoth(t *testing.T, body func(t *testing.T, transport string)) {
	t.Helper()
	for _, transport := range transports() {
		t.Run(transport, func(t *testing.T) { body(t, transport) })
	}
}

func transports() []string {
	if runtime.GOOS == "linux" {
		return []string{link.SharedMemory, link.Socket}
	}
	return []string{link.Socket}
}

// pair is a link and the worker's end of it.
func pair(t testing.TB, o link.Options) (*link.Link, *linktest.Peer) {
	t.Helper()
	o.Ring = cmp.Or(o.Ring, linktest.DefaultRing) // the same on both transports
	l, err := link.New(o)
	if err != nil {
		t.Fatal(err)
	}
	p, err := linktest.Open(l.Child())
	if err != nil {
		t.Fatal(err)
	}
	if o.Ring != 0 {
		p.SetMaxFrame(o.Ring / 8)
	}
	l.CloseChild()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("closing the link: %v", err)
		}
		_ = p.Close() // some tests have spoilt it
	})
	return l, p
}

// served is a link whose worker answers with handler.
func served(t testing.TB, o link.Options, handler func(*linktest.Request)) *link.Link {
	t.Helper()
	l, p := pair(t, o)
	done := make(chan error, 1)
	go func() { done <- p.Serve(handler) }()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("closing the link: %v", err)
		}
		_ = p.Close() // ends Serve over shared memory, where the host's end shows nothing
		select {
		case err := <-done:
			if err != nil {
				t.Logf("worker: %v", err)
			}
		case <-time.After(patience):
			t.Error("the worker's goroutines did not end")
		}
	})
	shake(t, l)
	return l
}

func shake(t testing.TB, l *link.Link) link.Ready {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ready, err := l.Hello(ctx, link.Hello{Version: "0.1.0", Slot: "p01", Threads: 8, Apps: []link.App{{Name: "shop", Target: "shop:app", Kind: "wsgi"}}})
	if err != nil {
		t.Fatal(err)
	}
	return ready
}

// client drives one stream the way the pool does.
type client struct {
	t      testing.TB
	x      *exchange.Exchange
	s      *link.Stream
	frames []link.Frame
	fields []exchange.Field
}

func open(t testing.TB, l *link.Link) *client {
	t.Helper()
	c := &client{t: t, x: request("GET", "/")}
	var err error
	if c.s, err = l.Open(c.x); err != nil {
		t.Fatal(err)
	}
	return c
}

func request(method, path string) *exchange.Exchange {
	x := exchange.New()
	x.Method, x.Version, x.Scheme = method, exchange.HTTP11, "http"
	x.ID = "0123456789abcdef"
	x.Host = []byte("shop.example:8000")
	x.Path, x.RawPath, x.Target = []byte(path), []byte(path), []byte(path)
	x.LocalName, x.LocalPort = "127.0.0.1", 8000
	return x
}

func (c *client) request(end bool, inline ...[]byte) *client {
	c.t.Helper()
	if err := c.s.Request(link.AppendRequest(nil, c.x, 0, true, inline...), end); err != nil {
		c.t.Fatal(err)
	}
	return c
}

// wait takes frames until enough says so; it fails when the link ends before.
func (c *client) wait(enough func(link.Frame) bool) {
	c.t.Helper()
	if err := c.waitErr(enough); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) waitErr(enough func(link.Frame) bool) error {
	timeout := time.After(patience)
	for {
		err := c.s.Err()
		c.frames = c.s.Take(c.frames[:0])
		for _, f := range c.frames {
			if enough(f) {
				return nil
			}
		}
		if err != nil {
			return err
		}
		select {
		case <-c.x.Bell():
		case <-timeout:
			return errors.New("nothing came in time")
		}
	}
}

// answer is a whole answer.
type answer struct {
	status int
	length int64
	fields map[string]string
	body   []byte
	abort  string
	files  []link.Frame
}

// read takes the whole answer, crediting what it takes.
func (c *client) read() answer {
	c.t.Helper()
	a, err := c.tryRead()
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

func (c *client) tryRead() (a answer, err error) {
	var bad error
	err = c.waitErr(func(f link.Frame) bool {
		switch f.Kind {
		case link.KindCommit:
			h, body, err := link.DecodeHead(f.Payload, c.fields)
			if err != nil {
				bad = err
				return true
			}
			c.fields = h.Fields
			a.status, a.length, a.fields = h.Status, h.Length, make(map[string]string)
			for _, x := range h.Fields {
				a.fields[string(x.Name)] = string(x.Value)
			}
			a.body = append(a.body, body...)
			c.s.Credit(len(body))
		case link.KindResponseBody:
			a.body = append(a.body, f.Payload...)
			c.s.Credit(len(f.Payload))
		case link.KindFile:
			a.files = append(a.files, f)
		case link.KindAbort:
			a.abort = string(f.Payload)
			return true
		case link.KindDone:
			return true
		}
		return f.Flags&link.End != 0
	})
	return a, errors.Join(err, bad)
}

func (c *client) send(body []byte, end link.BodyFlag) error {
	timeout := time.After(patience)
	for {
		n, err := c.s.Body(body, end)
		if err != nil {
			return err
		}
		if body = body[n:]; len(body) == 0 {
			return nil
		}
		select {
		case <-c.x.Bell():
		case <-timeout:
			return errors.New("no credit came in time")
		}
	}
}

func TestASmallRequestIsAnsweredInOneFrame(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		l := served(t, link.Options{Transport: transport}, func(r *linktest.Request) {
			_ = r.Reply(200, []byte("hello "+r.Path), linktest.Field{Name: "Content-Type", Value: "text/plain"})
		})
		for i := range 100 {
			c := open(t, l)
			c.x.Path = fmt.Appendf(nil, "/%d", i)
			a := c.request(true).read()
			if want := fmt.Sprintf("hello /%d", i); a.status != 200 || string(a.body) != want || a.fields["Content-Type"] != "text/plain" {
				t.Fatalf("answer %d %q %v, want %q", a.status, a.body, a.fields, want)
			}
			if !c.s.Started() {
				t.Error("an answered request was not started")
			}
			c.s.Close()
		}
		if n := l.Status().Open; n != 0 {
			t.Errorf("%d streams are open after all were closed", n)
		}
	})
}

func TestBodiesLargerThanRingAndCreditPassBothWays(t *testing.T) {
	const size = 5 << 20
	overBoth(t, func(t *testing.T, transport string) {
		l := served(t, link.Options{Transport: transport, Ring: 1 << 16}, func(r *linktest.Request) {
			_ = r.Head(200, -1)
			buf := make([]byte, 10000)
			for {
				n, err := r.Read(buf)
				if errors.Is(err, io.EOF) {
					_ = r.Write(nil, link.End)
					return
				}
				if err != nil || r.Write(buf[:n], 0) != nil {
					return
				}
			}
		})
		body := make([]byte, size)
		for i := range body {
			body[i] = byte(i * 7 >> 3)
		}
		c := open(t, l)
		c.x.Length = size
		c.request(false, body[:1000])
		rest, got := body[1000:], []byte(nil)
		timeout := time.After(patience)
		for done := false; !done; {
			if len(rest) > 0 {
				n, err := c.s.Body(rest, link.BodyEnd)
				if err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			c.frames = c.s.Take(c.frames[:0])
			for _, f := range c.frames {
				if f.Kind == link.KindResponseBody {
					got = append(got, f.Payload...)
					c.s.Credit(len(f.Payload))
				}
				done = done || f.Flags&link.End != 0
			}
			if len(c.frames) == 0 {
				select {
				case <-c.x.Bell():
				case <-timeout:
					t.Fatalf("stuck with %d unsent and %d received", len(rest), len(got))
				}
			}
		}
		if !bytes.Equal(got, body) {
			t.Fatalf("got %d bytes back that differ from the %d sent", len(got), len(body))
		}
		c.s.Close()
	})
}

func TestTheHandshakeGivesReady(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		l, p := pair(t, link.Options{Transport: transport, RequestCredit: 1234, ResponseCredit: 99999})
		got := make(chan link.Hello, 1)
		go func() {
			h, err := p.Shake("asgi")
			if err != nil {
				t.Error(err)
			}
			got <- h
		}()
		ready := shake(t, l)
		h := <-got
		if h.Protocol != 1 || h.RequestCredit != 1234 || h.ResponseCredit != 99999 || h.Apps[0].Target != "shop:app" {
			t.Errorf("the worker was told %+v", h)
		}
		if ready.PID != os.Getpid() || ready.Apps[0].Kind != "asgi" {
			t.Errorf("the worker said %+v", ready)
		}
	})
}

func TestTheBestTransportOfThePlatformIsTheDefault(t *testing.T) {
	l, _ := pair(t, link.Options{})
	if got := l.Status().Transport; got != transports()[0] {
		t.Errorf("the default is %s", got)
	}
}
