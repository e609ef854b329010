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
	opts Options
}

// New puts the step in front of next.
func New(next exchange.Handler, o Options) *Handler { return &Handler{next, o} }

// answer is an Answer whose head is changed.
type answer struct {
	exchange.Around
	opts *Options
	room []exchange.Field
}

var key exchange.Key // of *answer

// Serve lends x another Answer for as long as the steps behind work.
func (h *Handler) Serve(x *exchange.Exchange) {
	a, _ := x.Kept(&key).(*answer)
	if a == nil {
		a = &answer{}
	}
	a.Answer, a.opts = x.Answer, &h.opts
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
	if a.opts.concerns(h.Status) {
		a.room = a.opts.apply(a.room[:0], h.Fields)
		h.Fields = a.room
	}
	return h
}

func (o *Options) apply(room, fields []exchange.Field) []exchange.Field {
	for _, f := range fields {
		if !slices.ContainsFunc(o.Remove, f.Is) && !o.sets(f) {
			room = append(room, f)
		}
	}
	return append(append(room, o.Set...), o.Add...)
}

func (o *Options) sets(f exchange.Field) bool {
	for i := range o.Set {
		if name := o.Set[i].Name; len(name) == len(f.Name) && f.Is(string(name)) {
			return true
		}
	}
	return false
}

// pageFields are those that an error page has already, and that describe it.
var pageFields = []string{"content-type", "cache-control", "retry-after", "x-content-type-options"}

// Problem gives the host's own error pages the same fields.
func (a *answer) Problem(x *exchange.Exchange, p *exchange.Problem) {
	if a.opts.concerns(p.Status) {
		with := *p
		with.Fields = slices.Clone(p.Fields)
		for _, f := range slices.Concat(a.opts.Set, a.opts.Add) {
			if !slices.ContainsFunc(pageFields, f.Is) {
				with.Fields = append(with.Fields, f)
			}
		}
		p = &with
	}
	a.Answer.Problem(x, p)
}
