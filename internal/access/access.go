// Package access lets clients in by their address.
// Before it: route. After it: what is mounted, or a password instead (basicauth).
// Not here: who the client behind a trusted proxy is (edge); passwords (basicauth).
package access

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/guado-server/guado/internal/address"
	"github.com/guado-server/guado/internal/exchange"
)

// Options of one mount. The most specific network that has the client decides, whatever
// the order: that is how a list with exceptions reads. Who is in none is let in unless
// Allow names anybody.
type Options struct {
	Allow, Deny address.Set
	// Otherwise serves who is not let in; nil: 403.
	Otherwise exchange.Handler
}

// Handler is the step.
type Handler struct {
	next, otherwise exchange.Handler
	rules           []rule // most specific first
	unix            bool   // clients without an address are let in
	others          bool   // those that no rule knows are let in
}

type rule struct {
	network netip.Prefix
	allow   bool
}

// New puts the step in front of next.
func New(next exchange.Handler, o Options) (*Handler, error) {
	h := &Handler{next: next, otherwise: o.Otherwise, others: o.Allow.Empty()}
	if o.Allow.Unix && o.Deny.Unix {
		return nil, fmt.Errorf("access: clients on Unix sockets are both allowed and denied")
	}
	h.unix = o.Allow.Unix || h.others && !o.Deny.Unix
	for _, n := range o.Allow.Networks {
		if slices.Contains(o.Deny.Networks, n) {
			return nil, fmt.Errorf("access: %s is both allowed and denied", n)
		}
		h.rules = append(h.rules, rule{n, true})
	}
	for _, n := range o.Deny.Networks {
		h.rules = append(h.rules, rule{n, false})
	}
	slices.SortStableFunc(h.rules, func(a, b rule) int { return cmp.Compare(b.network.Bits(), a.network.Bits()) })
	return h, nil
}

// Serve lets x pass, or refuses it with 403 and code address_not_allowed.
func (h *Handler) Serve(x *exchange.Exchange) {
	switch {
	case h.allows(x):
		h.next.Serve(x)
	case h.otherwise != nil:
		h.otherwise.Serve(x)
	default:
		x.Fail(&exchange.Problem{Status: 403, Code: "address_not_allowed"})
	}
}

func (h *Handler) allows(x *exchange.Exchange) bool {
	client, ok := address.Client(x)
	if !ok {
		return h.unix
	}
	for i := range h.rules {
		if h.rules[i].network.Contains(client) {
			return h.rules[i].allow
		}
	}
	return h.others
}
