package guado_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado"
	"github.com/guado-server/guado/test/harness"
)

// onEachLane runs one server and one test body over each version of HTTP.
func onEachLane(t *testing.T, mount func(s *site, c *guado.Config), body func(t *testing.T, s *site, c *http.Client)) {
	t.Helper()
	for _, lane := range harness.Lanes() {
		t.Run(lane, func(t *testing.T) {
			s, c := newSite(t, "")
			c.Server.H2C = true
			mount(s, c)
			s.run()
			body(t, s, harness.Client(t, lane))
		})
	}
}

// ask sends a request; fields are name and value in turn, "Host" among them.
func ask(t *testing.T, c *http.Client, method, url string, body io.Reader, fields ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		if r.Header.Add(fields[i], fields[i+1]); fields[i] == "Host" {
			r.Host = fields[i+1]
		}
	}
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return res, string(text)
}

// expect fails unless the answer has the status and contains the text.
func expect(t *testing.T, res *http.Response, body string, status int, text string) {
	t.Helper()
	if res.StatusCode != status || !strings.Contains(body, text) {
		t.Errorf("%s %s: %d %.300q, want %d with %q", res.Request.Method, res.Request.URL, res.StatusCode, body, status, text)
	}
}

func says(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAMountMayBeForSomeAddressesOnly(t *testing.T) {
	onEachLane(t, func(s *site, c *guado.Config) {
		c.Server.TrustedProxies = []string{"127.0.0.1"}
		s.Mount("/", says("welcome"))
		s.Mount("/inside", says("welcome"), func(m *guado.MountConfig) {
			m.Allow, m.Deny = []string{"10.0.0.0/8", "2001:db8::/32"}, []string{"10.1.0.0/16"}
		})
		s.Mount("/outside", says("welcome"), func(m *guado.MountConfig) {
			m.Deny, m.Allow = []string{"10.0.0.0/8"}, []string{"10.1.2.3", "all"}
		})
	}, func(t *testing.T, s *site, c *http.Client) {
		for _, x := range []struct {
			path, client string
			in           bool
		}{
			{"/", "192.0.2.1", true},
			{"/inside", "10.2.0.1", true},
			{"/inside", "10.1.0.1", false}, // an exception
			{"/inside", "192.0.2.1", false},
			{"/inside", "2001:db8::1", true},
			{"/inside", "::ffff:10.2.0.1", true}, // an IPv4 address in its other clothes
			{"/inside/below", "192.0.2.1", false},
			{"/outside", "10.2.0.1", false},
			{"/outside", "10.1.2.3", true}, // an exception to an exception
			{"/outside", "192.0.2.1", true},
		} {
			res, body := ask(t, c, "GET", s.url+x.path, nil, "X-Forwarded-For", x.client)
			if x.in {
				expect(t, res, body, 200, "welcome")
			} else {
				expect(t, res, body, 403, "address_not_allowed")
			}
		}
		// What a client says of itself before the proxy does is not believed.
		res, body := ask(t, c, "GET", s.url+"/inside", nil, "X-Forwarded-For", "10.2.0.1, 192.0.2.1")
		expect(t, res, body, 403, "address_not_allowed")
	})
}

func TestFieldsOfAnswersAreSetAddedAndRemoved(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Frame-Options", "ALLOWALL")
		w.Header().Set("X-Powered-By", "steam")
		w.Header().Add("Link", "</own>; rel=next")
		if code, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/")); err == nil {
			w.WriteHeader(code)
			return
		}
		panic("as asked")
	})
	policy := func(when string) guado.MountOption {
		return func(m *guado.MountConfig) {
			m.SetHeaders = map[string]string{"x-frame-options": "DENY"}
			m.AddHeaders = map[string]string{"Link": "</added>; rel=help"}
			m.RemoveHeaders, m.HeadersWhen = []string{"x-powered-by"}, when
		}
	}
	onEachLane(t, func(s *site, _ *guado.Config) {
		s.Mount("/always", handler, policy("always"))
		s.Mount("/success", handler, policy("success"))
		s.Mount("/plain", handler)
	}, func(t *testing.T, s *site, c *http.Client) {
		for path, changed := range map[string]bool{
			"/always/200": true, "/always/404": true, "/always/panic": true,
			"/success/200": true, "/success/204": true, "/success/302": true, "/success/404": false, "/success/500": false,
			"/success/panic": false, "/plain/200": false,
		} {
			res, _ := ask(t, c, "GET", s.url+path, nil)
			own := !strings.HasSuffix(path, "/panic") // there the page is the host's
			links := strings.Join(res.Header.Values("Link"), " ")
			if got := res.Header.Values("X-Frame-Options"); changed != (len(got) == 1 && got[0] == "DENY") {
				t.Errorf("%s: X-Frame-Options %q", path, got)
			}
			if changed != strings.Contains(links, "added") || own != strings.Contains(links, "own") {
				t.Errorf("%s: Link %q", path, links)
			}
			if got := res.Header.Get("X-Powered-By"); (got == "") != (changed || !own) {
				t.Errorf("%s: X-Powered-By %q", path, got)
			}
		}
	})
}

