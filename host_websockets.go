package guado

import (
	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/websocket"
)

// webSockets checks the upgrades of a mount.
func (h *host) webSockets(m *config.Mount, next exchange.Handler) (exchange.Handler, error) {
	switch m.Kind() {
	case config.MountStatic, config.MountRedirect:
		return next, nil
	}
	next = h.speakWSX(m, next)
	s := &h.config.Server
	w := &s.WebSocket
	p := websocket.Policy{Origins: w.Origins, Limits: websocket.Limits{
		Message: int(w.MessageLimit.Bytes()), Fragments: w.FragmentLimit, Waiting: int(w.QueueLimit.Bytes()),
		PingInterval: w.PingInterval.Std(), PingTimeout: w.PingTimeout.Std(), WriteIdle: s.Timeouts.WriteIdle.Std(),
		Compression: w.Compression, CompressionMin: int(w.CompressionMin.Bytes()), Total: w.Connections, PerAddress: w.PerAddress,
	}}
	if len(m.WebSocketOrigins) > 0 {
		p.Origins = m.WebSocketOrigins
	}
	return websocket.NewStep(h.websockets, next, p)
}

// endSockets tells the clients of all WebSockets to come back later, and their
// applications that they left.
func (h *host) endSockets() {
	for _, g := range h.groups {
		g.pool.EndSockets()
	}
	h.websockets.Drain()
}
