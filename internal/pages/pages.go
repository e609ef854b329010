// Package pages is what a page is for the host, beside its session: its application and
// class, the turns of its handlers, and the requests that its client sends as messages.
// Before it: push, whose Handler it is, and the paths below /_guado/. After it: what runs
// the page classes of an application, and the host's own road, as exchange.Handlers.
// Not here: frames and resuming (push); who a client is (identity); events (bus).
package pages

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/item"
	"github.com/guado-server/guado/internal/push"
)

// Bounds of one page, and of all.
const (
	mostWaiting = 64  // turns, or requests, that wait
	mostAtOnce  = 16  // requests, and turns of concurrent handlers, under way
	mostTurns   = 256 // turns of all pages that are with the workers' queue
	mostTo      = 2048
	mostArgs    = 64 << 10
)

// Options of the pages of a host.
type Options struct {
	Push push.Options
	// App runs the turns of an application's page classes; nil: it has none. Turns is the
	// step where they begin their way; [Pages.Step] is where they leave it.
	App   func(app string) exchange.Handler
	Turns func() exchange.Handler
	// Launch sends a turn to a worker that can take it now, past what may hold it up on its
	// way from Turns; [Flight.Land] serves the answer, and Landed hears that it was. nil: none
	// can.
	Launch func(app string, x *exchange.Exchange) Flight
	Landed func()
	// Settle returns when what the worker of a slot has pushed so far has been pushed.
	Settle func(slot string)
	// Decode reads the payload of an answer, as [exchange.Once] has it; nil: nothing of a
	// message is kept with what it has changed.
	Decode func(payload []byte, fields []exchange.Field) (exchange.Head, []byte, error)
	// Road answers the requests that clients send as messages.
	Road func() exchange.Handler
	// Target takes a request target apart, as it was done with every other request.
	Target func(x *exchange.Exchange) *exchange.Problem
	// Carry tells identity whose a request is, which came with no cookie of its own.
	Carry func(x *exchange.Exchange, page string, owner push.Owner)
	// Begin and End are told of a request that no lane has brought, before it takes the road
	// and after; nil: nobody looks.
	Begin func(x *exchange.Exchange)
	End   func(x *exchange.Exchange, o exchange.Outcome)
	// Ended hears of the end of a page, at once. Over hears of it when its class has had its
	// last turn: what it kept may go. Nil: nobody does.
	Ended func(page string)
	Over  func(e item.Ended)
	// Anew tells the client of a page all that is shared with it: it knows nothing any more. Runs
	// names the application that writes for the clients of another one's pages. Nil: there are no
	// stores.
	Anew func(page string)
	Runs func(app string) string
	// Known tells whether there is a connection; nil: there are all.
	Known func(connection string) bool
	// Held is how many bytes of messages all pages may have waiting or running; 256 MiB.
	Held int64
	// Args is how many bytes the arguments of all pages may have; 128 MiB.
	Args int64
	// NewID makes the id of a page, which nobody may guess; nil: rand.Text.
	NewID func() string
	Log   *slog.Logger
}

// Flight is a turn that is with a worker, and for which no goroutine waits until its exchange
// rings.
type Flight interface{ Land() }

// Pages are the pages of a host. Its methods may be called from any goroutine.
type Pages struct {
	opts  Options
	hub   *push.Hub
	turns chan struct{} // a place for each that is under way
	over  chan struct{} // closed when nothing waits any more for its turn
	work  work
	count counters

	name   string        // of this start, in the ids of its exchanges
	serial atomic.Uint64 // of those ids

	classes atomic.Pointer[map[string]Class]
	bytes   atomic.Int64 // of messages that wait or run, of all pages
	args    atomic.Int64 // bytes of arguments of all pages
	objects atomic.Int64 // that the worker has of pages
}

type counters struct {
	turns, failed, lost, again, busy atomic.Uint64
	requests, faults, met            atomic.Uint64
}

