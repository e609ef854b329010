package observe

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/guado-server/guado/internal/exchange"
)

// listening serves the endpoints on a socket of their own.
func listening(t *testing.T, network, address string, h *Health) *Server {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(context.Background(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	s := Serve(l, Endpoints(NewMetrics("1", func() State { return State{} }), h), slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func asked(t *testing.T, s *Server, path, host string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.listener.Addr().String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func TestReadySaysWhatIsMissingAndLiveDoesNotCare(t *testing.T) {
	missing := []string{"group shop has no worker that is ready"}
	h := NewHealth(func() []string { return missing })
	s := listening(t, "tcp", "127.0.0.1:0", h)
	if status, text := asked(t, s, "/readyz", ""); status != 503 || !strings.Contains(text, "group shop") {
		t.Errorf("%d %q", status, text)
	}
	if status, _ := asked(t, s, "/livez", ""); status != 200 {
		t.Errorf("live: %d", status)
	}
	missing = nil
	if status, text := asked(t, s, "/readyz", ""); status != 200 || text != "ok\n" {
		t.Errorf("%d %q", status, text)
	}
	h.Drain()
	if status, text := asked(t, s, "/readyz", ""); status != 503 || !strings.Contains(text, "stopping") {
		t.Errorf("draining: %d %q", status, text)
	}
	if status, _ := asked(t, s, "/livez", ""); status != 200 {
		t.Errorf("live while draining: %d", status)
	}
	if status, text := asked(t, s, "/metrics", ""); status != 200 || !strings.Contains(text, "guado_build_info") {
		t.Errorf("metrics: %d", status)
	}
}

func TestALoopbackListenerAnswersNoForeignName(t *testing.T) {
	s := listening(t, "tcp", "127.0.0.1:0", NewHealth(func() []string { return nil }))
	for host, want := range map[string]int{
		"evil.example": 403, "evil.example:9464": 403, "127.0.0.1.evil.example": 403, "localhost.evil.example": 403,
		"localhost": 200, "localhost:9464": 200, "127.0.0.1:1": 200, "[::1]:1": 200, "[::1]": 200,
	} {
		if status, _ := asked(t, s, "/metrics", host); status != want {
			t.Errorf("%s: %d, want %d", host, status, want)
		}
	}
}

func TestProbesStandInFrontOfEveryMountWhereTheyAreNamed(t *testing.T) {
	h := NewHealth(func() []string { return []string{"a secret reason"} })
	served := 0
	next := exchange.HandlerFunc(func(*exchange.Exchange) { served++ })
	guard := h.Guard(Paths{Ready: "/up"}, next)
	ask := func(path string) *recorded {
		a := &recorded{}
		x := exchange.New()
		x.Path, x.Answer = []byte(path), a
		guard.Serve(x)
		return a
	}
	if a := ask("/up"); a.status != 503 || strings.Contains(a.body, "secret") || served != 0 {
		t.Errorf("%d %q", a.status, a.body)
	}
	for _, path := range []string{"/", "/upper", "/up/", "/readyz", "/livez", ""} {
		ask(path)
	}
	if served != 6 {
		t.Errorf("%d of 6 went on to the mounts", served)
	}
}

// recorded is an answer that is kept.
type recorded struct {
	exchange.Answer
	status int
	body   string
}

func (a *recorded) Head(h exchange.Head) error { a.status = h.Status; return nil }

func (a *recorded) Write(p []byte) (int, error) { a.body += string(p); return len(p), nil }
