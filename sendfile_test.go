package guado_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/guado-server/guado"
)

// orders is an application that does what the query says: it names files.
var orders = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	for name, values := range r.URL.Query() {
		for _, v := range values {
			w.Header().Add(name, v)
		}
	}
	w.Header().Set("X-Secret", "of the application")
	w.Header().Set("ETag", `"of the application"`)
	w.WriteHeader(http.StatusTeapot)
	if !r.URL.Query().Has("silent") {
		_, _ = io.WriteString(w, "the application's own words") // and with them a Content-Type
	}
})

func TestTheApplicationNamesAFileAndTheHostSendsIt(t *testing.T) {
	dir := t.TempDir()
	private := filepath.Join(dir, "private")
	write(t, dir, "outside.txt", "secret")
	write(t, dir, "private/a b.txt", "0123456789")
	write(t, dir, "private/deep/er.bin", strings.Repeat("x", 300_000))
	for name, to := range map[string]string{"out.txt": "../outside.txt", "abs.txt": filepath.Join(dir, "outside.txt"), "in.txt": "a b.txt", "up": ".."} {
		if err := os.Symlink(to, filepath.Join(private, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(private, filepath.Join(dir, "current")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(private, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	policy := func(m *guado.MountConfig) {
		m.Sendfile = map[string]string{"/protected/": filepath.Join(dir, "current"), "/protected/deep": filepath.Join(private, "deep")}
	}
	onEachLane(t, func(s *site, _ *guado.Config) {
		behind := httptest.NewServer(orders)
		t.Cleanup(behind.Close)
		s.Mount("/go", orders, policy)
		s.Mount("/upstream", guado.Upstream(behind.URL), policy)
		s.Mount("/undeclared", orders)
		s.Mount("/undeclared/upstream", guado.Upstream(behind.URL))
	}, func(t *testing.T, s *site, c *http.Client) {
		for _, mount := range []string{"/go/", "/upstream/"} {
			for query, want := range map[string]string{
				"X-Accel-Redirect=/protected/a%2520b.txt":                     "0123456789",
				"X-Accel-Redirect=/protected/a%20b.txt%3Fx=y":                 "0123456789",
				"X-Accel-Redirect=/protected/in.txt":                          "0123456789",
				"X-Accel-Redirect=/protected/deep/er.bin":                     strings.Repeat("x", 300_000),
				"x-sendfile=" + dir + "/current/a%20b.txt":                    "0123456789",
				"X-Sendfile=" + private + "/a%20b.txt":                        "0123456789",
				"X-Sendfile=/etc/hostname&X-Accel-Redirect=/protected/in.txt": "0123456789",
			} {
				res, body := ask(t, c, "GET", s.url+mount+"?"+query, nil)
				if res.StatusCode != 200 || body != want {
					t.Errorf("%s%s: %d %.100q", mount, query, res.StatusCode, body)
				}
				for _, name := range []string{"X-Accel-Redirect", "X-Sendfile", "X-Secret"} {
					if v := res.Header.Get(name); v != "" {
						t.Errorf("%s%s: %s: %s reached the client", mount, query, name, v)
					}
				}
				if tag := res.Header.Get("ETag"); tag == "" || strings.Contains(tag, "application") {
					t.Errorf("%s%s: ETag %q", mount, query, tag)
				}
			}
			for _, query := range []string{
				"X-Accel-Redirect=/protected/../outside.txt", "X-Accel-Redirect=/protected/%252e%252e/outside.txt",
				"X-Accel-Redirect=/protected/out.txt", "X-Accel-Redirect=/protected/abs.txt", "X-Accel-Redirect=/protected/up/outside.txt",
				"X-Accel-Redirect=/protected", "X-Accel-Redirect=/protected/", "X-Accel-Redirect=/protected/deep", "X-Accel-Redirect=/protectedly/x",
				"X-Accel-Redirect=/elsewhere/a.txt", "X-Accel-Redirect=a.txt", "X-Accel-Redirect=/protected/%25zz", "X-Accel-Redirect=/protected/a%2500b",
				"X-Accel-Redirect=/protected/pipe", "X-Accel-Redirect=/protected/missing", "X-Accel-Redirect=", "X-Accel-Redirect=@named",
				"X-Sendfile=" + dir + "/outside.txt", "X-Sendfile=" + private + "/../outside.txt", "X-Sendfile=" + private + "/out.txt",
				"X-Sendfile=in.txt", "X-Sendfile=/etc/passwd", "X-Sendfile=" + private, "X-Sendfile=" + private + "ly/x", "X-Sendfile=",
			} {
				res, body := ask(t, c, "GET", s.url+mount+"?"+query, nil)
				expect(t, res, body, 404, "file_not_found")
				if strings.Contains(body, dir) || strings.Contains(body, "secret") || strings.Contains(body, "words") {
					t.Errorf("%s%s: the page tells too much: %q", mount, query, body)
				}
			}
		}
		for _, mount := range []string{"/undeclared/", "/undeclared/upstream/"} {
			res, body := ask(t, c, "GET", s.url+mount+"?X-Accel-Redirect=/protected/in.txt&X-Sendfile=/etc/passwd", nil)
			expect(t, res, body, http.StatusTeapot, "the application's own words")
			if res.Header.Get("X-Accel-Redirect")+res.Header.Get("X-Sendfile") != "" {
				t.Errorf("%s: %v reached the client", mount, res.Header)
			}
		}
		if log := s.log.String(); strings.Count(log, "declare the folder as sendfile") != 1 || !strings.Contains(log, "file_not_found") && !strings.Contains(log, "cannot be sent") {
			t.Errorf("the operator is told:\n%s", log)
		}
	})
}

func TestASentFileKeepsTheFieldsThatNginxKeeps(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "page.html", "0123456789")
	onEachLane(t, func(s *site, _ *guado.Config) {
		s.Mount("/", orders, func(m *guado.MountConfig) { m.Sendfile = map[string]string{"/p": dir} })
	}, func(t *testing.T, s *site, c *http.Client) {
		const file = "/?X-Accel-Redirect=/p/page.html"
		res, _ := ask(t, c, "GET", s.url+file+"&silent=1", nil)
		if res.Header.Get("Content-Type") != "text/html; charset=utf-8" || res.Header.Get("Accept-Ranges") != "bytes" || res.Header.Get("Last-Modified") == "" {
			t.Errorf("a file's own fields: %v", res.Header)
		}
		tag, modified := res.Header.Get("ETag"), res.Header.Get("Last-Modified")
		res, body := ask(t, c, "GET", s.url+file+"&Content-Type=application/pdf&Set-Cookie=a=1&Set-Cookie=b=2&Content-Disposition=attachment"+
			"&Cache-Control=private&Expires=0&Vary=Cookie&Content-Length=3&Content-Encoding=br&Last-Modified=never", nil)
		expect(t, res, body, 200, "0123456789")
		for name, want := range map[string]string{
			"Content-Type": "application/pdf", "Set-Cookie": "a=1 b=2", "Content-Disposition": "attachment", "Cache-Control": "private",
			"Expires": "0", "Vary": "", "Content-Length": "10", "Content-Encoding": "", "Last-Modified": modified,
		} {
			if got := strings.Join(res.Header.Values(name), " "); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		for _, x := range []struct {
			method, query, name, value string
			status                     int
			body                       string
		}{
			{"GET", "", "Range", "bytes=2-4", 206, "234"},
			{"POST", "", "Range", "bytes=2-4", 206, "234"}, // for the file it is a GET
			{"GET", "", "Range", "bytes=20-", 416, "range_not_satisfiable"},
			{"GET", "&Accept-Ranges=none", "Range", "bytes=2-4", 200, "0123456789"},
			{"GET", "", "If-None-Match", tag, 304, ""},
			{"GET", "", "If-Modified-Since", modified, 304, ""},
			{"GET", "", "If-Match", `"other"`, 412, "precondition_failed"},
			{"HEAD", "", "Accept", "*/*", 200, ""},
		} {
			res, body := ask(t, c, x.method, s.url+file+x.query, nil, x.name, x.value)
			if res.StatusCode != x.status || x.status < 400 && body != x.body || !strings.Contains(body, x.body) {
				t.Errorf("%s with %s: %s: %d %q", x.method, x.name, x.value, res.StatusCode, body)
			}
			if x.method == "HEAD" && res.ContentLength != 10 {
				t.Errorf("HEAD says %d bytes", res.ContentLength)
			}
			if x.query != "" && res.Header.Get("Accept-Ranges") != "none" {
				t.Errorf("Accept-Ranges: %v", res.Header.Values("Accept-Ranges"))
			}
		}
	})
}

func TestAnApplicationThatFailsAfterNamingAFileSendsNone(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "f", "the file")
	onEachLane(t, func(s *site, _ *guado.Config) {
		s.Mount("/", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Accel-Redirect", "/p/f")
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush() // the head is out of its hands
			panic("as asked")
		}), func(m *guado.MountConfig) { m.Sendfile = map[string]string{"/p": dir} })
	}, func(t *testing.T, s *site, c *http.Client) {
		res, body := ask(t, c, "GET", s.url+"/", nil)
		expect(t, res, body, 500, "application_error")
	})
}
