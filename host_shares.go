package guado

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/mirror"
	"github.com/guado-server/guado/internal/pages"
	"github.com/guado-server/guado/internal/websocket"
)

// shares tells clients of pages what has changed of what is shared with them: what the copy of
// stores has queued with each commit, in the order of commits.
type shares struct {
	mirror *mirror.Mirror
	pages  *pages.Pages
	wait   func() error // until what is queued is kept; nil: nobody keeps it

	turn    sync.Mutex  // held while the queue is given to sessions, which do not wait
	running atomic.Bool // somebody waits for what is queued, and gives it then
}

// openShares begins to tell, where there are stores.
func (h *host) openShares() {
	h.stores.shares = &shares{mirror: h.stores.mirror, pages: h.pages, wait: h.gateAnswers()}
}

// committed is told of a commit, and may not wait.
func (s *shares) committed() {
	switch {
	case s.mirror.Queued() == 0:
	case s.wait == nil:
		s.give()
	case s.running.CompareAndSwap(false, true):
		if !s.pages.Go(s.keep) { // the host stops, and nobody is connected
			s.running.Store(false)
			s.give()
		}
	}
}

// keep gives what is queued once it is kept.
func (s *shares) keep() {
	for {
		for n := s.mirror.Queued(); n > 0; n = s.mirror.Queued() {
			if s.wait() != nil {
				// Who was not told in time is told all of it, then.
				s.mirror.Anew()
				if !s.pages.Pause(time.Second) { // as for those that begin no more
					s.running.Store(false)
					s.give()
					return
				}
				continue
			}
			s.giveUpTo(n)
		}
		s.running.Store(false)
		if s.mirror.Queued() == 0 || !s.running.CompareAndSwap(false, true) {
			return
		}
	}
}

// settle returns when all that is queued has been given, unless it cannot be kept now.
func (s *shares) settle() {
	if s == nil {
		return
	}
	n := s.mirror.Queued()
	if n == 0 || s.wait == nil || s.wait() == nil {
		// Also where nothing is queued: somebody may be giving it to sessions just now, and
		// the reply must be behind.
		s.giveUpTo(n)
	}
}

func (s *shares) give() { s.giveUpTo(s.mirror.Queued()) }

func (s *shares) giveUpTo(number uint64) {
	s.turn.Lock()
	defer s.turn.Unlock()
	if number == 0 {
		return
	}
	for _, t := range s.mirror.Tell(number) {
		s.pages.Changes(t.Page, t.Data, t.All)
	}
}

// settle returns when what a worker has pushed and changed so far is with the sessions.
func (h *host) settle(slot string) {
	h.calls.Settle(slot)
	if h.keeps() {
		h.stores.shares.settle()
	}
}

// anew tells the client of a page all that is shared with it: before the replies to what the
// client sends now, of which some are kept from before the end of a host, and come at once.
func (h *host) anew(page string) {
	if h.keeps() {
		h.stores.mirror.Shared(page)
		h.stores.shares.settle()
		h.stores.shares.committed() // what could not be kept just now
	}
}

// sharedPages answers clients without sessions; nil: there are no stores.
func (h *host) sharedPages(origins *websocket.Step) *pages.Shared {
	if h.config.Server.Phase < phaseStores {
		return nil
	}
	return &pages.Shared{
		Pages: h.pages, Origin: origins.Allows, HandOut: h.stores.mirror.HandOut, Kept: h.gateAnswers(),
		Known: func(x *exchange.Exchange) string {
			connection, _, _ := h.identity.Known(x)
			return connection
		},
		Acknowledge: h.acknowledge, Patience: h.turnPatience,
	}
}

func (h *host) acknowledge(page string, number uint64) error {
	err := h.stores.mirror.Acknowledge(page, number)
	if errors.Is(err, mirror.ErrNotHanded) {
		err = fmt.Errorf("%w: %w", pages.ErrNumber, err)
	}
	return err
}

// acknowledges lets requests of applications say what their page's client has.
func (h *host) acknowledges(next exchange.Handler) exchange.Handler {
	if h.config.Server.Phase < phaseStores {
		return next
	}
	return (&pages.Shared{Acknowledge: h.acknowledge}).Step(next)
}

// writesFor names the application of the state group that writes for clients of another one's
// pages, as far as those may write.
func (b *base) writesFor(app string) string {
	h := b.now()
	state := h.config.StateGroup()
	if a := h.config.App(app); a != nil && a.Group == state {
		return app
	}
	for i := range h.config.Apps {
		if a := &h.config.Apps[i]; a.Group == state {
			return a.Name
		}
	}
	return app
}
