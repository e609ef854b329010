package identity

import (
	"bytes"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/guado-server/guado/internal/exchange"
)

// pageSources are the places where a request may name its page.
type pageSources struct {
	header bool
	query  []string
	form   []string
}

// parsePageSources reads what the configuration has checked.
func parsePageSources(list []string) (p pageSources) {
	for _, text := range list {
		switch kind, name, _ := strings.Cut(text, ":"); kind {
		case "header":
			p.header = true
		case "query":
			p.query = append(p.query, name)
		case "form":
			p.form = append(p.form, name)
		}
	}
	return p
}

// longestForm is the longest body in which a page is looked for.
const longestForm = 1 << 20

// pageConflict refuses a request that is of two pages.
func pageConflict(a, b string) *exchange.Problem {
	return &exchange.Problem{Status: 400, Code: "page_conflict", Err: fmt.Errorf("the request says that it is of the page %s and of the page %s", a, b)}
}

// named is the page that the head of a request names.
func (p *pageSources) named(x *exchange.Exchange) (page string, problem *exchange.Problem) {
	if p.header && len(x.GuadoPage) > 0 {
		page, problem = agree(page, string(x.GuadoPage))
	}
	if len(x.Query) > 0 && problem == nil {
		page, problem = inPairs(page, x.Query, p.query)
	}
	return page, problem
}

// agree takes one more answer. What is no id is none: the name may well be the
// application's own, for something else.
func agree(page, answer string) (string, *exchange.Problem) {
	base, _, _ := ParseID(answer)
	switch {
	case base == "" || base == page: // empty: it is none
		return page, nil
	case page == "":
		return base, nil
	}
	return page, pageConflict(page, base)
}

// inPairs looks into "name=value&name=value".
func inPairs(page string, text []byte, names []string) (string, *exchange.Problem) {
	for _, name := range names {
		if !bytes.Contains(text, []byte(name)) {
			continue
		}
		for rest := text; len(rest) > 0; {
			var pair []byte
			pair, rest, _ = bytes.Cut(rest, []byte{'&'})
			key, value, _ := bytes.Cut(pair, []byte{'='})
			if string(key) != name {
				continue
			}
			// What cannot be decoded is no id either.
			decoded, err := url.QueryUnescape(string(value))
			if err != nil {
				continue
			}
			var problem *exchange.Problem
			if page, problem = agree(page, decoded); problem != nil {
				return page, problem
			}
		}
	}
	return page, nil
}

// isForm says whether the body may name the page.
func isForm(x *exchange.Exchange) bool {
	if x.Length == 0 || x.Length > longestForm {
		return false
	}
	kind, _, _ := bytes.Cut(x.Field("content-type"), []byte{';'})
	return exchange.EqualFold(bytes.TrimSpace(kind), "application/x-www-form-urlencoded")
}

// collected looks into a body that is here before the application is called.
func (v *visit) collected(x *exchange.Exchange, body io.ReaderAt) *exchange.Problem {
	if x.Length > longestForm {
		return nil
	}
	text := make([]byte, x.Length)
	if n, err := body.ReadAt(text, 0); n < len(text) {
		return &exchange.Problem{Status: 500, Code: "body_unreadable", Err: err}
	}
	named, problem := v.policy.pages.named(x)
	if problem != nil {
		return problem
	}
	page, problem := inPairs(named, text, v.policy.pages.form)
	if problem == nil && page != named && v.owns(page) {
		v.mu.Lock()
		v.who.Page = page
		v.mu.Unlock()
		v.add(x, namePage, page)
		v.server.opts.Met(page)
	}
	return problem
}
