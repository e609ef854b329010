package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/guado-server/guado/internal/exchange"
)

func TestHardeningConnectionsOfOneAddressAreCapped(t *testing.T) {
	const limit = 3
	for name, c := range map[string]struct{ trusted bool }{"stranger": {}, "trusted proxy": {trusted: true}} {
		t.Run(name, func(t *testing.T) {
			r := serve(t, modes[0], func(x *exchange.Exchange) { text(x, 200, "") }, func(o *Options) {
				o.MaxConnsPerAddr = limit
				if c.trusted {
					trust("127.0.0.0/8")(o)
				}
			})
			var open []net.Conn
			for range limit {
				conn := r.dial()
				exchangeOn(t, conn)
				open = append(open, conn)
			}
			if c.trusted {
				exchangeOn(t, r.dial())
				return
			}
			if answer, err := io.ReadAll(r.dial()); len(answer) > 0 || err != nil && !isReset(err) {
				t.Errorf("one more than the cap: %q, %v", answer, err)
			}
			// One leaves, another may come.
			if err := open[0].Close(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the place is free again", func() bool {
				conn := r.dial()
				defer conn.Close() //nolint:errcheck // of the test
				_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
				answer, readErr := io.ReadAll(conn)
				return err == nil && readErr == nil && strings.HasPrefix(string(answer), "HTTP/1.1 200")
			})
		})
	}
}

func isReset(err error) bool { return err != nil && strings.Contains(err.Error(), "reset") }

// exchangeOn makes one request and leaves the connection open.
func exchangeOn(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	got := ""
	for !strings.Contains(got, "\r\n\r\n") {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("%v after %q", err, got)
		}
		got += string(buf[:n])
	}
}

func TestHardeningConnectionsTogetherAreCapped(t *testing.T) {
	r := serve(t, modes[0], func(x *exchange.Exchange) { text(x, 200, "") }, func(o *Options) { o.MaxConns = 2 })
	first, second := r.dial(), r.dial()
	exchangeOn(t, first)
	exchangeOn(t, second)
	if n := r.Connections(); n != 2 {
		t.Errorf("%d connections", n)
	}
	third := r.dial() // the kernel takes it
	if _, err := io.WriteString(third, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := third.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := third.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a connection over the cap was served: %d, %v", n, err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := third.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := third.Read(make([]byte, 1)); err != nil {
		t.Errorf("after a place became free: %v", err)
	}
}

// flakyListener fails before it accepts, as when there are no descriptors left.
type flakyListener struct {
	net.Listener
	fails atomic.Int64
}

func (l *flakyListener) Accept() (net.Conn, error) {
	if l.fails.Add(-1) >= 0 {
		return nil, os.NewSyscallError("accept4", syscall.EMFILE)
	}
	return l.Listener.Accept()
}

func TestHardeningNoDescriptorsLeftIsWaitedOut(t *testing.T) {
	r := serve(t, modes[0], func(x *exchange.Exchange) { text(x, 200, "ok") }, func(o *Options) {
		flaky := &flakyListener{Listener: o.Listeners[0]}
		flaky.fails.Store(3)
		o.Listeners[0] = flaky
	})
	if _, body := r.get("/"); body != "ok" {
		t.Errorf("body %q", body)
	}
	if n := strings.Count(r.logs.String(), "cannot accept"); n != 3 {
		t.Errorf("%d warnings", n)
	}
}

func TestAListenerThatFailsEndsServe(t *testing.T) {
	r := serve(t, modes[0], func(x *exchange.Exchange) { text(x, 200, "ok") })
	r.get("/")
	if err := r.listeners[0].Close(); err != nil { // behind the server's back
		t.Fatal(err)
	}
	if err := <-r.served; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve gave %v", err)
	}
	r.served <- nil
}

