package guado_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// from sends a request as the browser of a page of that origin does.
func (b *browser) from(origin, method, path, body string, fields ...string) (int, http.Header, string) {
	b.s.t.Helper()
	r, err := http.NewRequestWithContext(b.s.t.Context(), method, b.s.url+path, strings.NewReader(body))
	if err != nil {
		b.s.t.Fatal(err)
	}
	r.Header.Set("Origin", origin)
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.Set(name, value)
	}
	res, err := b.client.Do(r)
	if err != nil {
		b.s.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.Header.Get("Content-Type") == "text/event-stream" {
		return res.StatusCode, res.Header, ""
	}
	text, err := io.ReadAll(res.Body)
	if err != nil {
		b.s.t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(text)
}

func TestPagesOfOriginsThatAreNamedMayUsePushAndNoOthers(t *testing.T) {
	s := pagesSite(t, t.TempDir(), flaskPages+"[push]\norigins = [\"https://shop.example\", \"https://*.example.org\"]\n")
	b := s.browser()
	page := b.tab(`{"path":"/whoami"}`).page
	hello := `{"t":"hello","v":1,"page":"` + page + `","client":"client-of-` + page + `"}`
	stream := "Accept: text/event-stream"
	ask := "Access-Control-Request-Method: POST"
	for _, origin := range []string{"https://shop.example", "https://a.b.example.org"} {
		for _, c := range []struct {
			method, path, body, field string
			status                    int
		}{
			{"OPTIONS", "/_guado/push", "", ask, 204},
			{"OPTIONS", "/_guado/page", "", ask, 204},
			{"POST", "/_guado/page", `{"path":"/whoami"}`, stream, 200},
			{"POST", "/_guado/page", `{"class":"None"}`, ask, 404},
			{"POST", "/_guado/push", hello, stream, 200},
			{"POST", "/_guado/push", `{"t":"on","page":"` + page + `","id":77}`, ask, 409},
			{"POST", "/_guado/push", `{"t":"cookies","page":"` + page + `","k":"x"}`, ask, 404},
			{"GET", "/_guado/push", "", ask, 405},
			{"GET", "/_guado/client.js", "", ask, 200},
		} {
			status, h, text := b.from(origin, c.method, c.path, c.body, c.field)
			if status != c.status {
				t.Errorf("%s %s %s: %d %s", c.method, c.path, c.body, status, text)
			}
			if got := strings.Join(h.Values("Access-Control-Allow-Origin"), " "); got != origin || h.Get("Access-Control-Allow-Credentials") != "true" || !strings.Contains(strings.Join(h.Values("Vary"), ","), "Origin") {
				t.Errorf("%s %s %s of %s: %v", c.method, c.path, c.body, origin, h)
			}
			if c.method == "OPTIONS" && (h.Get("Access-Control-Allow-Methods") != "GET, POST" || h.Get("Access-Control-Allow-Headers") != "content-type, guado-page, guado-ack") {
				t.Errorf("the question about %s is answered with %v", c.path, h)
			}
		}
	}
	for _, origin := range []string{"https://shop.example.evil", "http://shop.example", "null", "https://example.org.evil", "https://xexample.org"} {
		for _, c := range []struct{ method, path, body string }{
			{"OPTIONS", "/_guado/push", ""}, {"OPTIONS", "/_guado/page", ""},
			{"POST", "/_guado/page", `{"path":"/whoami"}`}, {"POST", "/_guado/push", hello},
		} {
			status, h, text := b.from(origin, c.method, c.path, c.body, ask, stream)
			if status != 403 || !strings.Contains(text, "origin_not_allowed") || len(h.Values("Access-Control-Allow-Origin")) != 0 {
				t.Errorf("%s %s of %s: %d %s %v", c.method, c.path, origin, status, text, h)
			}
		}
	}
	// The application's own paths are its own affair, and a page of this very host needs no leave.
	if _, h, _ := b.from("https://shop.example", "POST", "/whoami", "{}", "Content-Type: application/json"); h.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a path of the application: %v", h)
	}
	if status, h, _ := b.from(s.url, "POST", "/_guado/page", `{"path":"/whoami"}`); status != 200 || h.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a page of this host: %d %v", status, h)
	}
}
