package edge

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/test/harness"
)

const patience = 10 * time.Second

// mode is a lane as a client meets it.
type mode struct {
	name  string
	tls   bool
	h2    bool
	proto string
}

var modes = []mode{
	{name: "HTTP/1.1", proto: "HTTP/1.1"},
	{name: "HTTP/1.1 over TLS", tls: true, proto: "HTTP/1.1"},
	{name: "HTTP/2 over TLS", tls: true, h2: true, proto: "HTTP/2.0"},
	{name: "HTTP/2 by prior knowledge", h2: true, proto: "HTTP/2.0"},
}

// inEveryLane runs one test body in each mode.
func inEveryLane(t *testing.T, body func(t *testing.T, m mode)) {
	t.Helper()
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) { body(t, m) })
	}
}

// running is a served edge, and a client that speaks to it in one mode.
type running struct {
	*Server
	t      *testing.T
	mode   mode
	addr   string
	client *http.Client
	logs   *harness.Log
	served chan error
}

// serve starts an edge in a mode and stops it with the test.
func serve(t *testing.T, m mode, h exchange.HandlerFunc, change ...func(*Options)) *running {
	t.Helper()
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	logs := &harness.Log{}
	o := Options{
		Listeners: []net.Listener{l}, Handler: h, H2C: m.h2 && !m.tls,
		Log: slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if m.tls {
		o.TLS = certificateFiles(t, t.TempDir(), "first.test")
	}
	for _, c := range change {
		c(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{Server: s, t: t, mode: m, addr: o.Listeners[0].Addr().String(), logs: logs, served: make(chan error, 1)}
	go func() { r.served <- s.Serve() }()
	transport := r.transport()
	r.client = &http.Client{Transport: transport, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-r.served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if n := s.Connections(); n != 0 {
			t.Errorf("%d connections are still counted after Close", n)
		}
	})
	return r
}

func (r *running) transport() *http.Transport {
	var p http.Protocols
	p.SetHTTP1(!r.mode.h2)
	p.SetHTTP2(r.mode.h2 && r.mode.tls)
	p.SetUnencryptedHTTP2(r.mode.h2 && !r.mode.tls)
	return &http.Transport{
		Protocols: &p, DisableCompression: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", r.addr)
		},
	}
}

func (r *running) url(path string) string {
	scheme := "http"
	if r.mode.tls {
		scheme = "https"
	}
	return scheme + "://" + r.addr + path
}

// do sends a request and reads the whole answer.
func (r *running) do(req *http.Request) (*http.Response, string) {
	r.t.Helper()
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatalf("%s %s: %v\n%s", req.Method, req.URL, err, r.logs)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatalf("%s %s: reading the body: %v\n%s", req.Method, req.URL, err, r.logs)
	}
	if resp.Proto != r.mode.proto {
		r.t.Errorf("answered in %s, want %s", resp.Proto, r.mode.proto)
	}
	return resp, string(body)
}

func (r *running) request(method, path string, body io.Reader, fields ...string) *http.Request {
	r.t.Helper()
	req, err := http.NewRequest(method, r.url(path), body)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		if strings.EqualFold(name, "host") {
			req.Host = value
			continue
		}
		req.Header[name] = append(req.Header[name], value)
	}
	return req
}

func (r *running) get(path string, fields ...string) (*http.Response, string) {
	r.t.Helper()
	return r.do(r.request("GET", path, nil, fields...))
}

// dial opens a raw connection, after the TLS handshake where there is TLS.
func (r *running) dial() net.Conn {
	r.t.Helper()
	c, err := net.DialTimeout("tcp", r.addr, patience)
	if err != nil {
		r.t.Fatal(err)
	}
	if r.mode.tls {
		protos := []string{"http/1.1"}
		if r.mode.h2 {
			protos = []string{"h2"}
		}
		tc := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: protos})
		if err := tc.Handshake(); err != nil {
			r.t.Fatal(err)
		}
		c = tc
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

// raw sends bytes on a connection of its own and reads until the server closes it.
func (r *running) raw(request string) string {
	r.t.Helper()
	c := r.dial()
	if _, err := io.WriteString(c, request); err != nil {
		r.t.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil && len(answer) == 0 {
		r.t.Fatalf("reading the answer to %q: %v", request, err)
	}
	return string(answer)
}

// certificateFiles writes a self-signed certificate for name.
func certificateFiles(t *testing.T, dir, name string) *TLSConfig {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c := &TLSConfig{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	for file, block := range map[string]*pem.Block{
		c.CertFile: {Type: "CERTIFICATE", Bytes: der}, c.KeyFile: {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// text answers with a plain body.
func text(x *exchange.Exchange, status int, body string) {
	if err := x.Answer.Head(exchange.Head{Status: status, Length: int64(len(body)), Fields: []exchange.Field{field("Content-Type", "text/plain")}}); err != nil {
		x.Answer.Abort(err)
		return
	}
	if _, err := x.Answer.Write([]byte(body)); err != nil {
		x.Answer.Abort(err)
	}
}

// eventually polls for what has no event.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	harness.Eventually(t, what, patience, condition)
}

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }

func mustAddrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
