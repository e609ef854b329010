package guado

import (
	"encoding/hex"
	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/durable"
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/item"
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
		Clock: h.clock, Log: h.log, Decode: link.DecodeHead, Wait: h.kept.wait,
	})
	if h.config.Server.Phase == 0 {
		return // nothing of one server alone survives
	}
	if h.kept.found != nil {
		h.recoverReplay()
		return
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
	if h.config.Server.Phase == 0 || h.kept.keeps() {
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

// journalReplay has the log told of answers that no commit has brought there.
func journalReplay(log *durable.Log) func(replay.Kept) {
	return func(k replay.Kept) {
		change := durable.Change{Key: durable.Key{Kind: kindReplay, ID: k.ID}, Op: durable.Put, Data: k.Data}
		if k.Data == nil {
			change.Op = durable.Drop
		}
		log.Append(change)
	}
}

// recoverReplay takes the answers back that the log has.
func (h *host) recoverReplay() {
	for _, i := range h.kept.found.Items {
		if i.Kind != kindReplay {
			continue
		}
		if err := h.replay.Recover(i.Base); err != nil {
			h.giveUp(i.Key, err)
		}
	}
	for _, k := range h.kept.found.Damaged {
		if k.Kind != kindReplay {
			continue
		}
		if err := h.replay.Lose(k.ID); err != nil {
			h.giveUp(k, err)
			continue
		}
		h.log.Error("an answer of before is damaged: a request that comes again under its key is refused with idempotency_lost", "key", hex.EncodeToString([]byte(k.ID)))
	}
}

// decodeKept reads answers to messages of pages, where they are kept with what they have changed.
func (h *host) decodeKept() func([]byte, []exchange.Field) (exchange.Head, []byte, error) {
	if h.config.State.Durability != "host" {
		return nil
	}
	return link.DecodeHead
}

// recoverReplies takes back what is kept of the messages of pages.
func (h *host) recoverReplies() {
	for _, i := range h.kept.found.Items {
		if i.Kind != kindReply {
			continue
		}
		if err := h.pages.Resettle(i.ID, i.Base); err != nil {
			h.giveUp(i.Key, err)
		}
	}
	for _, k := range h.kept.found.Damaged {
		if k.Kind == kindReply { // a message might be done again
			h.giveUp(k, errNotWhole)
			h.pages.EndFor(k.ID, item.Failed)
		}
	}
}

// endReplies forgets what was kept of a page's messages.
func (h *host) endReplies(page string) {
	if log := h.kept.log.Load(); log != nil && h.kept.live.Load() {
		log.Append(durable.Change{Key: durable.Key{Kind: kindReply, ID: page}, Op: durable.Drop})
	}
}
