package guado

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/edge"
	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/observe"
	"github.com/guado-server/guado/internal/pool"
	"github.com/guado-server/guado/internal/supervise"
	"github.com/guado-server/guado/internal/version"
)

// watching is how a host can be seen from outside.
type watching struct {
	health  *observe.Health
	metrics *observe.Metrics // nil: nothing is counted
	other   *observe.Meter   // of exchanges that found no mount
	server  *observe.Server  // nil: no listener of its own
}

// watch makes what the road reports to; nothing listens yet.
func (h *host) watch(ctx context.Context) error {
	h.watching.health = observe.NewHealth(h.missing)
	if h.config.Metrics.Enabled {
		h.watching.metrics = observe.NewMetrics(version.Version, h.figures)
		h.watching.other = h.watching.metrics.Meter(observe.Other)
	}
	return h.trace(ctx)
}

// trace makes what sends traces, if somebody is to have them.
func (h *host) trace(ctx context.Context) (err error) {
	if c := h.config.Trace; c.Endpoint != "" {
		h.tracer, err = observe.NewTracer(ctx, observe.TraceOptions{
			Endpoint: c.Endpoint, Service: c.Service, Version: version.Version, Instance: h.instance, Log: h.log,
		})
	}
	return err
}

// untrace sends what waits to be sent.
func (h *host) untrace(cut context.Context) error {
	if h.tracer == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(cut, traceFlush)
	defer cancel()
	return h.tracer.Close(ctx)
}

// meter is that of a mount; nil when nothing is counted.
func (w *watching) meter(name string) exchange.Meter {
	if w.metrics == nil {
		return nil
	}
	return w.metrics.Meter(name)
}

// probes puts the probes of the main listeners in front of the road.
func (h *host) probes(next exchange.Handler) exchange.Handler {
	return h.watching.health.Guard(observe.Paths{Live: h.config.Health.Live, Ready: h.config.Health.Ready}, next)
}

// probePaths are where the main listeners answer probes.
func (h *host) probePaths() (paths []string) {
	for _, p := range []string{h.config.Health.Live, h.config.Health.Ready} {
		if p != "" {
			paths = append(paths, p)
		}
	}
	return paths
}

// observer is what the edge calls at the end of each exchange; nil when nobody looks.
func (h *host) observer() func(*exchange.Exchange, exchange.Outcome) {
	w, tracer := &h.watching, h.tracer
	if w.metrics == nil && tracer == nil {
		return nil
	}
	return func(x *exchange.Exchange, o exchange.Outcome) {
		switch {
		case x.Meter != nil:
			x.Meter.End(x, o)
		case w.other != nil && x.App != observe.Probe:
			w.other.Begin()
			w.other.End(x, o)
		}
		if tracer != nil {
			tracer.End(x, o)
		}
	}
}

// endpoints are /metrics, /livez and /readyz.
func (w *watching) endpoints() http.Handler { return observe.Endpoints(w.metrics, w.health) }

// listenMetrics opens the listener of metrics, if there is to be one.
func (h *host) listenMetrics() (err error) {
	h.watching.server, err = h.newMetrics()
	return err
}

func (h *host) newMetrics() (*observe.Server, error) {
	at := h.config.Metrics.Listen
	if at == "" {
		return nil, nil //nolint:nilnil // there is to be none
	}
	l, err := edge.Listen(at)
	if err != nil {
		return nil, fmt.Errorf("metrics.listen: %w", err)
	}
	h.log.Info("metrics", "listen", l.Addr().String())
	return observe.Serve(l, h.watching.endpoints(), h.log), nil
}

// traces makes what sends traces where that is to be another one; what it gives ends the
// one of before.
func (t *transaction) traces(ctx context.Context) (apply func(), err error) {
	before, now := t.from.config.Trace, t.to.config.Trace
	if before.Endpoint == now.Endpoint && before.Service == now.Service {
		t.to.tracer = t.from.tracer
		return func() {}, nil
	}
	if err := t.to.trace(ctx); err != nil {
		return nil, err
	}
	t.undone = append(t.undone, func() { t.log("traces", t.to.untrace(t.to.server.cut)) })
	return func() { t.log("traces", t.from.untrace(t.to.server.cut)) }, nil
}

// metrics opens another listener of metrics; what it gives ends the one of before.
func (t *transaction) metrics() (apply func(), err error) {
	if t.to.config.Metrics.Listen == t.from.config.Metrics.Listen {
		return func() {}, nil
	}
	next, err := t.to.newMetrics()
	if err != nil {
		return nil, err
	}
	w := &t.to.watching
	if next != nil {
		t.undone = append(t.undone, func() { t.log("closing the listener of metrics", next.Close()) })
	}
	return func() {
		before := w.server
		if w.server = next; before != nil {
			t.log("closing the listener of metrics", before.Close())
		}
	}, nil
}

