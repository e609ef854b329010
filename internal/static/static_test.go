package static_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/gohandler"
	"github.com/guado-server/guado/internal/static"
)

func site(t *testing.T) string {
	t.Helper()
	built := time.Now().Add(-time.Minute)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"index.html": "home", "app.js": "plain js", "app.js.gz": "gz bytes", "app.js.zst": "zst bytes",
		"docs/index.html": "docs", "page.html": "page", "404.html": "not here", ".env": "SECRET", ".well-known/x": "known",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, built, built); err != nil { // siblings are as old as their files
			t.Fatal(err)
		}
	}
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("SECRET"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func serve(t *testing.T, o static.Options) *httptest.Server {
	t.Helper()
	o.Exchange = gohandler.Exchange // which finds none here
	h, err := static.New(o)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(func() { s.Close(); _ = h.Close() })
	return s
}

// get does not follow redirects and does not decode.
func get(t *testing.T, s *httptest.Server, method, path string, header map[string]string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.URL.Opaque = path
	for k, v := range header {
		r.Header.Set(k, v)
	}
	res, err := (&http.Transport{DisableCompression: true, DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func TestAStaticMountServesOnlyWhatIsInsideItsFolder(t *testing.T) {
	s := serve(t, static.Options{Dir: site(t)})
	for _, c := range []struct {
		path   string
		status int
		body   string
	}{
		{"/", 200, "home"}, {"/docs/", 200, "docs"}, {"/page.html", 200, "page"}, {"/.well-known/x", 200, "known"},
		{"/missing", 404, ""}, {"/.env", 404, ""}, {"/page.html/", 404, ""}, {"/link", 404, ""},
		{"/../secret", 404, ""}, {"/%2e%2e/%2e%2e/etc/passwd", 404, ""}, {"/..%5c..%5cetc", 404, ""}, {"/a%00b", 404, ""},
	} {
		res, body := get(t, s, "GET", c.path, nil)
		if res.StatusCode != c.status || c.body != "" && body != c.body {
			t.Errorf("GET %s: %d %q, want %d %q", c.path, res.StatusCode, body, c.status, c.body)
		}
	}
}

func TestAFolderWithoutASlashIsRedirectedRelatively(t *testing.T) {
	s := serve(t, static.Options{Dir: site(t)})
	res, _ := get(t, s, "GET", "/docs?q=1", nil)
	if res.StatusCode != 301 || res.Header.Get("Location") != "./docs/?q=1" {
		t.Fatalf("got %d %q", res.StatusCode, res.Header.Get("Location"))
	}
}

func TestTheRedirectToAFolderKeepsItsName(t *testing.T) {
	dir := site(t)
	for _, name := range []string{"a b", "x?y", "x#y", "50%", "a:b", "ä"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "deep", "in side"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := serve(t, static.Options{Dir: dir})
	for path, want := range map[string]string{
		"/a%20b": "./a%20b/", "/x%3Fy": "./x%3Fy/", "/x%3Fy?q=%20": "./x%3Fy/?q=%20", "/x%23y": "./x%23y/", "/50%25": "./50%25/",
		"/a:b": "./a:b/", "/%C3%A4": "./%C3%A4/", "/deep/in%20side": "./in%20side/",
	} {
		if res, _ := get(t, s, "GET", path, nil); res.StatusCode != 301 || res.Header.Get("Location") != want {
			t.Errorf("%s: %d %q, want %q", path, res.StatusCode, res.Header.Get("Location"), want)
		}
	}
}

func TestRangesAndConditionsAreAnswered(t *testing.T) {
	s := serve(t, static.Options{Dir: site(t), CacheControl: "max-age=60"})
	res, body := get(t, s, "GET", "/page.html", map[string]string{"Range": "bytes=1-2"})
	if res.StatusCode != 206 || body != "ag" {
		t.Fatalf("range: %d %q", res.StatusCode, body)
	}
	tag := res.Header.Get("ETag")
	if tag == "" || res.Header.Get("Cache-Control") != "max-age=60" {
		t.Fatalf("headers: %v", res.Header)
	}
	if res, _ = get(t, s, "GET", "/page.html", map[string]string{"If-None-Match": tag}); res.StatusCode != 304 {
		t.Fatalf("If-None-Match: %d", res.StatusCode)
	}
	if res, _ = get(t, s, "GET", "/page.html", map[string]string{"Range": "bytes=90-"}); res.StatusCode != 416 {
		t.Fatalf("unsatisfiable range: %d", res.StatusCode)
	}
	if res, _ = get(t, s, "POST", "/page.html", nil); res.StatusCode != 405 || res.Header.Get("Allow") == "" {
		t.Fatalf("POST: %d", res.StatusCode)
	}
	if res, body = get(t, s, "HEAD", "/page.html", nil); res.StatusCode != 200 || body != "" || res.ContentLength != 4 {
		t.Fatalf("HEAD: %d %q %d", res.StatusCode, body, res.ContentLength)
	}
}

func TestPrecompressedSiblingsAreChosenByAcceptEncoding(t *testing.T) {
	dir := site(t)
	s := serve(t, static.Options{Dir: dir, Precompressed: true})
	for accept, want := range map[string]string{
		"gzip": "gz bytes", "zstd, gzip": "zst bytes", "gzip;q=0": "plain js", "": "plain js", "*": "zst bytes",
		"zstd;q=0, *;q=0.5": "gz bytes", "identity": "plain js",
	} {
		res, body := get(t, s, "GET", "/app.js", map[string]string{"Accept-Encoding": accept})
		if body != want || res.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("Accept-Encoding %q: %q (Vary %q), want %q", accept, body, res.Header.Get("Vary"), want)
		}
		if (want != "plain js") != (res.Header.Get("Content-Encoding") != "") {
			t.Errorf("Accept-Encoding %q: Content-Encoding %q", accept, res.Header.Get("Content-Encoding"))
		}
		if ctype := res.Header.Get("Content-Type"); ctype != "text/javascript; charset=utf-8" {
			t.Errorf("Content-Type %q", ctype)
		}
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "app.js.gz"), old, old); err != nil {
		t.Fatal(err)
	}
	if _, body := get(t, s, "GET", "/app.js", map[string]string{"Accept-Encoding": "gzip"}); body != "plain js" {
		t.Errorf("a sibling older than its file was served: %q", body)
	}
}

func TestTryFilesAndTheSinglePageFallbackAnswerForMissingFiles(t *testing.T) {
	dir := site(t)
	spa := serve(t, static.Options{Dir: dir, SPA: "index.html"})
	if res, body := get(t, spa, "GET", "/deep/link", nil); res.StatusCode != 200 || body != "home" {
		t.Errorf("spa: %d %q", res.StatusCode, body)
	}
	if res, _ := get(t, spa, "GET", "/missing.js", nil); res.StatusCode != 404 {
		t.Errorf("a missing asset must stay missing: %d", res.StatusCode)
	}
	try := serve(t, static.Options{Dir: dir, TryFiles: []string{"{path}.html", "/404.html"}})
	if _, body := get(t, try, "GET", "/page", nil); body != "page" {
		t.Errorf("try files: %q", body)
	}
	if _, body := get(t, try, "GET", "/nothing", nil); body != "not here" {
		t.Errorf("last of try files: %q", body)
	}
}
