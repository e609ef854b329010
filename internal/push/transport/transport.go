// Package transport carries push sessions: over WebSocket, or over a stream of
// server-sent events from the host and POSTs from the client.
// Before it: route, on the path of push, and the step that checks handshakes of
// WebSockets. After it: push, which keeps the sessions.
// Not here: what a session is; who a client is (Options.Connection says it).
package transport

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/push"
)

// Options of a Server.
type Options struct {
	// Connection tells whose the client is, by its cookie: the id of its connection. The
	// pages of others do not exist for it. A problem refuses it.
	Connection func(x *exchange.Exchange) (string, *exchange.Problem)
	// Still gives what tells, whenever it is asked, whether the client still is whose
	// Connection said: it may be asked long after the request. Nil: it always is.
	Still func(x *exchange.Exchange) func() bool
	// Stale reports whether the client's cookie is one of before a login, whose successor
	// may still be on its way: it is told to come back. Nil: there are none.
	Stale func(x *exchange.Exchange) bool
	// AllowOrigin reports whether a page of this origin may speak here. Nil: pages of the
	// very host that is asked. It is not asked about clients without an Origin field:
	// they are no browsers.
	AllowOrigin func(origin string, x *exchange.Exchange) bool
	// Cookies gives, once, the values of Set-Cookie that a reply came with, by its token
	// ([push.Session.ReplyWithCookies]). Nil: there never are any.
	Cookies func(page, token string) []string
	// Client takes from a request what is to be known of the client that sends it, and Met
	// gives that to the session, with each connection and each POST. Nil: nothing is.
	Client func(x *exchange.Exchange) any
	Met    func(s *push.Session, client any)
	Log    *slog.Logger
}

// Server is the step that answers on the path of push.
type Server struct {
	hub  *push.Hub
	opts Options

	mu       sync.Mutex // guards the rest
	streams  map[*stream]struct{}
	draining bool
}

// New makes the step.
func New(hub *push.Hub, o Options) *Server {
	if o.AllowOrigin == nil {
		o.AllowOrigin = sameHost
	}
	if o.Still == nil {
		o.Still = func(*exchange.Exchange) func() bool { return nil }
	}
	if o.Stale == nil {
		o.Stale = func(*exchange.Exchange) bool { return false }
	}
	if o.Cookies == nil {
		o.Cookies = func(string, string) []string { return nil }
	}
	if o.Client == nil || o.Met == nil {
		o.Client = func(*exchange.Exchange) any { return nil }
		o.Met = func(*push.Session, any) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{hub: hub, opts: o, streams: map[*stream]struct{}{}}
}

func sameHost(origin string, x *exchange.Exchange) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, string(x.Host))
}

// Serve takes a client's WebSocket, its stream, or a batch of its frames.
func (s *Server) Serve(x *exchange.Exchange) {
	if x.Upgrade == "websocket" {
		s.upgrade(x)
		return
	}
	if x.Method != "POST" {
		x.Fail(&exchange.Problem{
			Status: 405, Code: "method_not_allowed", Err: fmt.Errorf("%s on the path of push", x.Method),
			Fields: []exchange.Field{{Name: []byte("Allow"), Value: []byte("POST")}},
		})
		return
	}
	if o := x.Field("origin"); o != nil && !s.opts.AllowOrigin(string(o), x) {
		x.Fail(&exchange.Problem{Status: 403, Code: "origin_not_allowed", Err: fmt.Errorf("a page of %q may not use this server's push", o)})
		return
	}
	connection, problem := s.opts.Connection(x)
	if problem != nil {
		x.Fail(problem)
		return
	}
	c := caller{connection: connection, still: s.opts.Still(x)} // the body may come much later
	body, problem := exchange.ReadBody(x, s.hub.Options().Message+mostBatch)
	if problem != nil {
		x.Fail(problem)
		return
	}
	c.stale = s.opts.Stale(x)
	if bytes.Contains(x.Field("accept"), []byte("text/event-stream")) {
		s.stream(x, c, body)
		return
	}
	s.batch(x, c, body)
}

