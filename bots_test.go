package guado_test

import (
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// bots send n requests over some connections that stay open, without ever keeping a cookie.
func (s *site) bots(n int, method, path, body string) {
	s.t.Helper()
	const connections = 32
	transport := &http.Transport{MaxConnsPerHost: connections, MaxIdleConnsPerHost: connections}
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport, Timeout: patience}
	var left atomic.Int64
	left.Store(int64(n))
	var wait sync.WaitGroup
	for range connections {
		wait.Go(func() {
			for left.Add(-1) >= 0 {
				r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
				if err != nil {
					s.t.Error(err)
					return
				}
				res, err := c.Do(r)
				if err != nil {
					s.t.Error(err)
					return
				}
				_, err = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close() // it was read
				if err != nil || res.StatusCode != 200 {
					s.t.Errorf("%s %s: %s %v", method, path, res.Status, err)
					return
				}
			}
		})
	}
	wait.Wait()
}

// kept is what the process has on its heap when all has settled.
func kept() int64 {
	var m runtime.MemStats
	for range 3 { // pools keep what they hold for a round
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func (s *site) awaitNobody(what string, n func() int) {
	s.t.Helper()
	eventually(s.t, "no "+what+" is left", func() bool { return n() == 0 })
}

// botsCome lets n come, a third of which ask for a page and never for another thing.
func botsCome(t *testing.T, n int) {
	t.Helper()
	const newPages, connections = 500, 1000
	s := pagesSite(t, t.TempDir(), "target = \"pages_classes:app\"\n[push]\nnew_pages = 500\n[identity]\nmax_connections = 1000\n")
	comeAndGo := func(n int) {
		made := s.Status().Identity.Made
		s.bots(n-n/3, "GET", "/", "")
		if now := s.Status().Identity.Made; now != made {
			t.Errorf("requests of nobody have made %d connections", now-made)
		}
		s.bots(n/3, "POST", "/_guado/page", `{"class":"Board","args":{"a":"`+strings.Repeat("x", 100)+`"}}`)
		if st := s.Status(); st.Push.Pages > newPages || st.Identity.Connections > connections {
			t.Errorf("%d bots who asked for a page have %d pages and %d connections", n/3, st.Push.Pages, st.Identity.Connections)
		}
		s.Advance(61 * time.Second)
		s.awaitNobody("page", func() int { return s.Status().Push.Pages })
		s.Advance(time.Hour)
		s.awaitNobody("connection", func() int { return s.Status().Identity.Connections })
	}
	comeAndGo(200)
	routines, memory := runtime.NumGoroutine(), kept()
	began := time.Now()
	comeAndGo(n)
	t.Logf("%d requests in %v", n, time.Since(began))
	if st := s.Status(); st.Identity.Users != 0 || st.Push.Users != 0 || st.Push.Connected != 0 || st.Push.TailBytes != 0 || st.Push.Turns != 0 {
		t.Errorf("left over: %+v %+v", st.Identity, st.Push)
	}
	eventually(t, "the goroutines of the connections have ended", func() bool { return runtime.NumGoroutine() <= routines })
	if now := kept(); now > memory+512<<10 {
		t.Errorf("%d KiB are kept of %d bots, after %d KiB before they came", (now-memory)>>10, n, memory>>10)
	} else {
		t.Logf("%d KiB before, %d KiB after", memory>>10, now>>10)
	}
}

func TestBotsWithoutCookiesLeaveMemoryAsItWas(t *testing.T) { botsCome(t, 10_000) }

func TestSoakBotsWithoutCookiesLeaveMemoryAsItWas(t *testing.T) {
	if os.Getenv("GUADO_SOAK") == "" {
		t.Skip("make soak runs it")
	}
	botsCome(t, 100_000)
}
