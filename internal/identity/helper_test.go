package identity

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/exchange"
)

// open makes a server that ends with the test.
func open(t testing.TB, o Options) *Server {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// browser keeps its cookies as a browser does.
type browser struct {
	t      testing.TB
	server *Server
	policy Policy
	scheme string
	jar    map[string]string
	fields map[string]string // it sends
	page   string            // it sends as Guado-Page
	target string            // the query
	change func(x *exchange.Exchange)
}

func newBrowser(t testing.TB, s *Server) *browser {
	return &browser{t: t, server: s, scheme: "https", jar: map[string]string{}, policy: Policy{PageFrom: []string{"header:Guado-Page", "query:page_id", "form:page_id"}}}
}

// asks makes the exchange of a request.
func (b *browser) asks() (*exchange.Exchange, *exchange.Collected) {
	x, answer := exchange.New(), &exchange.Collected{Limit: 1 << 20}
	x.Method, x.Scheme, x.Path, x.Answer = "GET", b.scheme, []byte("/"), answer
	x.GuadoPage, x.Query = []byte(b.page), []byte(b.target)
	for name, value := range b.fields {
		x.Fields = append(x.Fields, exchange.Field{Name: []byte(name), Value: []byte(value)})
	}
	var pairs []string
	for name, value := range b.jar {
		pairs = append(pairs, name+"="+value)
	}
	if len(pairs) > 0 {
		x.Fields = append(x.Fields, exchange.Field{Name: []byte("Cookie"), Value: []byte(strings.Join(pairs, "; "))})
	}
	if b.change != nil {
		b.change(x)
	}
	return x, answer
}

// visits an application.
func (b *browser) visits(app func(x *exchange.Exchange)) *exchange.Collected {
	b.t.Helper()
	x, answer := b.asks()
	b.server.Step(b.policy, exchange.HandlerFunc(app)).Serve(x)
	b.keeps(answer)
	return answer
}

// keeps the cookies of an answer.
func (b *browser) keeps(answer *exchange.Collected) {
	fields := answer.Fields
	if answer.Refused != nil {
		fields = append(fields, answer.Refused.Fields...)
	}
	for _, f := range fields {
		if f.Is("set-cookie") {
			pair, _, _ := strings.Cut(string(f.Value), ";")
			name, value, _ := strings.Cut(pair, "=")
			b.jar[name] = value
		}
	}
}

// twin is the browser with the same cookies, or somebody who has stolen or planted them.
func (b *browser) twin() *browser {
	c := newBrowser(b.t, b.server)
	for name, value := range b.jar {
		c.jar[name] = value
	}
	return c
}

// is visits an application that only looks at who it is.
func (b *browser) is() (who exchange.Who) {
	b.t.Helper()
	b.visits(func(x *exchange.Exchange) {
		who = *x.Who
		answers(b.t, x)
	})
	return who
}

// answers 200.
func answers(t testing.TB, x *exchange.Exchange, fields ...string) {
	t.Helper()
	head := exchange.Head{Status: 200, Length: -1}
	for i := 0; i < len(fields); i += 2 {
		head.Fields = append(head.Fields, exchange.Field{Name: []byte(fields[i]), Value: []byte(fields[i+1])})
	}
	if err := x.Answer.Head(head); err != nil {
		t.Error(err)
	}
}

// touches visits an application that wants a connection.
func (b *browser) touches() Connection {
	b.t.Helper()
	var c Connection
	b.visits(func(x *exchange.Exchange) {
		var err error
		if c, err = b.server.Visit(x.Who.Key).Touch(); err != nil {
			b.t.Error(err)
		}
		answers(b.t, x)
	})
	return c
}

// logsIn visits an application that logs in.
func (b *browser) logsIn(user string) Connection {
	b.t.Helper()
	var c Connection
	b.visits(func(x *exchange.Exchange) {
		var err error
		if c, err = b.server.Visit(x.Who.Key).Login(user, ""); err != nil {
			b.t.Error(err)
		}
		answers(b.t, x)
	})
	return c
}

func (b *browser) logsOut() {
	b.t.Helper()
	b.visits(func(x *exchange.Exchange) {
		if err := b.server.Visit(x.Who.Key).Logout(); err != nil {
			b.t.Error(err)
		}
		answers(b.t, x)
	})
}

// token is the value of its only cookie.
func (b *browser) token() string {
	b.t.Helper()
	if len(b.jar) != 1 {
		b.t.Fatalf("cookies: %v", b.jar)
	}
	for _, value := range b.jar {
		return value
	}
	return ""
}

// has sets the value of its cookie.
func (b *browser) has(token string) {
	b.jar["__Host-guado"] = token
}

// field gives the values of all fields with a name, joined.
func field(fields []exchange.Field, name string) string {
	var all [][]byte
	for _, f := range fields {
		if f.Is(name) {
			all = append(all, f.Value)
		}
	}
	return string(bytes.Join(all, []byte(", ")))
}

// later is over the time that the cookie of before is remembered.
const later = grace + time.Second
