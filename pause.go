package guado

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/guado-server/guado/internal/gate"
)

// GateStatus tells whether the server is closed, and what it holds.
type GateStatus = gate.Status

// ErrPaused is what [Server.Pause] returns when there is a pause already.
var ErrPaused = gate.ErrPaused

// errNotRunning is what the methods below return before and after Run.
var errNotRunning = errors.New("the server does not run")

// Hold bounds what a pause keeps waiting: requests at once, and each for how long. Zeros
// stand for [server.pause] of the configuration.
type Hold struct {
	Requests int
	Wait     time.Duration
}

// Pause holds the requests that come from now on, until [Server.Resume], and waits until
// those that had come before have left the workers: then nothing runs that could disturb
// a migration. When ctx ends first the pause stays, and its error says so.
func (s *Server) Pause(ctx context.Context, hold Hold) error {
	h := s.running()
	if h == nil {
		return errNotRunning
	}
	return h.pause(ctx, gate.Hold(hold))
}

// Resume lets go what a pause has held; false when there was none.
func (s *Server) Resume() bool {
	h := s.running()
	return h != nil && h.gate.Resume()
}

// SetMaintenance closes the server for all requests, or opens it again. While the flag
// file of the configuration is there it stays closed.
func (s *Server) SetMaintenance(on bool) error {
	h := s.running()
	if h == nil {
		return errNotRunning
	}
	h.gate.SetMaintenance(on)
	return nil
}

// Gate tells how the server stands.
func (s *Server) Gate() GateStatus {
	if h := s.running(); h != nil {
		return h.gate.Status()
	}
	return GateStatus{}
}

func (h *host) pause(ctx context.Context, hold gate.Hold) error {
	h = h.now()
	if err := h.gate.Pause(hold); err != nil {
		return err
	}
	h.log.Info("paused: requests are held")
	if err := h.gate.Idle(ctx); err != nil {
		return fmt.Errorf("paused, but requests from before are still under way: %w", err)
	}
	for _, g := range h.groups {
		if err := g.pool.Idle(ctx); err != nil {
			return fmt.Errorf("paused, but work behind the answers of group %s still runs: %w", g.config.Name, err)
		}
	}
	return nil
}
