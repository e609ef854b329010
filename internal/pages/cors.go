package pages

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/guado-server/guado/internal/exchange"
)

// crossOrigin answers pages of other origins, where they are allowed, so that their
// browsers let them read it: with the very origin, never with "*", because it is about
// cookies.
type crossOrigin struct {
	exchange.Around
	origin []byte
}

// share gives such a page's exchange an Answer that says so; the function takes it back.
func share(x *exchange.Exchange, allows func(string, *exchange.Exchange) bool) (back func()) {
	origin := x.Field("origin")
	if _, host, ok := bytes.Cut(origin, []byte("://")); !ok || bytes.EqualFold(host, x.Host) || !allows(string(origin), x) {
		return func() {}
	}
	before := x.Answer
	x.Answer = &crossOrigin{exchange.Around{Answer: before}, bytes.Clone(origin)}
	return func() { x.Answer = before }
}

func (c *crossOrigin) fields(fields []exchange.Field) []exchange.Field {
	return append(slices.Clip(fields),
		exchange.Field{Name: []byte("Access-Control-Allow-Origin"), Value: c.origin},
		exchange.Field{Name: []byte("Access-Control-Allow-Credentials"), Value: []byte("true")},
		exchange.Field{Name: []byte("Vary"), Value: []byte("Origin")},
	)
}

// Head see [exchange.Answer].
func (c *crossOrigin) Head(h exchange.Head) error {
	h.Fields = c.fields(h.Fields)
	return c.Answer.Head(h)
}

// Problem lets the page read why: without it, its script would take a refusal for a lost
// connection.
func (c *crossOrigin) Problem(x *exchange.Exchange, p *exchange.Problem) {
	with := *p
	with.Fields = c.fields(p.Fields)
	c.Answer.Problem(x, &with)
}

// preflight answers the question of a browser whether a page of another origin may send
// what it wants to; false: x is no such question.
func preflight(x *exchange.Exchange, allows func(string, *exchange.Exchange) bool) bool {
	origin := x.Field("origin")
	if x.Method != "OPTIONS" || origin == nil || x.Field("access-control-request-method") == nil {
		return false
	}
	if !allows(string(origin), x) {
		x.Fail(&exchange.Problem{Status: 403, Code: "origin_not_allowed", Err: fmt.Errorf("a page of %q may not use this server's push; allow it with push.origins", origin)})
		return true
	}
	_ = x.Answer.Head(exchange.Head{Status: 204, Fields: []exchange.Field{ // the lane sees that the client left
		{Name: []byte("Access-Control-Allow-Methods"), Value: []byte("GET, POST")},
		{Name: []byte("Access-Control-Allow-Headers"), Value: []byte("content-type, guado-page, guado-ack")},
		{Name: []byte("Access-Control-Max-Age"), Value: []byte("600")},
	}})
	return true
}
