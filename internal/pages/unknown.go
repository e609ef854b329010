package pages

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/guado-server/guado/internal/exchange"
)

// unknown tells the operator of classes that clients ask for and nobody has declared. It
// may be any client's invention, so it is said once in a while, with how many there were.
type unknown struct {
	mu     sync.Mutex // guards the rest
	next   time.Time  // before which nothing is said
	others int        // since it was said
}

const unknownEvery = 10 * time.Second

func (u *unknown) tell(p *Pages, x *exchange.Exchange, class, app string) {
	now := time.Now()
	u.mu.Lock()
	others := u.others
	if now.Before(u.next) {
		u.others++
		u.mu.Unlock()
		return
	}
	u.next, u.others = now.Add(unknownEvery), 0
	u.mu.Unlock()
	const most = 80 // bytes of a name
	attrs := []any{"class", strings.ToValidUTF8(class[:min(len(class), most)], ""), "app", app, "declared", p.names(), "request_id", x.ID}
	if others > 0 {
		attrs = append(attrs, "others_before", others)
	}
	p.opts.Log.Warn("a browser asks for a page class that there is not: is its name right in open(…), "+
		"and does the application of the group with state = true import the module that defines it?", attrs...)
}

// names are the classes that were declared.
func (p *Pages) names() string {
	all := p.classes.Load()
	if all == nil || len(*all) == 0 {
		return "none"
	}
	names := make([]string, 0, len(*all))
	for name := range *all {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
