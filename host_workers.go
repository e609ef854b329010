package guado

import (
	"context"
	"errors"
	"net/http"

	"github.com/guado-server/guado/internal/admin"
	"github.com/guado-server/guado/internal/supervise"
)

// workerActions are what one worker can be told to do.
func (h *host) workerActions() []admin.Action {
	return []admin.Action{
		{Path: "workers/{slot}/restart", Do: h.tell(func(ctx context.Context, g *supervise.Group, slot string) (any, error) {
			return nil, g.ReplaceSlot(ctx, slot, supervise.ByOperator)
		})},
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
