package guado

import (
	"net"
	"os"
	"time"

	"github.com/guado-server/guado/internal/edge"
	"github.com/guado-server/guado/internal/pool"
	"github.com/guado-server/guado/internal/supervise"
	"github.com/guado-server/guado/internal/version"
	"github.com/guado-server/guado/internal/websocket"
)

// Status is a running server as the admin API, the command line and the dashboard
// show it.
type Status struct {
	Version     string             `json:"version"`
	State       State              `json:"state"`
	Instance    string             `json:"instance"`
	PID         int                `json:"pid"`
	Started     time.Time          `json:"started"`
	Config      string             `json:"config,omitempty"` // the file
	Admin       string             `json:"admin,omitempty"`  // the socket
	Listen      []string           `json:"listen"`           // URLs, or "unix:PATH"
	Connections int                `json:"connections"`
	WebSockets  WebSocketStatus    `json:"websockets"` // that end here, and no longer count as connections
	Spool       pool.SpoolStatus   `json:"spool"`
	Groups      []GroupStatus      `json:"groups"`
	Programs    []ProgramStatus    `json:"programs,omitempty"`
	Mounts      []MountStatus      `json:"mounts"`
	Executors   []ExecutorStatus   `json:"executors,omitempty"`
	Identity    *IdentityStatus    `json:"identity,omitempty"`    // from phase 3 on
	Events      *EventStatus       `json:"events,omitempty"`      // from phase 3 on
	Push        *PushStatus        `json:"push,omitempty"`        // likewise
	Registry    *RegistryStatus    `json:"registry,omitempty"`    // from phase 3 on
	Global      *GlobalStatus      `json:"global,omitempty"`      // from phase 4 on
	Stores      *StoresStatus      `json:"stores,omitempty"`      // likewise
	Kept        *KeptStatus        `json:"kept,omitempty"`        // with state.durability = "host"
	Idempotency *IdempotencyStatus `json:"idempotency,omitempty"` // where a mount keeps answers
	WSX         *WSXStatus         `json:"wsx,omitempty"`         // where a mount speaks it
	Gate        GateStatus         `json:"gate"`
	Reloads     ReloadStatus       `json:"reloads"`
}

// State is where a server is in its life.
type State string

// The states of a server.
const (
	Starting State = "starting" // it listens; workers boot
	Serving  State = "serving"
	Stopping State = "stopping"
)

// WebSocketStatus is the WebSockets that end in the host.
type WebSocketStatus = websocket.Status

// GroupStatus is a group: its queue and its workers.
type GroupStatus struct {
	Name    string                   `json:"name"`
	Python  string                   `json:"python"` // "CPython 3.12.1 (/srv/shop/.venv/bin/python)"
	Queue   pool.Status              `json:"queue"`
	Workers []supervise.WorkerStatus `json:"workers"`
}

// Status tells how the server is; the zero Status when Run does not run.
func (s *Server) Status() Status {
	if h := s.running(); h != nil {
		return h.status()
	}
	return Status{}
}

func (h *host) status() Status {
	h = h.now()
	st := Status{
		Version: version.Version, State: h.state.Load().(State), Instance: h.instance, PID: os.Getpid(),
		Started: h.started, Config: h.config.File, Admin: h.adminPath(),
		Connections: h.edge.Connections(), WebSockets: h.websockets.Status(), Spool: h.spool.Status(),
	}
	st.Listen = h.urls()
	st.Mounts, st.Gate = h.mounts(), h.gate.Status()
	for _, g := range h.groups {
		st.Groups = append(st.Groups, GroupStatus{
			Name: g.config.Name, Python: g.interpreter.String(), Queue: g.pool.Status(), Workers: g.workers.Status().Workers,
		})
	}
	st.Programs, st.Executors = h.programs.Status(0), h.executors.Status()
	st.Events, st.WSX, st.Global = h.eventStatus(), h.wsxStatus(), h.globalStatus()
	st.Stores, st.Idempotency, st.Kept = h.storesStatus(), h.idempotencyStatus(), h.kept.status()
	st.Identity, st.Push, st.Registry = h.identityStatus(), h.pushStatus(), h.registryStatus()
	st.Reloads = h.reloads.status()
	return st
}

// listenURL is where a listener answers; one that was asked to stay plain has no TLS.
func listenURL(l net.Listener, tls bool) string {
	a := l.Addr()
	if a.Network() == "unix" {
		return "unix:" + a.String()
	}
	if kept, ok := l.(*edge.Listener); !tls || ok && kept.Plain {
		return "http://" + a.String()
	}
	return "https://" + a.String()
}
