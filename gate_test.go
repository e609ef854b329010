package guado_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/guado-server/guado"
)

func TestMaintenanceAnswers503ButForThoseWhoPass(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long: make test runs it")
	}
	dir := t.TempDir()
	flag := filepath.Join(dir, "closed")
	page := write(t, dir, "page.html", "<h1>Back at noon</h1>")
	onEachLane(t, func(s *site, c *guado.Config) {
		_ = os.Remove(flag) // of the lane before
		c.Server.TrustedProxies = []string{"127.0.0.1"}
		c.Server.Maintenance.Flag, c.Server.Maintenance.Page = flag, page
		c.Server.Maintenance.Allow, c.Server.Maintenance.Except = []string{"10.0.0.0/8"}, []string{"/static"}
		s.Mount("/", says("open"))
	}, func(t *testing.T, s *site, c *http.Client) {
		closed := func() {
			t.Helper()
			res, body := ask(t, c, "GET", s.url+"/", nil, "Accept", "text/html,*/*")
			expect(t, res, body, 503, "Back at noon")
			if res.Header.Get("Retry-After") != "300" || res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("X-Request-Id") == "" {
				t.Errorf("fields of the page: %v", res.Header)
			}
			res, body = ask(t, c, "GET", s.url+"/", nil, "Accept", "application/json")
			expect(t, res, body, 503, `"code":"maintenance"`)
			res, body = ask(t, c, "GET", s.url+"/", nil, "X-Forwarded-For", "10.1.1.1")
			expect(t, res, body, 200, "open")
			res, body = ask(t, c, "GET", s.url+"/static/x.css", nil)
			expect(t, res, body, 200, "open")
			res, body = ask(t, c, "GET", s.url+"/statically", nil)
			expect(t, res, body, 503, "maintenance")
		}
		open := func() {
			t.Helper()
			// The flag file is looked for once a second.
			deadline := time.Now().Add(patience)
			for {
				res, body := ask(t, c, "GET", s.url+"/", nil)
				if res.StatusCode == 200 || time.Now().After(deadline) {
					expect(t, res, body, 200, "open")
					return
				}
			}
		}
		open()
		if err := s.SetMaintenance(true); err != nil {
			t.Fatal(err)
		}
		closed()
		if st := s.Gate(); !st.Maintenance || st.Flag || st.Refused == 0 {
			t.Errorf("status %+v", st)
		}
		if err := s.SetMaintenance(false); err != nil {
			t.Fatal(err)
		}
		open()
		write(t, dir, "closed", "")
		deadline := time.Now().Add(patience)
		for !s.Gate().Maintenance && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
		}
		closed()
		if err := os.Remove(flag); err != nil {
			t.Fatal(err)
		}
		open()
	})
}

// paced is a server whose requests to /slow wait for release, and the answers of those
// that were posted to it.
type paced struct {
	t       *testing.T
	s       *site
	c       *http.Client
	served  *atomic.Int32
	release chan struct{}
	answers chan string
}

func onEachPacedLane(t *testing.T, body func(p *paced)) {
	t.Helper()
	var p *paced
	onEachLane(t, func(s *site, _ *guado.Config) {
		p = &paced{s: s, served: new(atomic.Int32), release: make(chan struct{}), answers: make(chan string, 16)}
		served, release := p.served, p.release
		s.Mount("/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			served.Add(1)
			if r.URL.Path == "/slow" {
				<-release
			}
			_, _ = io.Copy(w, r.Body)
		}))
	}, func(t *testing.T, _ *site, c *http.Client) {
		p.t, p.c = t, c
		body(p)
	})
}

// post sends a request; its answer comes to answers.
func (p *paced) post(path, text string) {
	go func() {
		r, err := http.NewRequestWithContext(p.t.Context(), "POST", p.s.url+path, strings.NewReader(text))
		if err != nil {
			p.answers <- err.Error()
			return
		}
		res, err := p.c.Do(r)
		if err != nil {
			p.answers <- err.Error()
			return
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close() // it was read
		if err != nil {
			p.answers <- err.Error()
			return
		}
		p.answers <- fmt.Sprint(res.StatusCode, " ", string(body))
	}()
}

func (p *paced) await(what string, ok func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("%s: %+v", what, p.s.Gate())
		}
	}
}

func TestAPauseWaitsForWhatWasThereAndHoldsWhatComes(t *testing.T) {
	onEachPacedLane(t, func(p *paced) {
		t := p.t
		p.post("/slow", "before")
		p.await("the slow request", func() bool { return p.served.Load() == 1 })
		paused := make(chan error, 1)
		go func() { paused <- p.s.Pause(t.Context(), guado.Hold{Requests: 3, Wait: time.Hour}) }()
		p.await("the pause", func() bool { return p.s.Gate().Paused })
		select {
		case err := <-paused:
			t.Fatalf("Pause did not wait for the request under way: %v", err)
		default:
		}
		close(p.release)
		if err := <-paused; err != nil {
			t.Fatal(err)
		}
		if got := <-p.answers; got != "200 before" {
			t.Errorf("the request from before: %q", got)
		}
		if err := p.s.Pause(t.Context(), guado.Hold{}); err == nil {
			t.Error("a second pause began")
		}
		for i := range 3 {
			p.post("/", fmt.Sprint("held ", i))
		}
		p.await("three held requests", func() bool { return p.s.Gate().Held == 3 })
		res, body := ask(t, p.c, "GET", p.s.url+"/", nil)
		expect(t, res, body, 503, "paused")
		if res.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		if n := p.served.Load(); n != 1 {
			t.Errorf("%d requests reached the application before the pause ended", n)
		}
		if !p.s.Resume() || p.s.Resume() {
			t.Error("Resume ends one pause")
		}
		got := map[string]bool{}
		for range 3 {
			got[<-p.answers] = true
		}
		for i := range 3 {
			if !got[fmt.Sprint("200 held ", i)] {
				t.Errorf("answers %v", got)
			}
		}
	})
}

func TestAPauseHoldsNobodyOverItsTime(t *testing.T) {
	onEachPacedLane(t, func(p *paced) {
		t := p.t
		if err := p.s.Pause(t.Context(), guado.Hold{Wait: time.Millisecond}); err != nil {
			t.Fatal(err)
		}
		res, body := ask(t, p.c, "GET", p.s.url+"/", nil)
		expect(t, res, body, 503, "paused")
		p.s.Resume()
		res, body = ask(t, p.c, "GET", p.s.url+"/", nil)
		expect(t, res, body, 200, "")
		if st := p.s.Gate(); st.Held != 0 || st.Paused {
			t.Errorf("after all: %+v", st)
		}
	})
}

func TestAStopDoesNotLetGoWhatAPauseHolds(t *testing.T) {
	onEachLane(t, func(s *site, _ *guado.Config) { s.Mount("/", says("ran")) }, func(t *testing.T, s *site, c *http.Client) {
		if err := s.Pause(t.Context(), guado.Hold{}); err != nil {
			t.Fatal(err)
		}
		answer := make(chan string, 1)
		go func() {
			res, body := ask(t, c, "GET", s.url+"/", nil)
			answer <- fmt.Sprint(res.StatusCode, " ", body)
		}()
		for deadline := time.Now().Add(patience); s.Gate().Held == 0 && time.Now().Before(deadline); {
			time.Sleep(5 * time.Millisecond)
		}
		if err := s.end(); err != nil {
			t.Error(err)
		}
		if got := <-answer; !strings.HasPrefix(got, "503 ") || !strings.Contains(got, "paused") {
			t.Errorf("the held request: %q", got)
		}
	})
}
