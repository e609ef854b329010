package pages

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/guado-server/guado/internal/exchange"
)

// Site is the step that answers on the host's own paths, and lets all others pass.
type Site struct {
	Push    exchange.Handler // the sessions
	Client  []byte           // the module for browsers
	Open    *Opener
	Beacon  *Beacon
	Page    *Resident // nil: pages answer no requests
	Shared  *Shared   // nil: nothing is shared
	Next    exchange.Handler
	version string
}

// NewSite makes the step.
func NewSite(s Site) *Site {
	sum := sha256.Sum256(s.Client)
	s.version = `"` + hex.EncodeToString(sum[:8]) + `"`
	return &s
}

// Serve see [exchange.Handler].
func (s *Site) Serve(x *exchange.Exchange) {
	if !bytes.HasPrefix(x.Path, []byte(OwnPaths)) {
		s.Next.Serve(x)
		return
	}
	var serve func(*exchange.Exchange)
	switch string(x.Path[len(OwnPaths):]) {
	case "push":
		serve = s.Push.Serve
	case "page":
		serve = s.Open.Serve
	case "beacon":
		serve = s.Beacon.Serve
	case "client.js":
		serve = s.client
	case "changes":
		if s.Shared == nil {
			s.Next.Serve(x)
			return
		}
		serve = s.Shared.Serve
	default:
		if s.Page == nil || !bytes.HasPrefix(x.Path[len(OwnPaths):], []byte("page/")) {
			s.Next.Serve(x)
			return
		}
		serve = s.Page.Serve
	}
	x.App = "push"
	defer share(x, s.Open.Origin)()
	if !preflight(x, s.Open.Origin) {
		serve(x)
	}
}

// client sends the module. Browsers ask each time whether it is still the same: a page and
// its host speak one version.
func (s *Site) client(x *exchange.Exchange) {
	if x.Method != "GET" && x.Method != "HEAD" {
		notAllowed(x, "GET, HEAD")
		return
	}
	h := exchange.Head{Status: 200, Length: int64(len(s.Client)), Fields: []exchange.Field{
		{Name: []byte("Content-Type"), Value: []byte("text/javascript; charset=utf-8")},
		{Name: []byte("Cache-Control"), Value: []byte("no-cache")},
		{Name: []byte("ETag"), Value: []byte(s.version)},
		{Name: []byte("X-Content-Type-Options"), Value: []byte("nosniff")},
	}}
	if bytes.Contains(x.Field("if-none-match"), []byte(s.version)) {
		h.Status, h.Length = 304, 0
	}
	if err := x.Answer.Head(h); err == nil && h.Status == 200 {
		_, _ = x.Answer.Write(s.Client) // the lane sees that the client left
	}
}

func notAllowed(x *exchange.Exchange, methods string) {
	x.Fail(&exchange.Problem{
		Status: 405, Code: "method_not_allowed", Err: fmt.Errorf("%s on a path of push", x.Method),
		Fields: []exchange.Field{{Name: []byte("Allow"), Value: []byte(methods)}},
	})
}

// Opener opens pages for browsers.
type Opener struct {
	Pages *Pages
	// Origin reports whether a page of this origin may ask.
	Origin func(origin string, x *exchange.Exchange) bool
	// Touch gives the connection of the client, which is made when there is none, and the
	// field that the answer sets; its name is nil when there is none.
	Touch func(x *exchange.Exchange) (connection, user string, cookie exchange.Field, problem *exchange.Problem)
	// App names the application of a path, and of a class, on the host of the exchange;
	// false: there is none whose pages the host keeps, and the application is that of the
	// path, if that has one.
	App func(x *exchange.Exchange, path, class string) (app string, ok bool)
	// Kept returns when what was opened is kept, or why it cannot be; nil: nobody keeps it.
	Kept func() error

	unknown unknown
}

const mostOpening = 128 << 10

// Serve opens a page: POST of {"path", "class", "args"}, answered with {"page"}.
func (o *Opener) Serve(x *exchange.Exchange) {
	if x.Method != "POST" {
		notAllowed(x, "POST")
		return
	}
	if origin := x.Field("origin"); origin != nil && !o.Origin(string(origin), x) {
		x.Fail(&exchange.Problem{Status: 403, Code: "origin_not_allowed", Err: fmt.Errorf("a page of %q may not open pages here; allow it with push.origins", origin)})
		return
	}
	body, problem := exchange.ReadBody(x, mostOpening)
	if problem != nil {
		x.Fail(problem)
		return
	}
	var want struct {
		Path  string          `json:"path"`
		Class string          `json:"class"`
		Args  json.RawMessage `json:"args"`
	}
	if err := decode(body, &want); err != nil {
		x.Fail(&exchange.Problem{Status: 400, Code: "bad_page", Err: err})
		return
	}
	if want.Path != "" && (want.Path[0] != '/' || len(want.Path) > mostTo) {
		x.Fail(&exchange.Problem{Status: 400, Code: "bad_page", Err: fmt.Errorf("path %.80q", want.Path)})
		return
	}
	app, ok := o.App(x, want.Path, want.Class)
	if !ok {
		if want.Class != "" {
			o.unknown.tell(o.Pages, x, want.Class, app)
			x.Fail(&exchange.Problem{Status: 404, Code: "no_class", Err: fmt.Errorf("no application has the page class %.80q", want.Class)})
			return
		}
		x.Fail(&exchange.Problem{Status: 404, Code: "no_page", Err: fmt.Errorf("nothing that keeps pages is mounted at path %.80q", want.Path)})
		return
	}
	connection, user, cookie, problem := o.Touch(x)
	if problem != nil {
		x.Fail(problem)
		return
	}
	if string(want.Args) == "null" {
		want.Args = nil
	}
	id, err := o.Pages.Open(Opening{
		Connection: connection, User: user, App: app, Class: want.Class, Args: want.Args, Path: want.Path,
	})
	switch {
	case errors.Is(err, ErrArgs):
		x.Fail(&exchange.Problem{Status: 400, Code: "bad_page", Err: err})
		return
	case err != nil:
		x.Fail(&exchange.Problem{Status: 503, Code: "stopping", RetryAfter: 1, Err: err})
		return
	}
	if o.Kept != nil {
		if err := o.Kept(); err != nil {
			o.Pages.End(id) // nobody knows of it
			x.Fail(&exchange.Problem{Status: 503, Code: "durability_unavailable", RetryAfter: 1, Err: err})
			return
		}
	}
	text := []byte(`{"page":"` + id + `"}`)
	head := exchange.Head{Status: 200, Length: int64(len(text)), Fields: []exchange.Field{
		{Name: []byte("Content-Type"), Value: []byte("application/json")},
		{Name: []byte("Cache-Control"), Value: []byte("no-store")},
	}}
	if len(cookie.Name) > 0 {
		head.Fields = append(head.Fields, cookie)
	}
	if err := x.Answer.Head(head); err == nil {
		_, _ = x.Answer.Write(text) // the lane sees that the client left
	}
}
