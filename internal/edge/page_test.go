package edge

import (
	"encoding/json"
	"errors"
	"html"
	"strings"
	"testing"

	"github.com/guado-server/guado/internal/exchange"
)

func TestErrorPagesComeInTheFormThatIsAskedFor(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		r := serve(t, m, func(x *exchange.Exchange) {
			x.Fail(&exchange.Problem{Status: 503, Code: "queue_full", RetryAfter: 7, Err: errors.New("secret internals"),
				Fields: []exchange.Field{field("X-More", "1")}})
		})
		for accept, want := range map[string]string{
			"":    "text/plain; charset=utf-8",
			"*/*": "text/plain; charset=utf-8",
			"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": "text/html; charset=utf-8",
			"application/json":                         "application/json",
			"application/vnd.api+json; v=1, text/html": "application/json",
			"application/problem+json":                 "application/problem+json",
			"image/png, text/plain":                    "text/plain; charset=utf-8",
		} {
			resp, page := r.get("/", "Accept: "+accept)
			if resp.StatusCode != 503 || resp.Header.Get("Content-Type") != want {
				t.Errorf("Accept %q: status %d, type %q, want %q", accept, resp.StatusCode, resp.Header.Get("Content-Type"), want)
			}
			if resp.Header.Get("Retry-After") != "7" || resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("X-More") != "1" {
				t.Errorf("fields %v", resp.Header)
			}
			if !strings.Contains(page, "queue_full") || !strings.Contains(page, "503") || strings.Contains(page, "secret") {
				t.Errorf("Accept %q: page %q", accept, page)
			}
			if strings.HasSuffix(want, "json") {
				var p struct {
					Status int
					Code   string
					ID     string `json:"request_id"`
				}
				if err := json.Unmarshal([]byte(page), &p); err != nil || p.Status != 503 || p.Code != "queue_full" || len(p.ID) != 16 {
					t.Errorf("page %q: %+v, %v", page, p, err)
				}
			}
		}
	})
}

func TestErrorPagesEscapeWhatTheyShow(t *testing.T) {
	const evil = `<script>"&`
	body, _ := pageOf(formHTML, 400, evil, evil, evil)
	if strings.Contains(string(body), evil) || !strings.Contains(string(body), html.EscapeString(evil)) {
		t.Errorf("page %s", body)
	}
	x := exchange.New()
	x.Method, x.ID = "GET", evil
	dev := string(devPage(x, 500, &exchange.Problem{Code: evil, Headline: evil, Detail: evil}))
	if strings.Contains(dev, evil) || strings.Count(dev, html.EscapeString(evil)) != 5 {
		t.Errorf("page %s", dev)
	}
	body, _ = pageOf(formJSON, 400, evil, evil, evil)
	var p map[string]any
	if err := json.Unmarshal(body, &p); err != nil || p["code"] != evil || p["detail"] != evil {
		t.Errorf("page %s: %v", body, err)
	}
}

func TestAPageForARequestThatWasNotUnderstoodHasAnIDToo(t *testing.T) {
	r := serve(t, modes[0], func(*exchange.Exchange) { t.Error("the step was called") }, func(o *Options) { o.ExposeRequestID = true })
	answer := r.raw("GET / HTTP/1.1\r\nHost : a.test\r\n\r\n")
	_, after, found := strings.Cut(answer, "X-Request-ID: ")
	id, _, _ := strings.Cut(after, "\r\n")
	if !found || len(id) != 16 || strings.Count(answer, id) != 2 {
		t.Errorf("answer %q", answer)
	}
}
