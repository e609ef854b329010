package redirect_test

import (
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/edge"
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/redirect"
	"github.com/guado-server/guado/internal/route"
	"github.com/guado-server/guado/test/harness/edgetest"
)

// start serves a redirect below /old on a real edge.
func start(t *testing.T, o redirect.Options) string {
	t.Helper()
	h, err := redirect.New(o)
	if err != nil {
		t.Fatal(err)
	}
	table, err := route.New([]route.Mount{{Name: "old", Path: "/old", Handler: exchange.HandlerFunc(h.Serve)}})
	if err != nil {
		t.Fatal(err)
	}
	return edgetest.Serve(t, edge.Options{Handler: table})
}

// ask sends a target as it is and gives status and Location.
func ask(t *testing.T, address, method, target string) (int, string) {
	t.Helper()
	r := &http.Request{Method: method, URL: &url.URL{Scheme: "http", Host: address, Opaque: target}, Header: http.Header{}, Host: "shop.example.org"}
	transport := &http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: 10 * time.Second}
	res, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	if err = res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header.Get("Location")
}

func TestARedirectGoesToItsTargetAndNowhereElse(t *testing.T) {
	address := start(t, redirect.Options{To: "/new"})
	for _, target := range []string{"/old", "/old/", "/old/x?q=1", "/old//evil.example/x"} {
		if status, location := ask(t, address, "POST", target); status != 308 || location != "/new" {
			t.Errorf("%s: %d %q", target, status, location)
		}
	}
	address = start(t, redirect.Options{To: "/new", Code: 302})
	if status, _ := ask(t, address, "GET", "/old"); status != 302 {
		t.Errorf("status %d, want the one that was asked for", status)
	}
}

func TestARedirectThatKeepsThePathKeepsEscapesAndQuery(t *testing.T) {
	for _, c := range []struct{ to, target, want string }{
		{"/new", "/old/a%2Fb/%C3%A4?q=%20&r", "/new/a%2Fb/%C3%A4?q=%20&r"},
		{"/new/", "/old/x", "/new/x"},
		{"/new", "/%6Fld/x%2Fy", "/new/x%2Fy"},
		{"/new", "/old", "/new"},
		{"/new", "/old/a//b", "/new/a//b"}, // the target's host is settled: nothing to collapse
		{"/", "/old", "/"},
		{"/", "/old?q", "/?q"},
		{"/", "/old/x", "/x"},
		{"https://new.example", "/old/x?q", "https://new.example/x?q"},
		{"https://new.example", "/old", "https://new.example"},
		{"https://new.example/", "/old//x", "https://new.example//x"},
	} {
		address := start(t, redirect.Options{To: c.to, KeepPath: true})
		if status, location := ask(t, address, "GET", c.target); status != 308 || location != c.want {
			t.Errorf("to %s, %s: %d %q, want %q", c.to, c.target, status, location, c.want)
		}
	}
}

// A browser takes "//evil.example" for another host, and "\" for "/".
func TestAPathNeverRedirectsToAnotherHost(t *testing.T) {
	address := start(t, redirect.Options{To: "/", KeepPath: true})
	for _, rest := range []string{
		"//evil.example/x", "///evil.example/x", "/\\evil.example/x", "/\\/evil.example/x", "/\\\\evil.example/x", "//\\evil.example/x",
	} {
		if status, location := ask(t, address, "GET", "/old"+rest); status != 308 || location != "/evil.example/x" {
			t.Errorf("%s: %d %q", rest, status, location)
		}
	}
	for _, rest := range []string{"//", "/\\", "/"} {
		if _, location := ask(t, address, "GET", "/old"+rest); location != "/" {
			t.Errorf("%s: %q", rest, location)
		}
	}
}

func TestARedirectWithoutATargetOrWithAnotherStatusIsRefused(t *testing.T) {
	for _, o := range []redirect.Options{
		{}, {To: "new"}, {To: "//other.example/x"}, {To: "/\\other.example"}, {To: "://"}, {To: "/new", Code: 200}, {To: "/new", Code: 304},
		{To: "/a\r\nSet-Cookie: x"}, {To: "javascript:alert(1)"},
	} {
		if _, err := redirect.New(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}
