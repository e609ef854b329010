package pages

import (
	"fmt"
	"net/url"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/item"
)

// Beacon ends pages whose tab was closed, for clients without a session: they send a beacon,
// whose answer nobody reads.
type Beacon struct {
	Pages *Pages
	// Origin reports whether a page of this origin may ask.
	Origin func(origin string, x *exchange.Exchange) bool
	// Known gives the connection of the client; empty: it has none.
	Known func(x *exchange.Exchange) (connection string)
}

// Serve ends the page that the query names, if it is the client's own. Of another one it says
// the same as of one that there is not: nothing.
func (b *Beacon) Serve(x *exchange.Exchange) {
	if x.Method != "POST" {
		notAllowed(x, "POST")
		return
	}
	if origin := x.Field("origin"); origin != nil && !b.Origin(string(origin), x) {
		x.Fail(&exchange.Problem{Status: 403, Code: "origin_not_allowed", Err: fmt.Errorf("a page of %q may not end pages here; allow it with push.origins", origin)})
		return
	}
	query, err := url.ParseQuery(string(x.Query))
	if err != nil || query.Get("page_id") == "" {
		x.Fail(&exchange.Problem{Status: 400, Code: "bad_page", Err: fmt.Errorf("the query %.80q names no page_id", x.Query)})
		return
	}
	id := query.Get("page_id")
	if owner, ok := b.Pages.Owner(id); ok && owner == b.Known(x) {
		b.Pages.EndFor(id, item.Closed)
	}
	_ = x.Answer.Head(exchange.Head{Status: 204}) // the tab has been closed
}