// fail counts a turn that has failed.
func (c *counters) fail(out outcome) {
	c.failed.Add(1)
	if !out.said && !out.wait {
		c.faults.Add(1)
	}
}

// New makes the pages and the hub of their sessions. [Pages.Close] must be called.
func New(o Options) *Pages {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Launch == nil {
		o.Launch = func(string, *exchange.Exchange) Flight { return nil }
	}
	if o.Settle == nil {
		o.Settle = func(string) {}
	}
	if o.Begin == nil || o.End == nil {
		o.Begin = func(*exchange.Exchange) {}
		o.End = func(*exchange.Exchange, exchange.Outcome) {}
	}
	if o.Held == 0 {
		o.Held = 256 << 20
	}
	if o.Args == 0 {
		o.Args = 128 << 20
	}
	if o.NewID == nil {
		o.NewID = rand.Text
	}
	p := &Pages{opts: o, turns: make(chan struct{}, mostTurns), over: make(chan struct{}), name: rand.Text()[:8]}
	p.hub = push.New(o.Push, p)
	return p
}

// Hub keeps the sessions.
func (p *Pages) Hub() *push.Hub { return p.hub }

// Class is a page class that a worker has.
type Class struct {
	Name       string   `json:"name"`
	App        string   `json:"app,omitempty"` // whose it is; empty: that of the page's path
	Concurrent []string `json:"concurrent,omitempty"`
	Events     bool     `json:"events,omitempty"` // it has on_event
}

// Declare says which classes a worker has, in place of what was said before.
func (p *Pages) Declare(list []Class) {
	all := make(map[string]Class, len(list))
	for _, c := range list {
		all[c.Name] = c
	}
	p.classes.Store(&all)
}

// class gives what was declared of one; false: nothing was. Before the first worker is
// there everything may be.
func (p *Pages) class(name string) (Class, bool) {
	all := p.classes.Load()
	if all == nil {
		return Class{Name: name}, true
	}
	c, ok := (*all)[name]
	return c, ok
}

// Classes is how many the application has declared.
func (p *Pages) Classes() int {
	if all := p.classes.Load(); all != nil {
		return len(*all)
	}
	return 0
}

// AppOf is the application that declared a class; empty: it did not say. False: no worker
// has such a class.
func (p *Pages) AppOf(class string) (app string, ok bool) {
	c, ok := p.class(class)
	return c.App, ok
}

// Reopen is told that a worker has ended: objects of pages that it had are gone. Those
// whose client is there are made anew now, the others when somebody needs them.
func (p *Pages) Reopen() {
	p.work.begin(taskFunc(func() {
		for _, s := range p.hub.Sessions() {
			if pg := pageOf(s); pg != nil && pg.class != "" {
				pg.setResident(false)
				if s.Connected() {
					pg.reopen()
				}
			}
		}
	}))
}

// Opening is a page that is to be.
type Opening struct {
	Connection, User string
	App              string          // whose page it is
	Class            string          // empty: it has none
	Args             json.RawMessage // of the class; a JSON object
	Path             string          // where its messages go that say nothing else
	ID               string          // of a page that the application has named; empty: a new one
	Meta             item.Meta
}

// Errors of Open and Push.
var (
	ErrNoPage = errors.New("there is no such page")
	ErrArgs   = fmt.Errorf("the arguments of a page are a JSON object of at most %d KiB", mostArgs>>10)
	ErrOwner  = errors.New("a page needs a connection")
)