// caller is who came with a request, and whether he still is that.
type caller struct {
	connection string
	still      func() bool
	stale      bool // see Options.Stale
}

// attach connects a client to the session of its page. With the cookie of before a login or
// logout it must be the one whose own request that was: others come back with the new one.
func (s *Server) attach(c caller, hello push.Hello, t push.Transport) (*push.Attachment, *push.Refusal) {
	if c.stale {
		return s.hub.AttachAwaited(hello, t)
	}
	return s.hub.AttachIf(c.still, hello, c.connection, t)
}

// mostBatch is how many bytes of frames one POST may bring beside one largest message.
const mostBatch = 256 << 10

// batch takes the frames of a POST: a line each, the first says whose they are.
func (s *Server) batch(x *exchange.Exchange, c caller, body []byte) {
	lines := slices.Collect(bytes.SplitSeq(bytes.TrimRight(body, "\n"), []byte("\n")))
	on, refusal := push.DecodeOn(lines[0])
	head := exchange.Head{Status: 204, Fields: noStore}
	switch {
	case refusal != nil:
	case on.Token != "":
		// Who has the token may have them: his cookie may be the one that they replace.
		if refusal = s.hub.Knows(on.Page, c.connection); refusal == nil || c.stale {
			s.cookies(x, on)
			return
		}
	case on.Bye && c.stale:
		refusal = push.ErrStale
	case on.Bye:
		refusal = s.hub.Bye(on, c.connection)
	default:
		var a *push.Attachment
		if a, refusal = s.attachment(c, on); refusal == nil {
			s.opts.Met(a.Session(), s.opts.Client(x))
		}
		for _, line := range lines[1:] {
			if refusal != nil {
				break
			}
			refusal = a.Receive(line)
		}
	}
	if refusal == nil {
		_ = x.Answer.Head(head) // the lane sees that the client left
		return
	}
	s.opts.Log.Debug("push frames refused", "request_id", x.ID, "code", refusal.Code.Name(), "error", refusal)
	text := push.CloseFrame(refusal.Code)
	head = exchange.Head{Status: 409, Length: int64(len(text)), Fields: append([]exchange.Field{jsonType}, noStore...)}
	if err := x.Answer.Head(head); err == nil {
		_, _ = x.Answer.Write(text) // likewise
	}
}

func (s *Server) attachment(c caller, on push.On) (*push.Attachment, *push.Refusal) {
	if c.stale {
		return s.hub.AttachmentLeaving(on)
	}
	return s.hub.AttachmentIf(c.still, on, c.connection)
}

// cookies gives a client what a reply to it has set.
func (s *Server) cookies(x *exchange.Exchange, on push.On) {
	values := s.opts.Cookies(on.Page, on.Token)
	if len(values) == 0 {
		x.Fail(&exchange.Problem{Status: 404, Code: "no_cookies", Err: fmt.Errorf("page %s has no cookies of this token: they were fetched, or given up", on.Page)})
		return
	}
	fields := slices.Clone(noStore)
	for _, value := range values {
		fields = append(fields, exchange.Field{Name: []byte("Set-Cookie"), Value: []byte(value)})
	}
	_ = x.Answer.Head(exchange.Head{Status: 204, Fields: fields}) // the lane sees that the client left
}

var (
	jsonType = exchange.Field{Name: []byte("Content-Type"), Value: []byte("application/json")}
	noStore  = []exchange.Field{{Name: []byte("Cache-Control"), Value: []byte("no-store")}}
)

// Drain ends all streams; new ones are refused. Their clients were told why, if the hub
// was closed before.
func (s *Server) Drain() {
	s.mu.Lock()
	s.draining = true
	all := make([]*stream, 0, len(s.streams))
	for t := range s.streams {
		all = append(all, t)
	}
	s.mu.Unlock()
	for _, t := range all {
		t.Close(push.CodeRestart)
	}
}
