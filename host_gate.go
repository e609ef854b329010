package guado

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/guado-server/guado/internal/admin"
	"github.com/guado-server/guado/internal/gate"
)

// pauseOrder is the body of the action "pause". Zeros stand for the configuration's.
type pauseOrder struct {
	Requests     int     `json:"requests"`
	WaitSeconds  float64 `json:"wait_seconds"`
	DrainSeconds float64 `json:"drain_seconds"`
}

// gateActions close the server and open it.
func (h *host) gateActions() []admin.Action {
	return []admin.Action{
		{Path: "pause", Do: h.askPause},
		{Path: "resume", Do: func(context.Context, admin.Call) (any, error) {
			if !h.gate.Resume() {
				return nil, &admin.Refusal{Status: http.StatusConflict, Code: "not_paused", Message: "the server is not paused"}
			}
			h.log.Info("the pause is over")
			return h.gate.Status(), nil
		}},
		{Path: "maintenance", Do: func(_ context.Context, c admin.Call) (any, error) {
			var order struct {
				On *bool `json:"on"`
			}
			if err := c.Body(&order); err != nil {
				return nil, err
			}
			if order.On == nil {
				return nil, &admin.Refusal{Status: http.StatusBadRequest, Code: "bad_body", Message: `the body must say {"on": true} or {"on": false}`}
			}
			h.gate.SetMaintenance(*order.On)
			return h.gate.Status(), nil
		}},
	}
}

func (h *host) askPause(ctx context.Context, c admin.Call) (any, error) {
	h = h.now()
	order := pauseOrder{DrainSeconds: h.config.Server.GracefulTimeout.Std().Seconds()}
	if err := c.Body(&order); err != nil {
		return nil, err
	}
	if order.Requests < 0 || order.WaitSeconds < 0 || order.DrainSeconds < 0 {
		return nil, &admin.Refusal{Status: http.StatusBadRequest, Code: "bad_body", Message: "numbers must not be negative"}
	}
	patience, cancel := context.WithTimeout(ctx, seconds(order.DrainSeconds))
	defer cancel()
	err := h.pause(patience, gate.Hold{Requests: order.Requests, Wait: seconds(order.WaitSeconds)})
	switch {
	case errors.Is(err, gate.ErrPaused):
		return nil, &admin.Refusal{Status: http.StatusConflict, Code: "paused_already", Message: err.Error()}
	case errors.Is(err, context.DeadlineExceeded):
		return nil, &admin.Refusal{Status: http.StatusConflict, Code: "still_busy", Message: err.Error(), Detail: h.gate.Status()}
	case err != nil:
		return nil, err
	}
	return h.gate.Status(), nil
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }
