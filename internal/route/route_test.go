package route_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/edge"
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/route"
	"github.com/guado-server/guado/test/harness/edgetest"
)

// tell answers with what the mount was told.
func tell(name string) exchange.Handler {
	return exchange.HandlerFunc(func(x *exchange.Exchange) {
		text := fmt.Sprintf("%s app=%s root=%q info=%q path=%q", name, x.App, x.Root, x.PathInfo(), x.Path)
		err := x.Answer.Head(exchange.Head{Status: 200, Length: int64(len(text))})
		if err == nil {
			_, err = x.Answer.Write([]byte(text))
		}
		if err != nil {
			x.Answer.Abort(err)
		}
	})
}

// serve opens the table to real connections.
func serve(t *testing.T, mounts ...route.Mount) string {
	t.Helper()
	table, err := route.New(mounts)
	if err != nil {
		t.Fatal(err)
	}
	return edgetest.Serve(t, edge.Options{Handler: table})
}

func get(t *testing.T, address, host, target string) (int, string, http.Header) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	// By hand: a client of Go's would clean the target first.
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", target, host); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b), res.Header
}

func TestTheLongestPrefixWinsOnASegmentBoundary(t *testing.T) {
	address := serve(t,
		route.Mount{Name: "site", Path: "/", Handler: tell("site")},
		route.Mount{Name: "api", Path: "/api", Handler: tell("api")},
		route.Mount{Name: "v2", Path: "/api/v2/", Handler: tell("v2")},
		route.Mount{Name: "kept", Path: "/kept", Keep: true, Handler: tell("kept")},
		route.Mount{Name: "behind", Path: "/behind", RootPath: "/outer/", Handler: tell("behind")},
		route.Mount{Name: "blank", Path: "/a b", Handler: tell("blank")},
	)
	for target, want := range map[string]string{
		"/":                `site app=site root="" info="/" path="/"`,
		"/apix":            `site app=site root="" info="/apix" path="/apix"`,
		"/ap":              `site app=site root="" info="/ap" path="/ap"`,
		"//api":            `site app=site root="" info="//api" path="//api"`,
		"/API":             `site app=site root="" info="/API" path="/API"`,
		"/api":             `api app=api root="/api" info="" path="/api"`,
		"/api/":            `api app=api root="/api" info="/" path="/api/"`,
		"/api//x":          `api app=api root="/api" info="//x" path="/api//x"`,
		"/%61pi/x?y=/api/": `api app=api root="/api" info="/x" path="/api/x"`,
		"/api/v2":          `v2 app=v2 root="/api/v2" info="" path="/api/v2"`,
		"/api/v2/x":        `v2 app=v2 root="/api/v2" info="/x" path="/api/v2/x"`,
		"/api/v22":         `api app=api root="/api" info="/v22" path="/api/v22"`,
		"/kept/x":          `kept app=kept root="" info="/kept/x" path="/kept/x"`,
		"/behind/x":        `behind app=behind root="/outer/behind" info="/x" path="/outer/behind/x"`,
		"/a%20b/c":         `blank app=blank root="/a b" info="/c" path="/a b/c"`,
	} {
		if status, got, _ := get(t, address, "example.org", target); status != 200 || got != want {
			t.Errorf("%s: %d %s, want %s", target, status, got, want)
		}
	}
}

