package guado

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"github.com/guado-server/guado/internal/admin"
	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/pool"
	"github.com/guado-server/guado/internal/program"
	"github.com/guado-server/guado/internal/supervise"
)

// openAdmin opens the admin interface. A host whose socket nobody has named serves
// without one where there is no place for it.
func (h *host) openAdmin() error {
	a := h.config.Admin
	if a.Socket == config.AdminOff || a.Socket == "" {
		return nil
	}
	server, err := admin.New(admin.Options{
		Socket: a.Socket, Beside: a.Derived, Instance: h.instance, Journal: h.journal, Sources: h.sources, Log: h.log,
		Readings: h.readings(), Actions: h.actions(), Handlers: h.watching.handlers(),
	})
	switch {
	case err == nil:
		h.admin.Store(server)
		h.log.Debug("admin interface", "socket", server.Path())
		return nil
	case a.Derived:
		h.log.Warn("no admin interface: guado status and its like cannot reach this host; name a socket (admin.socket) or say \"off\"", "error", err.Error())
		return nil
	}
	return err
}

func (h *host) closeAdmin() error {
	if a := h.admin.Load(); a != nil {
		return a.Close()
	}
	return nil
}

func (h *host) adminPath() string {
	if a := h.admin.Load(); a != nil {
		return a.Path()
	}
	return ""
}

// Worker is a worker with its group and what it has under way.
type Worker struct {
	Group string `json:"group"`
	supervise.WorkerStatus
	InFlight int    `json:"in_flight"`
	Done     uint64 `json:"done"`
}

// MountStatus is what answers at a host and path.
type MountStatus struct {
	Name   string `json:"name"`
	Host   string `json:"host,omitempty"`
	Path   string `json:"path"`
	Kind   string `json:"kind"`
	Target string `json:"target,omitempty"` // app, folder, address
	Group  string `json:"group,omitempty"`  // of an app
}

// readings are what can be asked of a host.
func (h *host) readings() []admin.Reading {
	return append([]admin.Reading{
		{Path: "status", Read: func(admin.Call) (any, error) { return h.status(), nil }},
		{Path: "workers", Read: func(admin.Call) (any, error) {
			return map[string]any{"workers": h.workers()}, nil
		}},
		{Path: "workers/{slot}", Read: func(c admin.Call) (any, error) {
			all := h.workers()
			i := slices.IndexFunc(all, func(w Worker) bool { return w.Slot == c.Name("slot") })
			if i < 0 {
				return nil, admin.NotFound("worker", c.Name("slot"))
			}
			return all[i], nil
		}},
		{Path: "programs", Read: func(admin.Call) (any, error) {
			return map[string]any{"programs": h.programs.Status(0)}, nil
		}},
		{Path: "programs/{name}", Read: h.program},
		{Path: "executors", Read: func(admin.Call) (any, error) {
			return map[string]any{"executors": h.executors.Status()}, nil
		}},
		{Path: "pages", Read: func(admin.Call) (any, error) {
			return map[string]any{"pages": h.pageList()}, nil
		}},
		{Path: "pages/{page}", Read: h.pageStatus},
		{Path: "global", Read: h.readGlobal},
		h.migrateReading(),
		{Path: "mounts", Read: func(admin.Call) (any, error) {
			return map[string]any{"mounts": h.mounts()}, nil
		}},
		{Path: "config", Read: func(admin.Call) (any, error) {
			text, err := h.now().config.JSON()
			return json.RawMessage(text), err
		}},
	}, h.registryReadings()...)
}

// actions are what a host can be told to do.
func (h *host) actions() []admin.Action {
	return append([]admin.Action{
		{Path: "workers/restart", Do: h.askRestart},
		{Path: "programs/{name}/start", Do: h.order((*program.Set).StartProgram)},
		{Path: "programs/{name}/stop", Do: h.order((*program.Set).StopProgram)},
		{Path: "programs/{name}/restart", Do: h.order((*program.Set).RestartProgram)},
		{Path: "groups/{name}/scale", Do: h.askScale},
		{Path: "reload", Do: h.askReload},
		h.migrateAction(),
		{Path: "stop", Do: h.askStop},
	}, slices.Concat(h.gateActions(), h.workerActions(), h.pushActions(), h.registryActions())...)
}

// keptOutput is how many of its last lines a program is shown with.
const keptOutput = 200

func (h *host) program(c admin.Call) (any, error) {
	list := slices.DeleteFunc(h.programs.Status(keptOutput), func(p ProgramStatus) bool {
		return p.Name != c.Name("name") && p.Program != c.Name("name")
	})
	if len(list) == 0 {
		return nil, admin.NotFound("program", c.Name("name"))
	}
	return map[string]any{"programs": list}, nil
}

// order has something done with a program, and answers with how it is then.
func (h *host) order(do func(*program.Set, context.Context, string) error) func(context.Context, admin.Call) (any, error) {
	return func(ctx context.Context, c admin.Call) (any, error) {
		err := do(h.programs, ctx, c.Name("name"))
		switch {
		case errors.Is(err, program.ErrUnknown):
			return nil, &admin.Refusal{Status: http.StatusNotFound, Code: "unknown_program", Message: err.Error()}
		case errors.Is(err, program.ErrStopping):
			return nil, context.Canceled
		case err != nil:
			return nil, err
		}
		return h.program(c)
	}
}

// askStop begins a stop; it is through when the socket is gone.
func (h *host) askStop(_ context.Context, c admin.Call) (any, error) {
	var how struct {
		Now bool `json:"now"` // without waiting for what is under way
	}
	if err := c.Body(&how); err != nil {
		return nil, err
	}
	h.end(how.Now)
	return nil, nil //nolint:nilnil // there is nothing to tell
}

// workers lists all workers in the order of their slots.
func (h *host) workers() []Worker {
	h = h.now()
	all := []Worker{}
	for _, g := range h.groups {
		queue := g.pool.Status().Workers
		for _, w := range g.workers.Status().Workers {
			worker := Worker{Group: g.config.Name, WorkerStatus: w}
			if i := slices.IndexFunc(queue, func(q pool.WorkerStatus) bool { return q.Slot == w.Slot }); i >= 0 {
				worker.InFlight, worker.Done = queue[i].WSGI+queue[i].ASGI, queue[i].Done
			}
			all = append(all, worker)
		}
	}
	return all
}

// mounts lists what answers where.
func (h *host) mounts() []MountStatus {
	h = h.now()
	all := make([]MountStatus, 0, len(h.config.Mounts))
	for i := range h.config.Mounts {
		m := &h.config.Mounts[i]
		st := MountStatus{Name: m.Name, Host: m.Host, Path: m.Path, Kind: m.Kind()}
		switch st.Kind {
		case config.MountApp:
			st.Target, st.Group = m.App, h.config.App(m.App).Group
		case config.MountStatic:
			st.Target = m.Static
		case config.MountRedirect:
			st.Target = m.Redirect
		case config.MountUpstream:
			st.Target = m.Upstream
		}
		all = append(all, st)
	}
	return all
}
