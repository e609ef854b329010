package guado

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/guado-server/guado/internal/admin"
	"github.com/guado-server/guado/internal/supervise"
)

// workerActions are what one worker can be told to do.
func (h *host) workerActions() []admin.Action {
	return []admin.Action{
		{Path: "workers/{slot}/restart", Do: h.askRestartSlot},
		{Path: "workers/{slot}/drain", Do: h.tell(func(_ context.Context, g *supervise.Group, slot string) (any, error) {
			return nil, g.Halt(slot)
		})},
		{Path: "workers/{slot}/kill", Do: h.tell(func(_ context.Context, g *supervise.Group, slot string) (any, error) {
			return nil, g.Kill(slot)
		})},
		{Path: "workers/{slot}/cordon", Do: h.tell(func(_ context.Context, g *supervise.Group, slot string) (any, error) {
			return nil, g.Cordon(slot, true)
		})},
		{Path: "workers/{slot}/uncordon", Do: h.tell(func(_ context.Context, g *supervise.Group, slot string) (any, error) {
			return nil, g.Cordon(slot, false)
		})},
		{Path: "workers/{slot}/stack", Do: h.tell(func(_ context.Context, g *supervise.Group, slot string) (any, error) {
			stacks, err := g.Stacks(slot)
			return map[string]string{"stacks": stacks}, err
		})},
	}
}

// tell finds the group of a slot and has something done with it.
func (h *host) tell(do func(context.Context, *supervise.Group, string) (any, error)) func(context.Context, admin.Call) (any, error) {
	return func(ctx context.Context, c admin.Call) (any, error) {
		for _, g := range h.now().groups {
			answer, err := do(ctx, g.workers, c.Name("slot"))
			switch {
			case errors.Is(err, supervise.ErrNoSlot):
				continue
			case err != nil && ctx.Err() == nil:
				return nil, &admin.Refusal{Status: http.StatusConflict, Code: "worker_cannot", Message: err.Error()}
			}
			return answer, err
		}
		return nil, admin.NotFound("worker", c.Name("slot"))
	}
}

// waits reads whether who gives an order waits for what comes of it.
func waits(c admin.Call) (bool, error) {
	order := struct {
		Wait bool `json:"wait"`
	}{Wait: true}
	err := c.Body(&order)
	return order.Wait, err
}

func (h *host) askRestartSlot(ctx context.Context, c admin.Call) (any, error) {
	wait, err := waits(c)
	if err != nil {
		return nil, err
	}
	return h.tell(func(ctx context.Context, g *supervise.Group, slot string) (any, error) {
		if !wait {
			return nil, g.ReplaceSlotSoon(slot, supervise.ByOperator)
		}
		return nil, g.ReplaceSlot(ctx, slot, supervise.ByOperator)
	})(ctx, c)
}

// askRestart replaces all workers: groups beside each other, each up to the first of its
// workers whose successor cannot boot.
func (h *host) askRestart(ctx context.Context, c admin.Call) (any, error) {
	wait, err := waits(c)
	if err != nil {
		return nil, err
	}
	if !wait {
		h.restart()
		return nil, nil //nolint:nilnil // there is nothing to tell
	}
	h = h.now()
	var all sync.WaitGroup
	errs := make([]error, len(h.groups))
	for i, g := range h.groups {
		all.Go(func() {
			var err error
			switch {
			case g.idle(): // it waits for a program, and will be new when it starts
			case h.config.Dev:
				err = g.workers.RestartAll(ctx)
			default:
				err = g.workers.Replace(ctx, supervise.ByOperator)
			}
			if err != nil {
				errs[i] = fmt.Errorf("group %s: %w", g.config.Name, err)
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil && ctx.Err() == nil {
		return nil, &admin.Refusal{Status: http.StatusConflict, Code: "worker_cannot", Message: err.Error()}
	} else if err != nil {
		return nil, ctx.Err()
	}
	return nil, nil //nolint:nilnil // there is nothing to tell
}

// idle reports whether no worker of the group has ever been started.
func (g *group) idle() bool {
	for _, w := range g.workers.Status().Workers {
		if w.Starts > 0 {
			return false
		}
	}
	return true
}
