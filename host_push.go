package guado

import (
	"context"
	"errors"
	"time"

	"github.com/guado-server/guado/internal/edge"
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/identity"
	"github.com/guado-server/guado/internal/mirror"
	"github.com/guado-server/guado/internal/pages"
	"github.com/guado-server/guado/internal/push"
	"github.com/guado-server/guado/internal/push/transport"
	"github.com/guado-server/guado/internal/websocket"
	"github.com/guado-server/guado/js"
)

// phasePush is the phase from which on the host pushes to pages.
const phasePush = 3

// pushes reports whether what serves now knows users, connections and pages. Until then
// nobody but a reload may look at what the host has for them.
func (b *base) pushes() bool { return b.now().config.Server.Phase >= phasePush }

// keeps reports the same of stores.
func (b *base) keeps() bool { return b.now().config.Server.Phase >= phaseStores }

// pageTopics is what pages ask of events, and tell them. It is set before the server
// serves; nil members ask nobody.
type pageTopics struct {
	of        func(page string) []string // to be saved with it
	subscribe func(page, topic string)   // as it was before the start
	ended     func(page string)
}

// openPages makes what a server has of push. All configurations have it in common.
func (h *host) openPages() {
	if h.config.Server.Phase < phasePush || h.pages != nil {
		return
	}
	c := &h.config.Push
	h.pages = pages.New(pages.Options{
		Push: push.Options{
			TailBytes: int(c.Tail.Bytes()), TailAge: c.TailAge.Std(), Waiting: int(c.Waiting.Bytes()), Message: int(c.Message.Bytes()),
			Beat: c.Beat.Std(), Away: c.Away.Std(), Unclaimed: c.Unclaimed.Std(), NewPages: c.NewPages, UserPages: c.UserPages, Pages: c.Pages,
			Window: c.Window.Std(), Rate: c.Rate, Calls: c.Calls, Replies: int(c.Replies.Bytes()), Base: identity.Base, Clock: h.clock, Log: h.log,
			Touched: h.touchedPage(), Position: h.kept.position, Keeps: h.kept.has,
		},
		App:    h.turnsOf,
		Turns:  func() exchange.Handler { return h.gate },
		Launch: h.launchTurn,
		Landed: func() { h.gate.Leave() },
		Road:   func() exchange.Handler { return h.now().first },
		Target: edge.SplitTarget,
		Carry: func(x *exchange.Exchange, page string, owner push.Owner) {
			x.GuadoPage, x.Carried, x.CarriedUser, x.Message = []byte(page), owner.Connection, owner.User, true
		},
		Begin: func(x *exchange.Exchange) { h.edge.BeginMessage(x) },
		End:   func(x *exchange.Exchange, o exchange.Outcome) { h.edge.EndMessage(x, o) },
		Ended: func(page string) {
			h.endReplies(page)
			if h.topics.ended != nil {
				h.topics.ended(page)
			}
		},
		Over:   h.ended,
		Decode: h.decodeKept(),
		Known: func(connection string) bool {
			_, is := h.identity.Find(connection)
			return is
		},
		Settle: h.settle, Anew: h.anew, Runs: h.writesFor, NewID: identity.NewID, Log: h.log,
	})
	h.hub = h.pages.Hub()
	h.pageIndex = pageIndex{
		owner: h.pages.Owner, changed: h.userChanged,
		live: func(connection string) bool { return h.hub.Has(connection) },
		met:  func(page string) { h.pages.Touch(page) },
	}
	h.pageVerbs()
	h.push = transport.New(h.hub, transport.Options{
		Connection: func(x *exchange.Exchange) (string, *exchange.Problem) {
			// Who has no cookie has no page: the hello is answered so.
			connection, _, _ := h.identity.Known(x)
			return connection, nil
		},
		AllowOrigin: func(origin string, x *exchange.Exchange) bool { return h.now().origins.Allows(origin, x) },
		Still:       h.identity.Still,
		Stale:       h.identity.UnderWay,
		Cookies:     h.pages.Cookies,
		Client:      func(x *exchange.Exchange) any { return pages.FromExchange(x) },
		Met:         func(s *push.Session, client any) { h.pages.Met(s, client.(pages.From)) },
		Log:         h.log,
	})
}

// turnsBefore lets turns leave the road where the mounts begin.
func (h *host) turnsBefore(mounts exchange.Handler) exchange.Handler {
	if h.pages == nil {
		return mounts
	}
	return h.pages.Step(mounts) // also behind a step to phase 0: the last turns of pages run on this road
}

// site puts the host's own paths in front of what is behind them on every host name.
func (h *host) site(next exchange.Handler) (exchange.Handler, error) {
	if h.config.Server.Phase < phasePush {
		return next, nil
	}
	c, w := &h.config.Push, &h.config.Server.WebSocket
	step, err := websocket.NewStep(h.websockets, h.push, websocket.Policy{Origins: c.Origins, Limits: websocket.Limits{
		// A frame is some bytes longer than its message. The session looks at what waits
		// long before the socket does, and gives the signs of life.
		Message: int(c.Message.Bytes()) + 8<<10, Fragments: w.FragmentLimit, Waiting: 2*int(c.Waiting.Bytes()) + 4*int(c.Message.Bytes()),
		WriteIdle: h.config.Server.Timeouts.WriteIdle.Std(), Compression: w.Compression, CompressionMin: int(w.CompressionMin.Bytes()),
		Total: w.Connections, PerAddress: w.PerAddress,
	}})
	if err != nil {
		return nil, err
	}
	h.origins = step
	return pages.NewSite(pages.Site{
		Push: step, Client: js.Client, Next: next,
		Open: &pages.Opener{Pages: h.pages, Origin: step.Allows, Touch: h.touch, App: h.pageApp, Kept: h.gateAnswers()},
		Page: h.resident(step), Shared: h.sharedPages(step),
		Beacon: &pages.Beacon{Pages: h.pages, Origin: step.Allows, Known: func(x *exchange.Exchange) string {
			connection, _, _ := h.identity.Known(x)
			return connection
		}},
	}), nil
}

