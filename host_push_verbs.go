package guado

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/guado-server/guado/internal/calls"
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/identity"
	"github.com/guado-server/guado/internal/pages"
	"github.com/guado-server/guado/internal/push"
)

// pageVerbs are what workers and programs ask about pages.
func (h *host) pageVerbs() {
	m := h.calls
	m.Handle("page.open", h.callOpen)
	m.Handle("page.get", func(_ context.Context, _ calls.Caller, data []byte) (any, error) {
		id, err := namedPage(data)
		if err != nil {
			return nil, err
		}
		about, err := h.pages.Get(id)
		return about, pageError(err)
	})
	m.Handle("page.end", func(_ context.Context, _ calls.Caller, data []byte) (any, error) {
		id, err := namedPage(data)
		if err != nil {
			return nil, err
		}
		if !h.pages.End(id) {
			return nil, pageError(pages.ErrNoPage)
		}
		return nil, nil //nolint:nilnil // there is nothing to tell
	})
	m.Handle("push", func(_ context.Context, _ calls.Caller, data []byte) (any, error) {
		var d pages.Delivery
		if err := calls.Decode(data, &d); err != nil {
			return nil, err
		}
		d.Ack = false
		sent, err := h.pages.Push(d)
		return sent, pageError(err)
	})
	// It pushes in the order of the calls, and then waits beside them.
	m.Handle("push.wait", func(_ context.Context, _ calls.Caller, data []byte) (any, error) {
		var d pages.Delivery
		if err := calls.Decode(data, &d); err != nil {
			return nil, err
		}
		d.Ack = true
		sent, err := h.pages.Push(d)
		if err != nil {
			return nil, pageError(err)
		}
		return calls.Later(func(ctx context.Context) (any, error) { return h.pages.Wait(ctx, d, sent), nil }), nil
	})
	m.Handle("worker.declares", func(_ context.Context, c calls.Caller, data []byte) (any, error) {
		var what struct {
			Classes []pages.Class `json:"classes"`
		}
		if err := calls.Decode(data, &what); err != nil {
			return nil, err
		}
		if c.Group == h.now().config.StateGroup() {
			h.pages.Declare(what.Classes)
		}
		return nil, nil //nolint:nilnil // there is nothing to tell
	})
	m.HandleEnd(func(c calls.Caller) {
		if c.Group == h.now().config.StateGroup() {
			h.pages.Reopen()
		}
	})
}

// callOpen opens a page while its HTML is rendered.
func (h *host) callOpen(_ context.Context, _ calls.Caller, data []byte) (any, error) {
	var want struct {
		Exchange exchangeKey     `json:"exchange"`
		Class    string          `json:"class"`
		Args     json.RawMessage `json:"args"`
		Path     string          `json:"path"`
	}
	if err := calls.Decode(data, &want); err != nil {
		return nil, err
	}
	visit := h.identity.Visit(uint64(want.Exchange))
	if visit == nil {
		return nil, pageError(identity.ErrOver)
	}
	h = h.now()
	o := pages.Opening{Class: want.Class, Args: want.Args, Path: want.Path}
	if string(o.Args) == "null" {
		o.Args = nil
	}
	if err := visit.Read(func(x *exchange.Exchange) {
		if o.Path == "" {
			o.Path = string(x.RawPath)
		}
		o.App, _ = h.appAt(x, o.Path)
	}); err != nil {
		return nil, pageError(err)
	}
	if o.Class != "" {
		app, ok := h.classApp(o.Class, o.App)
		if !ok {
			return nil, calls.Errorf(404, "no_class", "no application has the page class %q; the state group is %s", o.Class, h.config.StateGroup())
		}
		o.App = app
	}
	c, err := visit.Touch()
	if err != nil {
		return nil, pageError(err)
	}
	o.Connection, o.User = c.ID, c.User
	id, err := h.pages.Open(o)
	if err != nil {
		return nil, pageError(err)
	}
	return map[string]string{"page": id}, nil
}

func namedPage(data []byte) (string, error) {
	var what struct {
		Page string `json:"page"`
	}
	err := calls.Decode(data, &what)
	return what.Page, err
}

// pageError gives errors about pages the codes of link.md.
func pageError(err error) error {
	for _, known := range []struct {
		is     error
		status int
		code   string
	}{
		{pages.ErrNoPage, 404, "no_page"}, {push.ErrEnded, 404, "no_page"},
		{pages.ErrTo, 400, "bad_call"}, {pages.ErrArgs, 400, "bad_call"}, {push.ErrNotJSON, 400, "bad_call"},
		{push.ErrTooBig, 413, "too_big"}, {push.ErrStopping, 503, "stopping"}, {identity.ErrStopping, 503, "stopping"},
		{identity.ErrUnderWay, 409, "login_under_way"}, {identity.ErrOver, 404, "no_exchange"}, {identity.ErrHeadSent, 409, "head_sent"}, {identity.ErrFull, 503, "connections_full"},
	} {
		if errors.Is(err, known.is) {
			return calls.Errorf(known.status, known.code, "%v", err)
		}
	}
	return err
}
