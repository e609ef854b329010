// Package headers changes the header fields of a mount's answers: sets, adds and removes.
// Before it: route. After it: what is mounted.
// Not here: fields that the host sends everywhere (edge); those that frame an answer (the lanes).
package headers

import (
	"slices"

	"github.com/guado-server/guado/internal/exchange"
)

// Options of one mount.
type Options struct {
	Set    []exchange.Field // take the place of those of the same name
	Add    []exchange.Field // come beside them
	Remove []string
	// SuccessOnly leaves answers alone that are neither a success nor a redirect or 304,
	// and the host's own error pages.
	SuccessOnly bool
}

// Handler is the step.
type Handler struct {
	next exchange.Handler
	rule rule
}

// rule is Options made ready to be applied.
type rule struct {
	Options
	drop  []string // names that an answer's own fields lose their place by
	sizes uint64   // of these names, a bit each, those over 63 the last one: most fields need no second look
	more  []exchange.Field
}

// New puts the step in front of next.
func New(next exchange.Handler, o Options) *Handler {
	r := rule{Options: o, drop: slices.Clone(o.Remove), more: slices.Concat(o.Set, o.Add)}
	for _, f := range o.Set {
		r.drop = append(r.drop, string(f.Name))
	}
	for _, name := range r.drop {
		r.sizes |= size(len(name))
	}
	return &Handler{next, r}
}

func size(n int) uint64 { return 1 << min(n, 63) }

// answer is an Answer whose head is changed.
type answer struct {
	exchange.Around
	rule *rule
	room []exchange.Field
}

var key exchange.Key // of *answer

// Serve lends x another Answer for as long as the steps behind work.
func (h *Handler) Serve(x *exchange.Exchange) {
	a, _ := x.Kept(&key).(*answer)
	if a == nil {
		a = &answer{}
	}
	a.Answer, a.rule = x.Answer, &h.rule
	x.Answer = a
	defer func() {
		x.Answer = a.Answer
		clear(a.room[:cap(a.room)]) // they point into memory of the steps behind
		*a = answer{room: a.room[:0]}
		x.Keep(&key, a)
	}()
	h.next.Serve(x)
}

// successes are the statuses to which nginx adds fields that are not for all.
var successes = []int{200, 201, 204, 206, 301, 302, 303, 304, 307, 308}

func (o *Options) concerns(status int) bool {
	return !o.SuccessOnly || slices.Contains(successes, status)
}

// Head changes the fields on their way.
func (a *answer) Head(h exchange.Head) error { return a.Answer.Head(a.changed(h)) }

// Switch see [exchange.Switcher].
func (a *answer) Switch(h exchange.Head) exchange.Head { return a.Around.Switch(a.changed(h)) }

func (a *answer) changed(h exchange.Head) exchange.Head {
	if a.rule.concerns(h.Status) {
		a.room = a.rule.apply(a.room[:0], h.Fields)
		h.Fields = a.room
	}
	return h
}

func (r *rule) apply(room, fields []exchange.Field) []exchange.Field {
	for i := range fields {
		if !r.drops(fields[i]) {
			room = append(room, fields[i])
		}
	}
	return append(room, r.more...)
}

func (r *rule) drops(f exchange.Field) bool {
	if r.sizes&size(len(f.Name)) == 0 {
		return false
	}
	for _, name := range r.drop {
		if f.Is(name) {
			return true
		}
	}
	return false
}

// pageFields are those that an error page has already, and that describe it.
var pageFields = []string{"content-type", "cache-control", "retry-after", "x-content-type-options"}

// Problem gives the host's own error pages the same fields.
func (a *answer) Problem(x *exchange.Exchange, p *exchange.Problem) {
	if a.rule.concerns(p.Status) {
		with := *p
		with.Fields = slices.Clone(p.Fields)
		for _, f := range a.rule.more {
			if !slices.ContainsFunc(pageFields, f.Is) {
				with.Fields = append(with.Fields, f)
			}
		}
		p = &with
	}
	a.Answer.Problem(x, p)
}
