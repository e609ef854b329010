package guado

import (
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/pages"
	"github.com/guado-server/guado/internal/pool"
)

// addTurns gives a worker that is to be from phase 3 on a hidden application beside each of
// its own, by which the handlers of its pages and of events are called.
func (h *host) addTurns(hello *link.Hello) {
	hello.Phase = h.config.Server.Phase
	if hello.Phase >= phaseStores {
		hello.StateBytes = h.config.State.Worker.Bytes()
	}
	if hello.Phase < 3 {
		return
	}
	for _, a := range hello.Apps {
		hello.Apps = append(hello.Apps, link.App{Name: a.Name + ".pages", Kind: "auto", File: true, Pages: a.Name})
	}
}

// handlers says where what answers as an application of a worker is kept, and under which
// name.
func (h *host) handlers(g *group, a link.App) (of map[string]exchange.Handler, name string) {
	switch {
	case h.executes(g.config):
		return h.tasks, a.Name
	case a.Pages != "":
		return h.turns, a.Pages
	}
	return h.apps, a.Name
}

// turnOptions is how turns of an application's pages are handled: as its requests.
func (h *host) turnOptions(name string) pool.AppOptions {
	o := h.appOptions(name)
	o.Hidden, o.RetrySafe = true, false
	return o
}

// turnsOf is what runs the turns of an application's pages.
func (h *host) turnsOf(app string) exchange.Handler {
	if last := h.phases.closing.Load(); last != nil {
		return last.turns[app]
	}
	return h.now().turns[app]
}

// launchTurn sends a turn to a worker, where nothing on the road to it wants to be asked.
func (h *host) launchTurn(app string, x *exchange.Exchange) pages.Flight {
	if !h.gate.Enter() {
		return nil
	}
	if a, is := h.turnsOf(app).(*pool.App); is {
		if begun := a.Begin(x); begun != nil {
			return begun
		}
	}
	h.gate.Leave()
	return nil
}
