package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/guado-server/guado/test/harness"
)

// reads is an upstream that reads the body and says what it saw; its fields are the query.
func reads(t *testing.T) string {
	t.Helper()
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		size, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		for name, values := range r.URL.Query() {
			w.Header()[http.CanonicalHeaderKey(name)] = values
		}
		w.Header().Set("X-Powered-By", "Go")
		_, _ = fmt.Fprintf(w, "the application read %d, saw %s", size, r.Header.Get("Authorization"))
	}))
	t.Cleanup(behind.Close)
	return behind.URL
}

// policies is a file whose mounts of every kind have the same policies.
func policies(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	hash, err := bcrypt.GenerateFromPassword([]byte("sesame"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"htpasswd": "anna:" + string(hash) + "\n", "public/x": "the application read 0", "private/report.pdf": "0123456789", "secret": "no",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../secret", filepath.Join(dir, "private", "link")); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`
[server]
listen = ["127.0.0.1:0"]
h2c = true
trusted_proxies = ["127.0.0.1"]
access_log = %[1]q
[[app]]
name = "wsgi"
target = "files:application"
dir = %[2]q
python = %[3]q
[[app]]
name = "asgi"
target = "files:asgi"
kind = "asgi"
dir = %[2]q
python = %[3]q
`, filepath.Join(dir, "access.log"), harness.Apps(), harness.Python(t, "newest"))
	for name, target := range map[string]string{
		"wsgi": `app = "wsgi"`, "asgi": `app = "asgi"`, "upstream": fmt.Sprintf("upstream = %q", reads(t)),
		"static": fmt.Sprintf("static = %q", filepath.Join(dir, "public")),
	} {
		files := ""
		if name != "static" {
			files = fmt.Sprintf("sendfile = { \"/protected\" = %q }", filepath.Join(dir, "private"))
		}
		if name == "wsgi" || name == "asgi" {
			text += fmt.Sprintf("[[mount]]\npath = \"/%s/brief\"\n%s\nrequest_timeout = \"200ms\"\n", name, target)
		}
		text += fmt.Sprintf(`
[[mount]]
path = "/%[1]s"
%[2]s
[[mount]]
path = "/%[1]s/guarded"
%[2]s
%[4]s
allow = ["10.0.0.0/8"]
basic_auth = %[3]q
basic_auth_strip = true
body_limit = "10KB"
rate_limit = "20/h"
set_headers = { "X-Frame-Options" = "DENY" }
remove_headers = ["X-Powered-By"]
`, name, target, filepath.Join(dir, "htpasswd"), files)
	}
	return text
}

func TestPoliciesAreTheSameForEveryKindOfMount(t *testing.T) {
	for _, lane := range harness.Lanes() {
		t.Run(lane, func(t *testing.T) {
			s := harness.Start(t, harness.Options{Config: policies(t)})
			c := harness.Client(t, lane)
			for _, kind := range []string{"wsgi", "asgi", "upstream", "static"} {
				t.Run(kind, func(t *testing.T) { guarded(t, c, s.URL+"/"+kind, kind) })
			}
			if lane == "http1" {
				s.WaitLog("declare the folder as sendfile", 30*time.Second)
			}
		})
	}
}

// guarded is the one test body for all kinds.
func guarded(t *testing.T, c *http.Client, url, kind string) {
	// As a client of 10.1.1.1 that knows the password, unless more fields say otherwise.
	ask := func(method, target string, body io.Reader, more ...string) (*http.Response, string) {
		t.Helper()
		fields := append([]string{"X-Forwarded-For", "10.1.1.1", "Authorization", "Basic YW5uYTpzZXNhbWU="}, more...)
		return do(t, c, request(t, method, url+"/guarded/x"+target, body, fields...))
	}
	res, body := ask("GET", "", nil)
	want(t, res, body, 200, "the application read 0")
	if strings.Contains(body, "Basic") {
		t.Errorf("the password was passed on: %q", body)
	}
	if res.Header.Get("X-Frame-Options") != "DENY" || res.Header.Get("X-Powered-By") != "" {
		t.Errorf("fields: %v", res.Header)
	}
	res, body = ask("GET", "", nil, "X-Forwarded-For", "192.0.2.1")
	want(t, res, body, 403, "address_not_allowed")
	if res.Header.Get("X-Frame-Options") != "DENY" {
		t.Errorf("fields of an error page: %v", res.Header)
	}
	res, body = ask("GET", "", nil, "Authorization", "Basic YW5uYTpub25l")
	want(t, res, body, 401, "password_wrong")
	res, body = ask("POST", "", io.MultiReader(strings.NewReader(strings.Repeat("x", 20_000))))
	if kind == "static" {
		want(t, res, body, 405, "method_not_allowed") // nobody reads it
	} else {
		want(t, res, body, 413, "body_too_large")
	}
	res, body = ask("POST", "", strings.NewReader(strings.Repeat("x", 20_000)))
	want(t, res, body, 413, "body_too_large")
	if kind != "static" {
		res, body = ask("POST", "", strings.NewReader(strings.Repeat("x", 10_000)))
		want(t, res, body, 200, "the application read 10000")
		sent(t, ask)
	}
	if kind == "wsgi" || kind == "asgi" {
		res, body = do(t, c, request(t, "GET", url+"/brief/x?sleep=0.6", nil))
		want(t, res, body, 504, "deadline")
	}
	for range 30 {
		if res, body = ask("GET", "", nil); res.StatusCode == 429 {
			break
		}
	}
	want(t, res, body, 429, "rate_limited")
	// Without policies nothing of it is there.
	res, body = do(t, c, request(t, "GET", url+"/x", nil, "Authorization", "Basic YW5uYTpub25l"))
	want(t, res, body, 200, "the application read 0")
	if kind != "static" && (res.Header.Get("X-Powered-By") == "" || !strings.Contains(body, "Basic YW5uYTpub25l")) {
		t.Errorf("without policies: %v %q", res.Header, body)
	}
	if kind != "static" {
		res, body = do(t, c, request(t, "GET", url+"/x?X-Accel-Redirect=/protected/report.pdf&X-Sendfile=/etc/passwd", nil))
		want(t, res, body, 200, "the application read 0")
		if res.Header.Get("X-Accel-Redirect")+res.Header.Get("X-Sendfile") != "" {
			t.Errorf("an order to the host reached the client: %v", res.Header)
		}
	}
}

func sent(t *testing.T, ask func(method, target string, body io.Reader, more ...string) (*http.Response, string)) {
	t.Helper()
	const order = "?X-Accel-Redirect=/protected/report.pdf&Content-Type=application/pdf&Content-Disposition=attachment"
	res, body := ask("GET", order, nil)
	want(t, res, body, 200, "0123456789")
	for name, value := range map[string]string{
		"Content-Type": "application/pdf", "Content-Disposition": "attachment", "X-Accel-Redirect": "", "X-Frame-Options": "DENY", "Content-Length": "10",
	} {
		if res.Header.Get(name) != value {
			t.Errorf("%s: %q", name, res.Header.Get(name))
		}
	}
	res, body = ask("GET", order, nil, "Range", "bytes=3-5")
	if res.StatusCode != 206 || body != "345" {
		t.Errorf("range: %d %q", res.StatusCode, body)
	}
	res, body = ask("GET", order, nil, "If-None-Match", res.Header.Get("ETag"))
	want(t, res, body, 304, "")
	res, body = ask("HEAD", order, nil)
	if res.StatusCode != 200 || body != "" || res.ContentLength != 10 {
		t.Errorf("HEAD: %d %q, %d bytes", res.StatusCode, body, res.ContentLength)
	}
	for _, name := range []string{"../secret", "%252e%252e/secret", "link", "missing"} {
		res, body = ask("GET", "?X-Accel-Redirect=/protected/"+name, nil)
		want(t, res, body, 404, "file_not_found")
	}
}
