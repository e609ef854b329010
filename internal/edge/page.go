package edge

import (
	"bytes"
	"encoding/json"
	"html"
	"net/http"
	"strconv"

	"github.com/guado-server/guado/internal/exchange"
)

// form of an error page.
type form uint8

const (
	formText form = iota
	formHTML
	formJSON
	formProblem // application/problem+json, RFC 9457
)

// render is lane.Hooks.Render: status, code and request id, in the form that the client
// asks for, and nothing of what happened inside.
func (p *preparer) render(x *exchange.Exchange, problem *exchange.Problem) (exchange.Head, []byte) {
	if x.ID == "" {
		x.ID = p.ids.next() // refused before prepare
	}
	status := problem.Status
	if status < 400 || status > 599 {
		status = http.StatusInternalServerError
	}
	form := chooseForm(x)
	body, contentType := pageOf(form, status, problem.Code, x.ID, problem.Detail)
	if form == formHTML && problem.Headline != "" {
		body = devPage(x, status, problem)
	}
	head := exchange.Head{Status: status, Length: int64(len(body)), Fields: []exchange.Field{
		field("Content-Type", contentType),
		field("Cache-Control", "no-store"),
		field("X-Content-Type-Options", "nosniff"),
	}}
	if problem.RetryAfter > 0 {
		head.Fields = append(head.Fields, field("Retry-After", strconv.Itoa(problem.RetryAfter)))
	}
	head.Fields = p.extra.appendTo(append(head.Fields, problem.Fields...), x)
	return head, body
}

func field(name, value string) exchange.Field {
	return exchange.Field{Name: []byte(name), Value: []byte(value)}
}

func pageOf(f form, status int, code, id, detail string) (body []byte, contentType string) {
	title := http.StatusText(status)
	if title == "" {
		title = "Error"
	}
	number := strconv.Itoa(status)
	switch f {
	case formJSON, formProblem:
		body, err := json.Marshal(struct {
			Title  string `json:"title"`
			Status int    `json:"status"`
			Code   string `json:"code"`
			ID     string `json:"request_id"`
			Detail string `json:"detail,omitempty"`
		}{title, status, code, id, detail})
		if err == nil { // of strings and a number: always
			if f == formProblem {
				return append(body, '\n'), "application/problem+json"
			}
			return append(body, '\n'), "application/json"
		}
	case formHTML:
		e := html.EscapeString
		return []byte("<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n" +
			"<title>" + number + " " + e(title) + "</title>\n" +
			"<style>body{font:16px/1.5 system-ui,sans-serif;margin:15vh auto;max-width:32rem;padding:0 1rem}" +
			"h1{font-size:1.5rem}code{font-family:ui-monospace,monospace}p{color:#666}" +
			"@media(prefers-color-scheme:dark){body{background:#111;color:#eee}p{color:#aaa}}</style>\n" +
			"<h1>" + number + " " + e(title) + "</h1>\n" +
			"<p>Code <code>" + e(code) + "</code><br>Request <code>" + e(id) + "</code></p>\n" + "</html>\n"), "text/html; charset=utf-8"
	}
	return []byte(number + " " + title + "\ncode: " + code + "\nrequest: " + id + "\n" + under(detail)), "text/plain; charset=utf-8"
}

// under sets a detail, which only `guado dev` has, below the rest; HTML has a page of
// its own for it (devPage).
func under(detail string) string {
	if detail == "" {
		return ""
	}
	return "\n" + detail + "\n"
}

// chooseForm takes the first form that Accept names: error pages are for browsers
// (text/html first) and API clients (JSON first), neither of which plays with weights.
func chooseForm(x *exchange.Exchange) form {
	for _, f := range x.Fields {
		if !f.Is("accept") {
			continue
		}
		for element := range tokens(f.Value) {
			media := element
			if i := bytes.IndexByte(element, ';'); i >= 0 {
				media = trimSpace(element[:i])
			}
			switch kind := (exchange.Field{Name: media}); {
			case kind.Is("text/html"), kind.Is("application/xhtml+xml"):
				return formHTML
			case kind.Is("application/problem+json"):
				return formProblem
			case kind.Is("application/json"), bytes.HasSuffix(media, []byte("+json")):
				return formJSON
			case kind.Is("text/plain"):
				return formText
			}
		}
	}
	return formText
}
