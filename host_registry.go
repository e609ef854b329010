package guado

import (
	"context"
	"errors"

	"github.com/guado-server/guado/internal/calls"
	"github.com/guado-server/guado/internal/identity"
	"github.com/guado-server/guado/internal/item"
	"github.com/guado-server/guado/internal/pages"
	"github.com/guado-server/guado/internal/push"
	"github.com/guado-server/guado/internal/registry"
)

// openRegistry makes the index of users, connections and pages out of those who keep them.
func (h *host) openRegistry() {
	if h.config.Server.Phase < phasePush || h.registry != nil {
		return
	}
	h.registry = registry.New(registry.Options{Identity: h.identity, Pages: h.pages, Log: h.log})
	h.registry.OnEnded(func(e item.Ended) {
		if h.keeps() {
			h.endStores(e)
		}
	})
	h.weigh()
	h.registryVerbs()
}

// ended tells of the end of an item: whoever keeps something for it hears of it there.
func (h *host) ended(e item.Ended) {
	if h.registry != nil {
		h.registry.Ended(e)
	}
}

// asked is what a call says of items.
type asked struct {
	Kind    item.Kind   `json:"kind"`
	Cascade bool        `json:"cascade"`
	Filter  item.Filter `json:"filter"`
	Limit   int         `json:"limit"`
	registry.Told
}

// registryVerbs are what workers and programs ask of the index.
func (h *host) registryVerbs() {
	r := h.registry
	h.quickVerb("touch", func(kind item.Kind, id string) any {
		return map[string]bool{"there": r.Touch(kind, id)}
	})
	h.quickVerb("get", func(kind item.Kind, id string) any {
		if i, ok := r.Get(kind, id); ok {
			return &i
		}
		return nil // an empty object
	})
	for name, do := range map[string]func(a asked) (any, error){
		"create": func(a asked) (any, error) { return r.Create(a.Kind, a.Told) },
		"update": func(a asked) (any, error) { return r.Update(a.Kind, a.Told) },
		"drop":   func(a asked) (any, error) { return map[string]int{"ended": r.Drop(a.Kind, a.ID, a.Cascade)}, nil },
		"list": func(a asked) (any, error) {
			return map[string]any{"items": r.List(a.Kind, a.Filter, a.Limit)}, nil
		},
		"count": func(a asked) (any, error) { return map[string]int{"count": r.Count(a.Kind, a.Filter)}, nil },
	} {
		h.calls.Handle("registry."+name, func(_ context.Context, _ calls.Caller, data []byte) (any, error) {
			var a asked
			if err := calls.Decode(data, &a); err != nil {
				return nil, err
			}
			if a.Kind == 0 {
				return nil, errKind
			}
			out, err := do(a)
			return out, registryError(err)
		})
	}
}

var errKind = calls.Errorf(400, "bad_call", `"kind" is missing: page, connection or user`)

// quickVerb is one that looks at a single item.
func (h *host) quickVerb(name string, do func(item.Kind, string) any) {
	h.calls.HandleQuick("registry."+name, func(_ context.Context, _ calls.Caller, data []byte) (any, error) {
		var a struct {
			Kind item.Kind `json:"kind"`
			ID   string    `json:"id"`
		}
		if err := calls.Decode(data, &a); err != nil {
			return nil, err
		}
		if a.Kind == 0 {
			return nil, errKind
		}
		return do(a.Kind, a.ID), nil
	})
}

// registryError gives errors about items the codes of link.md.
func registryError(err error) error {
	for _, k := range []struct {
		is     error
		status int
		code   string
	}{
		{registry.ErrNone, 404, "no_item"},
		{registry.ErrExists, 409, "exists"},
		{registry.ErrOwner, 404, "no_connection"},
		{pages.ErrOwner, 404, "no_connection"},
		{registry.ErrFixed, 409, "fixed"},
		{identity.ErrCookie, 409, "has_cookie"},
		{identity.ErrID, 400, "bad_id"},
		{identity.ErrUser, 400, "bad_user"},
		{item.ErrFields, 400, "bad_fields"},
		{registry.ErrTold, 400, "bad_fields"},
		{identity.ErrFull, 503, "connections_full"},
		{identity.ErrStopping, 503, "stopping"},
		{push.ErrStopping, 503, "stopping"},
	} {
		if errors.Is(err, k.is) {
			return calls.Errorf(k.status, k.code, "%v", err)
		}
	}
	return err
}
