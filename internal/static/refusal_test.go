package static_test

import (
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/guado-server/guado/internal/edge"
	"github.com/guado-server/guado/internal/gohandler"
	"github.com/guado-server/guado/internal/route"
	"github.com/guado-server/guado/internal/static"
	"github.com/guado-server/guado/test/harness/edgetest"
)

// onTheRoad serves the folder behind a real edge.
func onTheRoad(t *testing.T, o static.Options) *httptest.Server {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	o.Exchange = gohandler.Exchange
	h, err := static.New(o)
	if err != nil {
		t.Fatal(err)
	}
	table, err := route.New([]route.Mount{{Name: "files", Path: "/", Handler: gohandler.Wrap(h, log)}})
	if err != nil {
		t.Fatal(err)
	}
	address := edgetest.Serve(t, edge.Options{Handler: table, Log: log, ExposeRequestID: true}, h.Close)
	return &httptest.Server{URL: "http://" + address}
}

func TestARefusalHasItsCodeAndTheRequestID(t *testing.T) {
	dir := site(t)
	s := onTheRoad(t, static.Options{Dir: dir, Precompressed: true, CacheControl: "max-age=60"})
	locked := 403
	if err := os.Chmod(filepath.Join(dir, "page.html"), 0); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		locked = 200 // nothing is locked for root
	}
	none := [2]string{"X-None", "1"}
	for _, c := range []struct {
		method, path, code string
		status             int
		fields             [2]string
	}{
		{"GET", "/app.js", "precondition_failed", 412, [2]string{"If-Match", `"other"`}},
		{"GET", "/app.js", "range_not_satisfiable", 416, [2]string{"Range", "bytes=9999-"}},
		{"GET", "/missing", "not_found", 404, none}, {"GET", "/.env", "not_found", 404, none}, {"GET", "/link", "not_found", 404, none},
		{"GET", "/page.html/", "not_found", 404, none}, {"POST", "/app.js", "method_not_allowed", 405, none}, {"GET", "/page.html", "forbidden", locked, none},
	} {
		res, body := get(t, s, c.method, c.path, map[string]string{"Accept": "application/json", c.fields[0]: c.fields[1]})
		if res.StatusCode != c.status {
			t.Errorf("%s %s: %d %q", c.method, c.path, res.StatusCode, body)
			continue
		}
		if c.status == 200 {
			continue
		}
		if !strings.Contains(body, `"code":"`+c.code+`"`) || !strings.Contains(body, res.Header.Get("X-Request-Id")) ||
			res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %v %q", c.method, c.path, res.Header, body)
		}
		if length := res.Header.Get("Content-Range"); strings.HasPrefix(length, "bytes */") != (c.status == 416) {
			t.Errorf("%s %s: Content-Range %q", c.method, c.path, length)
		}
		if allow := res.Header.Get("Allow"); (allow == "GET, HEAD") != (c.status == 405) {
			t.Errorf("%s %s: Allow %q", c.method, c.path, allow)
		}
	}
}