func TestSmallCapsServeEveryListener(t *testing.T) {
	var second net.Listener
	r := serve(t, modes[0], func(x *exchange.Exchange) { text(x, 200, "ok") }, func(o *Options) {
		var err error
		if second, err = Listen("127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		o.Listeners = append(o.Listeners, second)
		o.MaxConns = 1
	})
	for range 3 {
		for _, addr := range []string{r.addr, second.Addr().String()} {
			r.addr = addr
			if answer := r.raw("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); !strings.HasSuffix(answer, "ok") {
				t.Errorf("%s: %q", addr, answer)
			}
		}
	}
}

func TestIPv6AddressesCountByTheirNetwork(t *testing.T) {
	c := newCaps(0, 1)
	a, b := &place{caps: c}, &place{caps: c}
	if !a.enterAddr(mustAddr("2001:db8::1")) || b.enterAddr(mustAddr("2001:db8::2")) || !b.enterAddr(mustAddr("2001:db8:0:1::1")) {
		t.Error("a /64 is not one client")
	}
	for range 2 {
		if !c.acquire(nil) {
			t.Fatal("no cap, and no place")
		}
	}
	a.leave()
	b.leave()
	if len(c.addrs) != 0 || c.open() != 0 {
		t.Errorf("left behind: %v, %d", c.addrs, c.open())
	}
}

// A proxy that speaks the PROXY protocol before each connection.
func proxied(t *testing.T, r *running, header []byte, pieces int) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	size := max((len(header)+pieces-1)/max(pieces, 1), 1)
	for len(header) > 0 {
		n := min(size, len(header))
		if _, err := c.Write(header[:n]); err != nil {
			t.Fatal(err)
		}
		header = header[n:]
	}
	return c
}

func proxyHeader(t *testing.T, version byte, source string) []byte {
	t.Helper()
	h := &proxyproto.Header{Version: version, Command: proxyproto.PROXY, TransportProtocol: proxyproto.TCPv4,
		SourceAddr:      net.TCPAddrFromAddrPort(mustAddrPort(source)),
		DestinationAddr: net.TCPAddrFromAddrPort(mustAddrPort("198.51.100.7:443"))}
	b, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTheProxyProtocolTellsTheClient(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		r := serve(t, m, func(x *exchange.Exchange) {
			text(x, 200, fmt.Sprint(x.Client, " ", x.Peer, " ", x.LocalName, ":", x.LocalPort, " ", len(x.Field("x-forwarded-for"))))
		}, trust("127.0.0.1"), func(o *Options) { o.ProxyProtocol = true })
		transport := r.transport()
		for _, version := range []byte{1, 2} {
			transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
				return proxied(t, r, proxyHeader(t, version, "203.0.113.1:4711"), 1), nil
			}
			r.client.Transport = transport
			_, body := r.get("/", "X-Forwarded-For: 1.2.3.4") // of the client, who is no proxy
			if want := "203.0.113.1:4711 203.0.113.1 198.51.100.7:443 0"; body != want {
				t.Errorf("version %d: %s, want %s", version, body, want)
			}
			transport.CloseIdleConnections()
		}
	})
}