// touch gives the connection of a browser that asks for a page.
func (h *host) touch(x *exchange.Exchange) (connection, user string, cookie exchange.Field, problem *exchange.Problem) {
	c, cookie, err := h.identity.Touch(x)
	switch {
	case errors.As(err, &problem):
	case errors.Is(err, identity.ErrUnderWay):
		problem = &exchange.Problem{Status: 409, Code: "login_under_way", Err: err}
	case errors.Is(err, identity.ErrStopping):
		problem = &exchange.Problem{Status: 503, Code: "stopping", RetryAfter: 1, Err: err}
	case err != nil:
		problem = &exchange.Problem{Status: 503, Code: "connections_full", RetryAfter: 1, Err: err}
	}
	return c.ID, c.User, cookie, problem
}

// pageApp names the application whose page is opened at a path: of pages with a class that
// of the class.
func (h *host) pageApp(x *exchange.Exchange, path, class string) (app string, ok bool) {
	h = h.now()
	app, ok = h.appAt(x, path)
	if class == "" {
		return app, ok
	}
	if of, ok := h.classApp(class, app); ok {
		return of, true
	}
	return app, false
}

// appAt is the application that is mounted where a path leads on the host of x.
func (h *host) appAt(x *exchange.Exchange, path string) (app string, ok bool) {
	if path == "" {
		return "", true
	}
	to := exchange.Exchange{Request: exchange.Request{Method: "POST", Target: []byte(path)}}
	if edge.SplitTarget(&to) != nil {
		return "", false
	}
	m := h.table.Mount(x.Host, to.Path)
	if m == nil {
		return "", false
	}
	return h.mountedApp(m.Host, m.Path), true
}

func (h *host) mountedApp(host, path string) string {
	for i := range h.config.Mounts {
		if m := &h.config.Mounts[i]; m.Host == host && m.Path == path {
			return m.App
		}
	}
	return ""
}

// classApp is the application of the state group that has a class: the one that declared
// it, else the one that would be asked anyway, else the first.
func (h *host) classApp(class, usual string) (app string, ok bool) {
	declared, known := h.pages.AppOf(class)
	if !known {
		return "", false
	}
	state := h.config.StateGroup()
	for _, name := range []string{declared, usual} {
		if a := h.config.App(name); a != nil && a.Group == state {
			return name, true
		}
	}
	for i := range h.config.Apps {
		if a := &h.config.Apps[i]; a.Group == state {
			return a.Name, true
		}
	}
	return "", false
}

// userChanged is told when a connection logged in or out. A guest's pages become the
// user's; those of a user are nobody else's, unless the application itself says so.
func (h *host) userChanged(c identity.Change) {
	var stores *stores // below phase 4 there are none
	if h.keeps() {
		stores = h.stores
	}
	if c.Before == "" || c.Keep {
		give := stores.relabel
		if c.Before != "" {
			give = stores.pass
		}
		give(ownerOf(c.Before, c.Connection), ownerOf(c.After, c.Connection), c.Connection, h.pages)
		h.pages.LoggedIn(c.Connection, c.After, c.Page)
		return
	}
	stores.end(mirror.Ref{Kind: mirror.Connection, ID: c.Connection})
	h.pages.LoggedOut(c.Connection, c.After, c.Page)
}

// restorePages takes back what a graceful stop has saved, before anybody can ask for it.
func (h *host) restorePages() {
	if h.pages == nil {
		return
	}
	if h.kept.found != nil {
		h.recoverPages()
		h.recoverReplies()
		return
	}
	n, err := h.pages.Restore(h.config.Server.StateDir, h.topics.subscribe)
	if err != nil {
		h.log.Error("pages of before", "error", err)
	}
	if n > 0 {
		h.log.Info("pages of before are open again", "pages", n)
	}
}

// detachPages tells clients to come back, spread over the time that the hub thinks right,
// and lets what runs for their pages come to its end.
func (h *host) detachPages(graceful context.Context) {
	if h.pages == nil {
		return
	}
	h.hub.Announce(stopWindow)
	h.hub.Detach(push.CodeRestart)
	h.push.Drain()
	h.pages.Stop(graceful)
}

// stopWindow is the least time over which clients come back after a stop.
const stopWindow = time.Second

// dropPages ends what was never used.
func (h *host) dropPages() {
	if h.pages != nil {
		h.registry.Close()
		h.pages.Close()
	}
}

// savePages writes what must survive, once no worker can push any more.
func (h *host) savePages() error {
	if h.pages == nil {
		return nil
	}
	h.registry.Close()
	defer h.pages.Close()
	defer h.closeEvents()
	if h.kept.keeps() {
		return h.keepAll()
	}
	return h.pages.Save(h.config.Server.StateDir, h.topics.of)
}
