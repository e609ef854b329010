package guado

import (
	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/observe"
	"github.com/guado-server/guado/internal/replay"
)

// IdempotencyStatus is the answers that are kept for requests that come again.
type IdempotencyStatus = replay.Status

// openReplay begins to keep answers. All configurations have them in common.
func (h *host) openReplay() {
	c := &h.config.Idempotency
	h.replay = replay.New(replay.Options{
		TTL: c.TTL.Std(), Count: c.Answers, Bytes: c.Bytes.Bytes(), Answer: c.Answer.Bytes(),
		Clock: h.clock, Log: h.log, Decode: link.DecodeHead,
	})
	if h.config.Server.Phase == 0 {
		return // nothing of one server alone survives
	}
	if err := h.replay.Load(h.config.Server.StateDir); err != nil {
		h.log.Error("answers of before the stop", "error", err)
	}
}

// once lets requests that come again be done only once, where the mount wants it.
func (h *host) once(m *config.Mount, next exchange.Handler) exchange.Handler {
	if !m.Idempotency {
		return next
	}
	return h.replay.Step(replay.Policy{Required: m.IdempotencyRequired}, next)
}

// closeReplay keeps the answers for the next start.
func (h *host) closeReplay() error {
	if h.config.Server.Phase == 0 {
		return nil
	}
	return h.replay.Save(h.config.Server.StateDir)
}

// idempotencyStatus tells of the answers; nil: no mount has any.
func (h *host) idempotencyStatus() *IdempotencyStatus {
	for i := range h.config.Mounts {
		if h.config.Mounts[i].Idempotency {
			st := h.replay.Status()
			return &st
		}
	}
	return nil
}

// idempotencyFigures are those of the metrics.
func (h *host) idempotencyFigures() *observe.Idempotency {
	st := h.idempotencyStatus()
	if st == nil {
		return nil
	}
	return &observe.Idempotency{
		Keys: st.Keys, Running: st.Running, Bytes: st.Bytes, Dropped: st.Dropped,
		Requests: map[string]uint64{
			"answered": st.Answered, "replayed": st.Replayed, "running": st.Busy, "mismatch": st.Other, "bad_key": st.Bad,
			"without_answer": st.Without, "not_kept": st.NotKept, "lost": st.Lost, "released": st.Released,
		},
	}
}