// Open makes a page and gives its id. Nothing of the application runs before the page's
// client comes: pages that robots ask for cost nothing.
func (p *Pages) Open(o Opening) (string, error) {
	if o.Connection == "" {
		return "", ErrOwner
	}
	if len(o.Args) > mostArgs || len(o.Args) > 0 && (o.Args[0] != '{' || !json.Valid(o.Args)) {
		return "", ErrArgs
	}
	pg := &page{pages: p, id: o.ID, app: o.App, class: o.Class, args: o.Args, path: o.Path, made: time.Now(), meta: o.Meta}
	if pg.id == "" {
		pg.id = p.opts.NewID()
	}
	s, err := p.hub.Open(pg.id, push.Owner{User: o.User, Connection: o.Connection})
	if err != nil {
		return "", fmt.Errorf("open a page: %w", err)
	}
	pg.session = s
	s.SetValue(pg)
	p.keep(pg)
	pg.touched()
	if p.opts.Known != nil && !p.opts.Known(o.Connection) {
		s.EndFor(push.CodeEnded, string(item.Above)) // it has ended meanwhile, and taken its pages with it
		return "", ErrOwner
	}
	return pg.id, nil
}

// keep counts what a page's client has given it to keep.
func (p *Pages) keep(pg *page) {
	n := int64(len(pg.args))
	if n == 0 {
		return
	}
	over := p.args.Add(n) > p.opts.Args
	if p.hub.Page(pg.id) == nil { // it may have ended before it was known whose session it was
		pg.forget()
	}
	if over {
		p.hub.Thin()
	}
}

// End ends a page; false: there is none.
func (p *Pages) End(page string) bool {
	return p.EndFor(page, item.Dropped)
}

// EndFor ends a page for a reason that operators are told.
func (p *Pages) EndFor(page string, why item.Why) bool {
	s := p.hub.Page(page)
	return s != nil && s.EndFor(push.CodeEnded, string(why))
}

// EndAll ends all pages, and waits until nothing of them runs any more. It tells how many are left
// when ctx ends.
func (p *Pages) EndAll(ctx context.Context) (left int) {
	var all []chan struct{}
	for _, s := range p.hub.Sessions() {
		pg := pageOf(s)
		if pg == nil {
			continue
		}
		over := make(chan struct{})
		pg.mu.Lock()
		pg.last = over
		pg.mu.Unlock()
		if p.End(pg.id) {
			all = append(all, over)
		}
	}
	for _, over := range all {
		select {
		case <-over:
		case <-ctx.Done():
			left++
		}
	}
	return left
}

// Evict ends a page to make room in memory: its client is told, and may open another one.
func (p *Pages) Evict(page string) bool {
	s := p.hub.Page(page)
	return s != nil && s.EndFor(push.CodeEvicted, string(item.Memory))
}

// LoggedIn gives the pages of a connection to another user. Their clients must come back
// with the new cookie: who is connected may be somebody else, who has planted the old one.
// But a page whose own request was the login is connected to who has logged in, and needs
// the reply to get the cookie.
func (p *Pages) LoggedIn(connection, user, by string) {
	for _, s := range p.hub.Connection(connection) {
		p.hub.Relabel(s, push.Owner{User: user, Connection: connection})
		if s.Page() == by {
			s.Await(mostFetch)
		} else {
			s.Detach(push.CodeLogin)
		}
	}
}

// LoggedOut ends the pages of a connection: they are another's. But to a page whose own
// request that was its client listens until it has the reply, and the cookie of it. Where
// another user has come at once, the clients of other pages come back to hear of the end:
// with the new cookie, or their documents, loaded anew, would be a guest's.
func (p *Pages) LoggedOut(connection, user, by string) {
	now := push.CodeIdentity
	if user != "" {
		now = push.CodeLogin
	}
	for _, s := range p.hub.Connection(connection) {
		if s.Page() == by {
			s.Leave(push.CodeIdentity, mostFetch)
		} else {
			s.EndAway(now, push.CodeIdentity, mostAway)
		}
	}
}

// mostAway is how long it is known why a page has ended whose client was not told.
const mostAway = time.Minute

// mostFetch is how long the client whose request has changed its user may come with the
// cookie of before; identity does not remember that for longer.
const mostFetch = 10 * time.Second

// retryDelay is how long a turn that no worker could take waits before it is tried again.
func retryDelay(try int) time.Duration {
	return min(100*time.Millisecond<<min(try, 5), 2*time.Second)
}
