package guado

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/guado-server/guado/internal/calls"
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/pages"
	"github.com/guado-server/guado/internal/push"
	"github.com/guado-server/guado/internal/websocket"
)

// heldTurns are turns of pages in the hands of requests.
type heldTurns struct {
	mu  sync.Mutex // guards all
	all map[heldBy]func()
}

// heldBy is a turn by the number that its worker gave it.
type heldBy struct {
	worker uint64
	turn   uint64
}

// heldVerbs are what requests ask for to have a page for themselves.
func (h *host) heldVerbs() {
	t := &heldTurns{all: map[heldBy]func(){}}
	h.calls.HandleWaiting("turn.take", func(ctx context.Context, c calls.Caller, data []byte) (any, error) {
		var want struct {
			Page string `json:"page"`
			Turn uint64 `json:"turn"`
		}
		if err := calls.Decode(data, &want); err != nil {
			return nil, err
		}
		id, err := namedPage(data)
		if err != nil {
			return nil, err
		}
		giveBack, err := h.pages.Hold(ctx, id)
		if err != nil {
			return nil, heldError(err)
		}
		t.keep(heldBy{c.Worker, want.Turn}, giveBack)
		if ctx.Err() != nil { // nobody will hear that it has it
			t.give(heldBy{c.Worker, want.Turn})
		}
		return nil, context.Cause(ctx)
	})
	h.calls.Handle("turn.give", func(_ context.Context, c calls.Caller, data []byte) (any, error) {
		var which struct {
			Turn uint64 `json:"turn"`
		}
		if err := calls.Decode(data, &which); err != nil {
			return nil, err
		}
		t.give(heldBy{c.Worker, which.Turn})
		return nil, nil //nolint:nilnil // there is nothing to tell
	})
	h.calls.HandleEnd(func(c calls.Caller) { t.giveAll(c.Worker) })
}

func heldError(err error) error {
	var reply *push.ReplyError
	if errors.As(err, &reply) {
		return calls.Errorf(503, reply.Code, "%s", reply.Message)
	}
	return pageError(err)
}

func (t *heldTurns) keep(by heldBy, giveBack func()) {
	t.mu.Lock()
	t.all[by] = giveBack
	t.mu.Unlock()
}

func (t *heldTurns) give(by heldBy) {
	t.mu.Lock()
	giveBack := t.all[by]
	delete(t.all, by)
	t.mu.Unlock()
	if giveBack != nil {
		giveBack()
	}
}

// giveAll gives back what a worker had that is gone.
func (t *heldTurns) giveAll(worker uint64) {
	t.mu.Lock()
	var all []func()
	for by, giveBack := range t.all {
		if by.worker == worker {
			all = append(all, giveBack)
			delete(t.all, by)
		}
	}
	t.mu.Unlock()
	for _, giveBack := range all {
		giveBack()
	}
}

// phaseResident is the phase from which on pages of classes answer requests.
const phaseResident = 5

// resident answers requests to pages; nil: below that phase.
func (h *host) resident(origins *websocket.Step) *pages.Resident {
	if h.config.Server.Phase < phaseResident {
		return nil
	}
	return &pages.Resident{Pages: h.pages, Origin: origins.Allows, Known: func(x *exchange.Exchange) string {
		connection, _, _ := h.identity.Known(x)
		return connection
	}, Patience: h.turnPatience}
}

// turnPatience is how long a request to a page waits for its turn: as for a worker.
func (h *host) turnPatience(app string) time.Duration {
	c := h.now().config
	if a := c.App(app); a != nil {
		if g := c.Group(a.Group); g != nil {
			return g.QueueWait.Std()
		}
	}
	return 0
}