func TestMountsOfTheHostComeBeforeThoseOfEveryHost(t *testing.T) {
	address := serve(t,
		route.Mount{Path: "/", Handler: tell("any")},
		route.Mount{Path: "/deep/path", Handler: tell("any-deep")},
		route.Mount{Host: "Example.org", Path: "/api", Handler: tell("exact")},
		route.Mount{Host: "*.example.org", Path: "/", Handler: tell("wild")},
		route.Mount{Host: "*.eu.example.org", Path: "/", Handler: tell("wild-eu")},
		route.Mount{Host: "[::1]", Path: "/", Handler: tell("six")},
	)
	for _, c := range []struct{ host, target, want string }{
		{"example.org", "/api/x", "exact"},
		{"EXAMPLE.org:8080", "/api", "exact"},
		{"example.org.", "/api", "exact"},
		{"example.org", "/x", "any"},
		{"example.org", "/deep/path", "any-deep"},
		{"a.example.org", "/api", "wild"},
		{"a.b.example.org", "/", "wild"},
		{"a.eu.example.org:443", "/", "wild-eu"},
		{"xexample.org", "/", "any"},
		{"[::1]:8000", "/", "six"},
		{"other", "/", "any"},
	} {
		if status, got, _ := get(t, address, c.host, c.target); status != 200 || !strings.HasPrefix(got, c.want+" ") {
			t.Errorf("%s%s: %d %s, want %s", c.host, c.target, status, got, c.want)
		}
	}
}

func TestWhatIsMountedNowhereGets404WithItsCode(t *testing.T) {
	address := serve(t, route.Mount{Path: "/api", Handler: tell("api")}, route.Mount{Host: "h.org", Path: "/", Handler: tell("h")})
	for _, c := range []struct{ host, target string }{{"x", "/"}, {"x", "/apis"}, {"x", "/ap"}, {"hh.org", "/"}} {
		if status, body, _ := get(t, address, c.host, c.target); status != 404 || !strings.Contains(body, "no_mount") {
			t.Errorf("%s%s: %d %s", c.host, c.target, status, body)
		}
	}
}

func TestTheSlashOfAFolderIsAddedAsTheClientSpelledThePath(t *testing.T) {
	address := serve(t, route.Mount{Path: "/static", AddSlash: true, Handler: tell("static")})
	for target, want := range map[string]string{
		"/static":         "/static/",
		"/static?a=1&b":   "/static/?a=1&b",
		"/%73tatic":       "/%73tatic/",
		"/static?x=//a.b": "/static/?x=//a.b",
	} {
		if status, _, h := get(t, address, "x", target); status != 308 || h.Get("Location") != want {
			t.Errorf("%s: %d to %q, want %q", target, status, h.Get("Location"), want)
		}
	}
	if status, body, _ := get(t, address, "x", "/static/"); status != 200 || !strings.Contains(body, `info="/"`) {
		t.Errorf("%d %s", status, body)
	}
}

func TestAWrongMountIsRefused(t *testing.T) {
	ok := tell("x")
	for want, mounts := range map[string][]route.Mount{
		"start with /":  {{Path: "api", Handler: ok}},
		"empty segment": {{Path: "/a//b", Handler: ok}},
		"no handler":    {{Path: "/"}},
		"there twice":   {{Path: "/a", Handler: ok}, {Path: "/a/", Handler: ok}},
		"mount host":    {{Host: "a.*.org", Path: "/", Handler: ok}},
		"root path":     {{RootPath: "x", Path: "/", Handler: ok}},
	} {
		if _, err := route.New(mounts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", mounts, err, want)
		}
	}
}

func BenchmarkServe(b *testing.B) {
	nothing := exchange.HandlerFunc(func(*exchange.Exchange) {})
	table, err := route.New([]route.Mount{
		{Path: "/", Handler: nothing}, {Path: "/api", Handler: nothing}, {Path: "/static", Handler: nothing},
		{Host: "example.org", Path: "/x", Handler: nothing}, {Host: "*.example.net", Path: "/", Handler: nothing},
	})
	if err != nil {
		b.Fatal(err)
	}
	x := exchange.New()
	x.Host, x.Path = []byte("Www.Example.org:8000"), []byte("/shop/cart")
	b.ReportAllocs()
	for b.Loop() {
		table.Serve(x)
	}
	if testing.AllocsPerRun(100, func() { table.Serve(x) }) > 0 {
		b.Error("finding a mount allocates")
	}
}
