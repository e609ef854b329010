package guado

import (
	"errors"
	"net"
	"slices"

	"github.com/guado-server/guado/internal/edge"
)

// socket is an address of server.listen, and the listeners that it has become: "systemd"
// may be several.
type socket struct {
	address   string
	listeners []net.Listener
}

// open opens the addresses of the configuration but for those that are open already.
func (h *host) open(already []socket) error {
	left := slices.Clone(already) // an address with port 0 may be there twice
	for _, address := range h.config.Server.Listen {
		if i := slices.IndexFunc(left, func(s socket) bool { return s.address == address }); i >= 0 {
			h.sockets = append(h.sockets, left[i])
			left = slices.Delete(left, i, i+1)
			continue
		}
		opened, err := edge.ListenAll([]string{address})
		if err != nil {
			return errors.Join(err, closeNew(h.sockets, already))
		}
		h.sockets = append(h.sockets, socket{address, opened})
	}
	return nil
}

// closeNew closes sockets that were not there before.
func closeNew(now, before []socket) error {
	var err error
	for _, s := range now {
		if slices.ContainsFunc(before, func(o socket) bool { return slices.Equal(o.listeners, s.listeners) }) {
			continue
		}
		for _, l := range s.listeners {
			err = errors.Join(err, l.Close())
		}
	}
	return err
}

func (h *host) listeners() []net.Listener {
	all := make([]net.Listener, 0, len(h.sockets))
	for _, s := range h.sockets {
		all = append(all, s.listeners...)
	}
	return all
}

// urls are where the listeners answer.
func (h *host) urls() []string {
	listeners := h.listeners()
	all := make([]string, 0, len(listeners))
	for _, l := range listeners {
		all = append(all, listenURL(l, h.config.Server.TLS.Enabled()))
	}
	return all
}