func TestBodyLimitsAreEachMountsOwn(t *testing.T) {
	size := func(n int) *guado.Size { s := guado.Size(n); return &s }
	reads := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		_, _ = fmt.Fprintf(w, "read %d", n)
	})
	onEachLane(t, func(s *site, c *guado.Config) {
		c.Server.Limits.Body = 10_000
		behind := httptest.NewServer(reads)
		t.Cleanup(behind.Close)
		s.Mount("/", reads)
		s.Mount("/more", reads, func(m *guado.MountConfig) { m.BodyLimit = size(1_000_000) })
		s.Mount("/less", reads, func(m *guado.MountConfig) { m.BodyLimit = size(1_000) })
		s.Mount("/upstream", guado.Upstream(behind.URL), func(m *guado.MountConfig) { m.BodyLimit = size(1_000) })
	}, func(t *testing.T, s *site, c *http.Client) {
		for _, x := range []struct {
			path  string
			limit int
		}{{"/", 10_000}, {"/more", 1_000_000}, {"/less", 1_000}, {"/upstream", 1_000}} {
			for _, known := range []bool{true, false} {
				for _, n := range []int{x.limit, x.limit + 1} {
					var body io.Reader = strings.NewReader(strings.Repeat("x", n))
					if !known {
						body = io.MultiReader(body) // hides its length
					}
					res, text := ask(t, c, "POST", s.url+x.path, body)
					if n == x.limit {
						expect(t, res, text, 200, fmt.Sprint("read ", n))
					} else {
						expect(t, res, text, 413, "")
					}
				}
			}
		}
	})
}

func TestRequestsOfOneAddressAreLimited(t *testing.T) {
	onEachLane(t, func(s *site, c *guado.Config) {
		c.Server.TrustedProxies = []string{"127.0.0.1"}
		c.Server.RateLimit, c.Server.RateExempt = "6/h", []string{"10.9.0.0/16"}
		s.Mount("/", says("served"))
		s.Mount("/login", says("served"), func(m *guado.MountConfig) { m.RateLimit, m.RateBurst = "1/h", 2 })
	}, func(t *testing.T, s *site, c *http.Client) {
		from := func(client, path string, want ...int) {
			t.Helper()
			for i, status := range want {
				res, body := ask(t, c, "GET", s.url+path, nil, "X-Forwarded-For", client)
				if res.StatusCode != status {
					t.Errorf("request %d of %s to %s: %d %q, want %d", i+1, client, path, res.StatusCode, body, status)
				}
				if status == 429 {
					expect(t, res, body, 429, "rate_limited")
					if n, err := strconv.Atoi(res.Header.Get("Retry-After")); err != nil || n < 1 || n > 3600 {
						t.Errorf("Retry-After: %q", res.Header.Get("Retry-After"))
					}
				}
			}
		}
		from("192.0.2.1", "/login", 200, 200, 429)
		from("192.0.2.1", "/", 200, 200, 200, 429) // all mounts together
		from("192.0.2.2", "/login", 200)           // somebody else
		from("2001:db8::1", "/login", 200)
		from("2001:db8::2", "/login", 200)
		from("2001:db8::3", "/login", 429) // a client has all of its /64
		from("2001:db8:0:1::1", "/login", 200)
		from("10.9.0.1", "/", 200, 200, 200, 200, 200, 200, 200)
	})
}

