package guado

import (
	"github.com/guado-server/guado/internal/calls"
	"github.com/guado-server/guado/internal/link"
)

// callees gives who answers the calls of a group's workers: what they ask of the host
// itself, and tasks of executors.
func (h *host) callees(group string) func(*link.Link, string) link.Callee {
	return func(l *link.Link, slot string) link.Callee {
		h.replicate(l)
		if h.identity != nil {
			l.Commits(h.identity.Committed)
		}
		if h.config.Server.Phase >= phaseStores && group == h.config.StateGroup() {
			return h.stores.keep(l, h.calls.Callee(l, calls.Caller{Group: group, Slot: slot}, h.executors.Callee(l)))
		}
		return h.calls.Callee(l, calls.Caller{Group: group, Slot: slot}, h.executors.Callee(l))
	}
}