func TestHardeningTheProxyProtocolIsMandatoryAndForListedPeersOnly(t *testing.T) {
	const request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	refused := func(t *testing.T, r *running, header string, pieces int) {
		t.Helper()
		answer, err := io.ReadAll(proxied(t, r, []byte(header), pieces))
		if len(answer) > 0 || err != nil && !isReset(err) {
			t.Errorf("%.40q: answered %q, %v", header, answer, err)
		}
	}
	handler := func(x *exchange.Exchange) { text(x, 200, x.Client.String()) }
	t.Run("listed", func(t *testing.T) {
		r := serve(t, modes[0], handler, trust("127.0.0.1"), func(o *Options) { o.ProxyProtocol, o.ProxyTimeout = true, 200*time.Millisecond })
		for _, header := range []string{
			request,                  // none
			"",                       // nothing at all: the second passes
			"PROXY TCP4 203.0.113.1", // not to its end
			"PROXY nonsense\r\n",     //
			"PROXY TCP4 1.2.3.4 x 1 2\r\n" + request,
			"PROXY " + strings.Repeat("x", 200) + "\r\n" + request,
			"\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff" + request, // 64 KiB of TLVs
		} {
			refused(t, r, header, 1)
		}
		c := proxied(t, r, append(proxyHeader(t, 1, "203.0.113.9:1"), request...), 1)
		if answer, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(answer), "203.0.113.9:1") {
			t.Errorf("%q %v", answer, err)
		}
		c = proxied(t, r, append(proxyHeader(t, 2, "203.0.113.9:1"), request...), 9) // in small pieces
		if answer, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(answer), "203.0.113.9:1") {
			t.Errorf("in pieces: %q %v", answer, err)
		}
	})
	t.Run("not listed", func(t *testing.T) {
		r := serve(t, modes[0], handler, trust("10.0.0.0/8"), func(o *Options) { o.ProxyProtocol = true })
		for range 3 {
			refused(t, r, string(proxyHeader(t, 1, "203.0.113.1:1"))+request, 1)
		}
		eventually(t, "the operator is told", func() bool { return strings.Contains(r.logs.String(), "server.trusted_proxies") })
		if n := strings.Count(r.logs.String(), "server.trusted_proxies"); n != 1 {
			t.Errorf("told %d times", n)
		}
	})
	t.Run("unknown client", func(t *testing.T) {
		r := serve(t, modes[0], handler, trust("127.0.0.1"), func(o *Options) { o.ProxyProtocol = true })
		c := proxied(t, r, []byte("PROXY UNKNOWN\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Forwarded-For: 203.0.113.1\r\n\r\n"), 1)
		if answer, err := io.ReadAll(c); err != nil || strings.Contains(string(answer), "203.0.113.1") {
			t.Errorf("a client that the proxy does not know is believed: %q %v", answer, err)
		}
	})
	t.Run("no proxies", func(t *testing.T) {
		l, err := Listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() //nolint:errcheck // of the test
		if _, err := New(Options{Listeners: []net.Listener{l}, Handler: exchange.HandlerFunc(handler), ProxyProtocol: true}); err == nil {
			t.Error("PROXY protocol without a list of proxies was accepted")
		}
	})
}

func TestHardeningASlowTLSHandshakeIsCut(t *testing.T) {
	r := serve(t, modes[1], func(x *exchange.Exchange) { text(x, 200, "") }, func(o *Options) { o.TLS.HandshakeTimeout = 200 * time.Millisecond })
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // of the test
	if _, err := c.Write([]byte{0x16, 3, 1}); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection stays open")
	}
}

func TestPlainHTTPOnATLSListenerIsToldSo(t *testing.T) {
	r := serve(t, modes[1], func(x *exchange.Exchange) { text(x, 200, "served") }, func(o *Options) { o.HSTS = time.Hour })
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\nContent-Length: 3\r\n\r\nabc",
	} {
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close() //nolint:errcheck // of the test
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(c)
		if answer := string(b); err != nil || !strings.HasPrefix(answer, "HTTP/1.1 400 ") || !strings.Contains(answer, `"code":"tls_required"`) ||
			!strings.Contains(answer, "Connection: close") || strings.Contains(answer, "Strict-Transport-Security") {
			t.Errorf("%q %v", answer, err)
		}
	}
	if _, body := r.get("/"); body != "served" {
		t.Errorf("over TLS: %q", body)
	}
}

