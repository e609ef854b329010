package gohandler_test

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/edge"
	"github.com/guado-server/guado/internal/gohandler"
	"github.com/guado-server/guado/internal/route"
	"github.com/guado-server/guado/test/harness"
	"github.com/guado-server/guado/test/harness/edgetest"
)

const patience = 10 * time.Second

// site is a handler behind a real edge, and a client in one version of HTTP.
type site struct {
	address string
	client  *http.Client
	log     *harness.Log
}

func (s *site) url(path string) string { return "http://" + s.address + path }

func start(t *testing.T, h2 bool, mount string, h http.HandlerFunc) *site {
	t.Helper()
	s := &site{log: &harness.Log{}}
	log := slog.New(slog.NewTextHandler(s.log, nil))
	table, err := route.New([]route.Mount{{Name: "go", Path: mount, Handler: gohandler.Wrap(h, log)}})
	if err != nil {
		t.Fatal(err)
	}
	s.address = edgetest.Serve(t, edge.Options{Handler: table, H2C: true, Log: log})
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!h2)
	protocols.SetUnencryptedHTTP2(h2)
	transport := &http.Transport{Protocols: protocols, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	s.client = &http.Client{Transport: transport, Timeout: patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return s
}

// onEach runs a test over each version of HTTP.
func onEach(t *testing.T, f func(t *testing.T, h2 bool)) {
	for name, h2 := range map[string]bool{"http1": false, "http2": true} {
		t.Run(name, func(t *testing.T) { f(t, h2) })
	}
}

func (s *site) get(t *testing.T, path string) (*http.Response, string) {
	t.Helper()
	res, err := s.client.Get(s.url(path))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

func (s *site) dial(t *testing.T, text string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}