func TestClientsAreSentToHTTPSAndToTheOneName(t *testing.T) {
	onEachLane(t, func(s *site, c *guado.Config) {
		c.Server.TrustedProxies = []string{"127.0.0.1"}
		c.Server.HTTPSRedirect, c.Server.CanonicalHost = true, "www.example.org"
		s.Mount("/", says("the site"))
		s.Mount("/", says("the shop"), guado.Host("shop.example.org"))
		s.Mount("/", says("a tenant"), guado.Host("*.example.net"))
	}, func(t *testing.T, s *site, c *http.Client) {
		for _, x := range []struct{ scheme, host, target, to string }{
			{"https", "www.example.org", "/", ""},
			{"https", "WWW.example.org.", "/", ""},
			{"https", "shop.example.org", "/", ""},
			{"https", "a.example.net", "/", ""},
			{"http", "www.example.org", "/a%2Fb?c=%20d&e", "https://www.example.org/a%2Fb?c=%20d&e"},
			{"http", "www.example.org:8080", "/", "https://www.example.org/"},
			{"http", "example.org", "/x", "https://www.example.org/x"}, // in one step
			{"https", "example.org", "/x?y", "https://www.example.org/x?y"},
			{"https", "[2001:db8::1]:8443", "/", "https://www.example.org:8443/"},
			{"http", "shop.example.org", "/", "https://shop.example.org/"},
			{"http", "example.org", "/.well-known/acme-challenge/token", ""},
		} {
			for _, method := range []string{"GET", "POST"} {
				res, body := ask(t, c, method, s.url+x.target, nil, "Host", x.host, "X-Forwarded-Proto", x.scheme)
				if x.to == "" {
					expect(t, res, body, 200, "")
				} else if res.StatusCode != 308 || res.Header.Get("Location") != x.to {
					t.Errorf("%s %s://%s%s: %d to %q, want %q", method, x.scheme, x.host, x.target, res.StatusCode, res.Header.Get("Location"), x.to)
				}
			}
		}
	})
}

func TestAForgottenProxyIsTold(t *testing.T) {
	onEachLane(t, func(s *site, _ *guado.Config) { s.Mount("/", says("served")) }, func(t *testing.T, s *site, c *http.Client) {
		ask(t, c, "GET", s.url+"/", nil, "X-Forwarded-Proto", "http")
		if strings.Contains(s.log.String(), "X-Forwarded-Proto") {
			t.Error("what makes no difference is told")
		}
		for range 3 {
			ask(t, c, "GET", s.url+"/", nil, "X-Forwarded-Proto", "https")
		}
		if n := strings.Count(s.log.String(), "X-Forwarded-Proto"); n != 1 {
			t.Errorf("told %d times", n)
		}
		if !strings.Contains(s.log.String(), "peer=127.0.0.1") {
			t.Error("the peer is not named")
		}
	})
}

func TestIdleTimesAreEachMountsOwn(t *testing.T) {
	short := guado.Duration(100 * time.Millisecond)
	idle := func(m *guado.MountConfig) { m.ReadIdle, m.WriteIdle = &short, &short }
	ended := make(chan error, 1)
	reads := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		ended <- err
	})
	writes := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for block := make([]byte, 64<<10); ; {
			if _, err := w.Write(block); err != nil {
				ended <- err
				return
			}
		}
	})
	onEachLane(t, func(s *site, _ *guado.Config) {
		s.Mount("/upload", reads, idle)
		s.Mount("/download", writes, idle)
		s.Mount("/patient", reads)
	}, func(t *testing.T, s *site, c *http.Client) {
		// The server's own times are a minute: only the mount's can end these.
		body, feed := io.Pipe()
		defer func() { _ = feed.Close() }()
		go func() { _, _ = feed.Write([]byte("some of it")) }()
		r, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/upload", body)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if res, err := c.Do(r); err == nil {
				_ = res.Body.Close()
			}
		}()
		select {
		case err := <-ended:
			if err == nil {
				t.Error("a body that stands still was read to its end")
			}
		case <-time.After(patience):
			t.Error("a body that stands still is waited for")
		}
		res, err := c.Get(s.url + "/download") // and never read
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("a client that reads nothing is waited for")
		}
		// The next exchange of a connection has the server's times again.
		ask(t, c, "POST", s.url+"/upload", strings.NewReader("at once"))
		if err := <-ended; err != nil {
			t.Errorf("a body that came at once: %v", err)
		}
		slow, more := io.Pipe()
		go func() {
			_, _ = more.Write([]byte("one"))
			time.Sleep(5 * time.Duration(short))
			_, _ = more.Write([]byte("two"))
			_ = more.Close()
		}()
		answer, _ := ask(t, c, "POST", s.url+"/patient", slow)
		if err := <-ended; err != nil || answer.StatusCode != 200 {
			t.Errorf("a patient mount: %d %v", answer.StatusCode, err)
		}
	})
}

