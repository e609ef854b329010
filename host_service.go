package guado

import (
	"fmt"
	"strings"
	"time"

	"github.com/guado-server/guado/internal/program"
	"github.com/guado-server/guado/internal/service"
	"github.com/guado-server/guado/internal/supervise"
)

// connect begins to tell the service manager, if there is one, how the host is.
func (h *host) connect() {
	h.manager = service.Connect(service.Options{
		Socket: h.server.NotifySocket, Watchdog: h.server.Watchdog, Log: h.log,
		Status: func() string { return h.now().line() },
		Patience: func() service.Patience {
			c := h.now().config
			p := service.Patience{Start: c.StartTime(), Reload: c.ReloadTime(), Stop: c.StopTime()}
			if h.now().below != nil {
				p.Start += p.Reload + giveTime
			}
			return p
		},
	})
}

// awaitHeld waits for groups whose workers wait for a program, as long as for a worker:
// other services may be told to come after this one, and people who use it can wait.
func (h *host) awaitHeld(quit <-chan struct{}, held []*group) {
	patience := time.NewTimer(h.config.StartTime())
	defer patience.Stop()
	for _, g := range held {
		select {
		case <-quit:
			return
		case <-patience.C:
			return
		case err := <-g.workers.FirstBoot():
			if err != nil {
				h.log.Debug("a group that waited for its programs cannot serve", "group", g.config.Name)
			}
		}
	}
}

// line tells in a line how the host is, for `systemctl status`.
func (h *host) line() string {
	var ready, workers, under, waiting, running int
	var frozen []string
	var answered uint64
	for _, g := range h.groups {
		queue := g.pool.Status()
		waiting, answered = waiting+queue.Waiting, answered+queue.Counters.Exchanges
		for _, w := range queue.Workers {
			under += w.WSGI + w.ASGI
		}
		for _, w := range g.workers.Status().Workers {
			workers++
			if w.State == supervise.Serving {
				ready++
			}
		}
	}
	for _, p := range h.programs.Status(0) {
		switch p.State { //nolint:exhaustive // what waits for its time is neither
		case program.Ready, program.Running:
			running++
		case program.Frozen:
			frozen = append(frozen, p.Name)
		}
	}
	parts := []string{fmt.Sprintf("%s: %d of %d workers serve", h.state.Load(), ready, workers)}
	if len(h.config.Programs) > 0 {
		parts = append(parts, fmt.Sprintf("%d programs run", running))
	}
	parts = append(parts, fmt.Sprintf("%d sockets of clients", h.edge.Connections()),
		fmt.Sprintf("%d requests under way", under), fmt.Sprintf("%d waiting", waiting), fmt.Sprintf("%d answered", answered))
	text := strings.Join(parts, ", ")
	if missing := h.watching.health.Missing(); len(missing) > 0 && h.state.Load() == Serving {
		text += "; " + strings.Join(missing, "; ")
	}
	if len(frozen) > 0 {
		text += "; frozen: " + strings.Join(frozen, ", ")
	}
	if gate := h.gate.Status(); gate.Maintenance || gate.Flag {
		text += "; closed for maintenance"
	} else if gate.Paused {
		text += fmt.Sprintf("; paused, %d requests are held", gate.Held)
	}
	if st := h.reloads.status(); st.Error != "" {
		first, _, _ := strings.Cut(st.Error, "\n")
		text += "; the last reload failed: " + first
	}
	return text
}