// beUnready tells load balancers that the host is about to stop, and serves on as before
// until they have heard it, or until cut ends.
func (h *host) beUnready(cut context.Context) {
	h = h.now()
	h.watching.health.Drain()
	delay := h.config.Health.DrainDelay.Std()
	if delay <= 0 {
		return
	}
	h.log.Info("not ready any more; the listeners close after the drain delay", "seconds", delay.Seconds())
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-t.C:
	case <-cut.Done():
	}
}

// traceFlush is how long the last spans may take to be sent.
const traceFlush = 3 * time.Second

// unwatch sends the last spans and closes the listener.
func (h *host) unwatch(cut context.Context) error {
	err := h.untrace(cut)
	if server := h.watching.server; server != nil {
		err = errors.Join(err, server.Close())
	}
	return err
}

// missing names the groups that cannot answer.
func (h *host) missing() (list []string) {
	h = h.now()
	for _, g := range h.groups {
		if len(g.pool.Status().Workers) == 0 {
			list = append(list, fmt.Sprintf("group %s has no worker that is ready", g.config.Name))
		}
	}
	return list
}

// figures is the host at the moment of a scrape.
func (h *host) figures() observe.State {
	h = h.now()
	spool := h.spool.Status()
	st := observe.State{
		Connections: h.edge.Connections(), Accepted: h.edge.Accepted(),
		SpoolMemory: spool.Memory, SpoolDisk: spool.Disk,
		Ready: len(h.watching.health.Missing()) == 0, Reload: h.reloadFigures(),
	}
	sockets := h.websockets.Status()
	st.WebSockets = observe.WebSockets{
		Open: sockets.Open, Opened: sockets.Opened, Received: sockets.Received, Sent: sockets.Sent,
		Slow: sockets.Slow, Silent: sockets.Silent, Refused: sockets.Refused,
	}
	st.Events, st.Identity = h.eventFigures(), h.identityFigures()
	st.Push, st.Registry = h.pushFigures(), h.registryFigures()
	st.Idempotency, st.Kept = h.idempotencyFigures(), h.kept.figures()
	st.Stores, st.Global = h.storesFigures(), h.globalFigures()
	for _, g := range h.groups {
		st.Groups = append(st.Groups, groupFigures(g.config, g.pool.Status(), g.workers.Status()))
	}
	for _, p := range h.programs.Status(0) {
		st.Programs = append(st.Programs, observe.Program{Name: p.Name, State: string(p.State), Restarts: uint64(max(p.Starts-1, 0))})
	}
	for _, e := range h.executors.Status() {
		st.Executors = append(st.Executors, observe.Executor{Name: e.Name, Waiting: e.Waiting, Ended: map[string]uint64{
			"done": e.Done, "refused": e.Refused, "expired": e.Expired, "lost": e.Lost, "cancelled": e.Cancelled,
		}})
	}
	return st
}

func groupFigures(c *config.Group, queue pool.Status, crew supervise.Status) observe.Group {
	n := queue.Counters
	out := observe.Group{
		Name: c.Name, Waiting: queue.Waiting,
		Events: map[string]uint64{
			"queued": n.Queued, "refused": n.Refused, "retried": n.Retried, "lost": n.Lost, "moved": n.Moved, "expired": n.Expired,
		},
		Restarts: map[string]uint64{}, States: map[string]int{},
	}
	for _, s := range supervise.States() {
		out.States[string(s)] = 0
	}
	under := map[string]pool.WorkerStatus{}
	for _, w := range queue.Workers { // while one takes over from another, both are there
		sum := under[w.Slot]
		sum.WSGI, sum.ASGI, sum.Done = sum.WSGI+w.WSGI, sum.ASGI+w.ASGI, sum.Done+w.Done
		sum.GILWaits, sum.GILWaitSeconds = sum.GILWaits+w.GILWaits, sum.GILWaitSeconds+w.GILWaitSeconds
		sum.LoopLagSeconds = max(sum.LoopLagSeconds, w.LoopLagSeconds)
		under[w.Slot] = sum
	}
	for _, w := range crew.Workers {
		out.States[string(w.State)]++
		for why, n := range w.Restarts {
			out.Restarts[string(why)] += n
		}
		q := under[w.Slot]
		out.Workers = append(out.Workers, observe.Worker{
			Slot: w.Slot, PID: w.PID, InFlight: q.WSGI + q.ASGI, Done: q.Done,
			GILWaits: q.GILWaits, GILWait: q.GILWaitSeconds, LoopLag: q.LoopLagSeconds, Loop: w.Loop != "",
		})
	}
	return out
}

// handlers are the endpoints as the admin interface takes them, below its version.
func (w *watching) handlers() map[string]http.Handler {
	all := map[string]http.Handler{"livez": w.health.Live(), "readyz": w.health.Ready()}
	if w.metrics != nil {
		all["metrics"] = w.metrics.Handler()
	}
	return all
}