func TestAWebSocketPassesThroughAllPolicies(t *testing.T) {
	dir := t.TempDir()
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		line, err := rw.ReadString('\n')
		if err == nil {
			_, _ = io.WriteString(conn, "echo "+line)
		}
	}))
	defer behind.Close()
	s, c := newSite(t, "")
	c.Server.RateLimit, c.Server.HSTS, c.Server.Compression = "1000/s", guado.Duration(time.Hour), []string{"gzip"}
	none := guado.Size(0)
	idle := guado.Duration(50 * time.Millisecond)
	s.Mount("/ws", guado.Upstream(behind.URL), func(m *guado.MountConfig) {
		m.Allow, m.RateLimit, m.SetHeaders = []string{"127.0.0.1"}, "1000/s", map[string]string{"X-A": "b"}
		m.BasicAuth, m.Sendfile = htpasswd(t, dir, "anna", "sesame"), map[string]string{"/p": dir}
		m.BodyLimit, m.ReadIdle, m.WriteIdle = &none, &idle, &idle
	})
	s.run()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nAuthorization: Basic YW5uYTpzZXNhbWU=\r\n\r\n")
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("%v %v", res, err)
	}
	// A tunnel is nobody's request any more: no idle time ends it, no pause waits for it.
	if err := s.Pause(t.Context(), guado.Hold{}); err != nil {
		t.Errorf("a pause with an open tunnel: %v", err)
	}
	time.Sleep(4 * time.Duration(idle))
	_, _ = io.WriteString(conn, "hello\n")
	if line, err := in.ReadString('\n'); err != nil || line != "echo hello\n" {
		t.Errorf("%q %v", line, err)
	}
}

func TestHardeningAnAnswerTellsNothingOfTheServer(t *testing.T) {
	onEachLane(t, func(s *site, _ *guado.Config) {
		s.Mount("/", says("hello"))
		s.Mount("/panic", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("the inside") }))
	}, func(t *testing.T, s *site, c *http.Client) {
		for _, path := range []string{"/", "/panic", "/%2e%2e/x"} {
			res, body := ask(t, c, "GET", s.url+path, nil)
			for name, values := range res.Header {
				if name == "Server" || name == "X-Powered-By" || strings.Contains(strings.ToLower(strings.Join(values, " ")), "guado") {
					t.Errorf("%s: %s: %s", path, name, values)
				}
			}
			if strings.Contains(strings.ToLower(body), "guado") || strings.Contains(body, "the inside") {
				t.Errorf("%s: %q", path, body)
			}
		}
	})
}

func TestClientsOnUnixSocketsAreAnAddressOfTheirOwn(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	s, c := newSite(t, "")
	c.Server.Listen = append(c.Server.Listen, "unix:"+socket)
	c.Server.RateLimit = "1/h" // of addresses, and this has none
	s.Mount("/", says("in"), func(m *guado.MountConfig) { m.Allow = []string{"unix"} })
	s.Mount("/network", says("in"), func(m *guado.MountConfig) { m.Allow = []string{"0.0.0.0/0", "::/0"} })
	s.Mount("/denied", says("in"), func(m *guado.MountConfig) { m.Deny = []string{"unix"} })
	s.run()
	local := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer local.CloseIdleConnections()
	for path, status := range map[string]int{"/": 200, "/network": 403, "/denied": 403} {
		res, body := ask(t, local, "GET", "http://host"+path, nil)
		expect(t, res, body, status, "")
	}
	res, body := ask(t, harness.Client(t, "http1"), "GET", s.url+"/", nil)
	expect(t, res, body, 403, "address_not_allowed")
}
