package guado

import (
	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/edge"
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/identity"
	"github.com/guado-server/guado/internal/wsx"
)

// WSXStatus is the sockets of GenroPy's clients and their calls.
type WSXStatus = wsx.Status

func (h *host) wsxStatus() *WSXStatus {
	for i := range h.config.Mounts {
		if h.config.Mounts[i].WSX {
			st := h.wsx.Status()
			return &st
		}
	}
	return nil
}

// speakWSX takes the sockets of GenroPy's clients where a mount asks for it. Their calls
// go the way of requests, from the first step of the road on.
func (h *host) speakWSX(m *config.Mount, next exchange.Handler) exchange.Handler {
	if !m.WSX {
		return next
	}
	o := wsx.Options{
		Road:  exchange.HandlerFunc(func(x *exchange.Exchange) { h.now().first.Serve(x) }),
		Begin: func(x *exchange.Exchange) { h.edge.BeginMessage(x) },
		End:   func(x *exchange.Exchange, o exchange.Outcome) { h.edge.EndMessage(x, o) },
		Split: edge.SplitTarget, Path: m.Path, RootPath: m.RootPath,
		Message: int(h.config.Server.WebSocket.MessageLimit.Bytes()), Log: h.log,
	}
	if h.config.Server.Phase >= phasePush {
		o.Base = identity.Base
		o.Connection = func(x *exchange.Exchange) string {
			connection, _, _ := h.identity.Known(x) // a stranger has none, and no pages
			return connection
		}
		o.Owner = func(page string) (string, bool) {
			if h.pageIndex.owner == nil {
				return "", false
			}
			return h.pageIndex.owner(page)
		}
	}
	return h.wsx.NewStep(next, o)
}