func TestCertificatesAreReadAgainWhenTheyChange(t *testing.T) {
	dir := t.TempDir()
	r := serve(t, modes[1], func(x *exchange.Exchange) { text(x, 200, "") }, func(o *Options) { o.TLS = certificateFiles(t, dir, "first.test") })
	name := func() string {
		c, err := tls.Dial("tcp", r.addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close() //nolint:errcheck // of the test
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := name(); got != "first.test" {
		t.Fatalf("certificate of %s", got)
	}
	files := certificateFiles(t, dir, "second.test")
	eventually(t, "the new certificate is used", func() bool { return name() == "second.test" })
	// A key that does not fit leaves the old pair in use, and is told once.
	if err := os.WriteFile(files.KeyFile, []byte("half written"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the failure is logged", func() bool {
		if got := name(); got != "second.test" {
			t.Errorf("certificate of %s", got)
		}
		return strings.Contains(r.logs.String(), "not renewed")
	})
	if err := r.ReloadTLS(); err == nil {
		t.Error("reload on demand says nothing of the broken key")
	}
	certificateFiles(t, dir, "third.test")
	if err := r.ReloadTLS(); err != nil || name() != "third.test" {
		t.Errorf("reload on demand: %v, %s", err, name())
	}
	if n := strings.Count(r.logs.String(), "not renewed"); n != 1 {
		t.Errorf("the failure was logged %d times", n)
	}
}

func TestHTTP2IsOfferedOnDemandOnly(t *testing.T) {
	handler := func(x *exchange.Exchange) { text(x, 200, x.Version.String()) }
	r := serve(t, modes[1], handler, func(o *Options) { o.NoHTTP2 = true })
	c, err := tls.Dial("tcp", r.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // of the test
	if p := c.ConnectionState().NegotiatedProtocol; p != "http/1.1" {
		t.Errorf("agreed on %q", p)
	}
	plain := serve(t, modes[0], handler)
	if answer := plain.raw(preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"); strings.HasPrefix(answer, "\x00") || strings.Contains(answer, "HTTP/1.1 200") {
		t.Errorf("h2c without being asked for: %q", answer)
	}
	// With h2c both are spoken on one port, however slowly the first bytes come.
	both := serve(t, modes[3], handler)
	both.get("/")
	conn := both.dial()
	for _, piece := range []string{"P", "R", "OPFIND / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"} {
		if _, err := io.WriteString(conn, piece); err != nil {
			t.Fatal(err)
		}
	}
	if answer, err := io.ReadAll(conn); err != nil || !strings.HasSuffix(string(answer), "HTTP/1.1") {
		t.Errorf("%q %v", answer, err)
	}
}

func TestHardeningASilentClientOfH2CIsCut(t *testing.T) {
	r := serve(t, modes[3], func(x *exchange.Exchange) { text(x, 200, "") }, func(o *Options) { o.Limits.KeepAlive = 200 * time.Millisecond })
	c := r.dial()
	if _, err := io.WriteString(c, "PRI * HT"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection stays open")
	}
}

func TestDrainEndsIdleConnectionsAndWaitsForRequests(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		entered, release := make(chan struct{}), make(chan struct{})
		r := serve(t, m, func(x *exchange.Exchange) {
			if string(x.Path) == "/slow" {
				close(entered)
				<-release
			}
			text(x, 200, "whole")
		})
		r.get("/") // leaves an idle connection behind
		result := make(chan string, 1)
		go func() {
			resp, err := r.client.Get(r.url("/slow"))
			if err != nil {
				result <- err.Error()
				return
			}
			defer resp.Body.Close() //nolint:errcheck // of the test
			body, err := io.ReadAll(resp.Body)
			result <- fmt.Sprint(string(body), err)
		}()
		<-entered
		short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		if err := r.Drain(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("draining with a request under way gave %v", err)
		}
		if c, err := net.DialTimeout("tcp", r.addr, time.Second); err == nil {
			_ = c.Close()
			t.Error("a new connection was taken while draining")
		}
		close(release)
		if got := <-result; got != "whole<nil>" {
			t.Errorf("the request under way got %q", got)
		}
		long, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := r.Drain(long); err != nil {
			t.Errorf("draining gave %v", err)
		}
		if n := r.Connections(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
}

func TestStoppingEndsConnectionsThatHaveLeftHTTP(t *testing.T) {
	entered := make(chan struct{})
	r := serve(t, modes[0], func(x *exchange.Exchange) {
		c, _, err := x.Answer.(exchange.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close() //nolint:errcheck // of the test
		close(entered)
		_, _ = io.Copy(io.Discard, c) // as a proxied WebSocket does
	})
	c := r.dial()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-entered
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := r.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("draining did not wait for it: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
}

func TestCloseCutsWhatIsUnderWay(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		entered := make(chan struct{})
		r := serve(t, m, func(x *exchange.Exchange) {
			close(entered)
			for x.Gone() != exchange.Closed {
				x.Wait()
			}
		})
		result := make(chan error, 1)
		go func() {
			resp, err := r.client.Get(r.url("/"))
			if err == nil {
				_ = resp.Body.Close()
			}
			result <- err
		}()
		<-entered
		if err := r.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-result; err == nil {
			t.Error("the request was answered")
		}
	})
}
