package observe

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// State is what the host is at the moment of a scrape.
type State struct {
	Connections int
	Accepted    uint64 // connections ever
	SpoolMemory int64
	SpoolDisk   int64
	Ready       bool
	Groups      []Group
	Programs    []Program
	Executors   []Executor
	Reload      *Reload // nil: there is no file to read again
	WebSockets  WebSockets
	Events      *Events      // nil: there are none
	Identity    *Identity    // nil: phase 0
	Push        *Push        // nil: there are no pages
	Registry    *Registry    // nil likewise
	Kept        *Kept        // nil: state does not survive the host
	Idempotency *Idempotency // nil: no mount keeps answers
	Stores      *Stores      // nil: below phase 4
	Global      *Global      // nil likewise
}

// Group is a queue and its workers.
type Group struct {
	Name     string
	Waiting  int
	Events   map[string]uint64 // of the queue: "queued", "refused"
	Workers  []Worker
	States   map[string]int    // how many slots are in each
	Restarts map[string]uint64 // by reason
}

// Worker is one slot.
type Worker struct {
	Slot     string
	PID      int
	InFlight int
	Done     uint64
	GILWaits uint64
	GILWait  float64 // seconds
	LoopLag  float64 // seconds; without a loop 0
	Loop     bool
}

// Program is a supervised command.
type Program struct {
	Name     string
	State    string
	Restarts uint64
}

// Executor is a pool of processes that run functions.
type Executor struct {
	Name    string
	Waiting int               // tasks that wait or run
	Ended   map[string]uint64 // tasks, by how they ended: "done", "lost"
}

// Reload is what became of the configuration file when it was read last.
type Reload struct {
	At              time.Time
	OK              bool
	Applied, Failed uint64
}

// WebSockets are those that end in the host.
type WebSockets struct {
	Open                   int
	Opened, Received, Sent uint64 // the last two: messages
	Slow, Silent, Refused  uint64
}

func (w *WebSockets) collect(to chan<- prometheus.Metric) {
	to <- gauge(socketsDesc, float64(w.Open))
	to <- counter(socketsOpenedDesc, w.Opened)
	to <- counter(messagesDesc, w.Received, "received")
	to <- counter(messagesDesc, w.Sent, "sent")
	to <- counter(socketsCutDesc, w.Slow, "slow")
	to <- counter(socketsCutDesc, w.Silent, "silent")
	to <- counter(socketsCutDesc, w.Refused, "refused")
}

// stateCollector makes metrics of the State.
type stateCollector struct {
	version string
	state   func() State
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("guado_"+name, help, labels, nil)
}

var (
	buildDesc       = desc("build_info", "The version that runs; always 1.", "version", "goversion")
	readyDesc       = desc("ready", "What /readyz says: 1 ready, 0 not.")
	connectionsDesc = desc("connections", "Connections of clients that are open.")
	acceptedDesc    = desc("connections_accepted_total", "Connections of clients, ever.")
	spoolDesc       = desc("spool_bytes", "Request bodies that are collected.", "where")

	socketsDesc       = desc("websockets", "WebSockets that are open.")
	socketsOpenedDesc = desc("websockets_opened_total", "WebSockets that were accepted, ever.")
	messagesDesc      = desc("websocket_messages_total", "Messages of WebSockets.", "direction")
	socketsCutDesc    = desc("websockets_cut_total", "WebSockets that the host cut or refused.", "reason")

	waitingDesc  = desc("queue_waiting", "Exchanges that wait for a worker.", "group")
	eventsDesc   = desc("queue_events_total", "What happened to exchanges in the queue.", "group", "event")
	workersDesc  = desc("workers", "Slots by state of their worker.", "group", "state")
	restartsDesc = desc("worker_restarts_total", "Workers that were started again, by why the one before ended.", "group", "reason")

	flightDesc   = desc("worker_requests_in_flight", "Exchanges that a worker has, those that wait in its ring included.", "group", "worker")
	doneDesc     = desc("worker_requests_total", "Exchanges that the present worker of a slot is through with.", "group", "worker")
	gilWaitDesc  = desc("worker_gil_wait_seconds_total", "Time that threads with a request waited for the GIL before the application was called.", "group", "worker")
	gilWaitsDesc = desc("worker_gil_waits_total", "Requests whose thread waited for the GIL so.", "group", "worker")
	lagDesc      = desc("worker_loop_lag_seconds", "How late the event loop came at the last heartbeat.", "group", "worker")
	memoryDesc   = desc("worker_resident_bytes", "Resident memory of the worker's process.", "group", "worker")
	cpuDesc      = desc("worker_cpu_seconds_total", "Processor time of the worker's process.", "group", "worker", "mode")

	programDesc         = desc("programs", "Programs by state.", "program", "state")
	programRestartsDesc = desc("program_restarts_total", "Times that a program was started again.", "program")

	tasksWaitingDesc = desc("executor_tasks_waiting", "Tasks that wait or run.", "executor")
	tasksDesc        = desc("executor_tasks_total", "Tasks that came to an end.", "executor", "result")

	reloadOKDesc = desc("config_last_reload_success", "1 when the configuration that was read last is the one that runs.")
	reloadAtDesc = desc("config_last_reload_timestamp_seconds", "When the configuration was read last.")
	reloadsDesc  = desc("config_reloads_total", "Times that the configuration was read again.", "result")
)

// Describe is of prometheus.Collector.
func (c *stateCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		buildDesc, readyDesc, connectionsDesc, acceptedDesc, spoolDesc,
		socketsDesc, socketsOpenedDesc, messagesDesc, socketsCutDesc, waitingDesc, eventsDesc, workersDesc, restartsDesc,
		flightDesc, doneDesc, gilWaitDesc, gilWaitsDesc, lagDesc, memoryDesc, cpuDesc, programDesc, programRestartsDesc,
		tasksWaitingDesc, tasksDesc,
		reloadOKDesc, reloadAtDesc, reloadsDesc,
	} {
		to <- d
	}
	describeEvents(to)
	describeIdentity(to)
	describeRegistry(to)
	describeKept(to)
	describeIdempotency(to)
	describeStores(to)
	for _, d := range pushDescriptions {
		to <- d
	}
}

// Collect is of prometheus.Collector.
func (c *stateCollector) Collect(to chan<- prometheus.Metric) {
	st := c.state()
	to <- gauge(buildDesc, 1, c.version, runtime.Version())
	to <- gauge(readyDesc, truth(st.Ready))
	to <- gauge(connectionsDesc, float64(st.Connections))
	to <- counter(acceptedDesc, st.Accepted)
	to <- gauge(spoolDesc, float64(st.SpoolMemory), "memory")
	to <- gauge(spoolDesc, float64(st.SpoolDisk), "disk")
	st.WebSockets.collect(to)
	st.Events.collect(to)
	st.Identity.collect(to)
	st.Push.collect(to)
	st.Registry.collect(to)
	st.Kept.collect(to)
	st.Idempotency.collect(to)
	st.Stores.collect(to)
	st.Global.collect(to)
	for i := range st.Groups {
		st.Groups[i].collect(to)
	}
	for _, p := range st.Programs {
		to <- gauge(programDesc, 1, p.Name, p.State)
		to <- counter(programRestartsDesc, p.Restarts, p.Name)
	}
	for _, e := range st.Executors {
		to <- gauge(tasksWaitingDesc, float64(e.Waiting), e.Name)
		for result, n := range e.Ended {
			to <- counter(tasksDesc, n, e.Name, result)
		}
	}
	if r := st.Reload; r != nil {
		to <- gauge(reloadOKDesc, truth(r.OK))
		to <- gauge(reloadAtDesc, float64(r.At.UnixMilli())/1000)
		to <- counter(reloadsDesc, r.Applied, "applied")
		to <- counter(reloadsDesc, r.Failed, "failed")
	}
}

func (g *Group) collect(to chan<- prometheus.Metric) {
	to <- gauge(waitingDesc, float64(g.Waiting), g.Name)
	for event, n := range g.Events {
		to <- counter(eventsDesc, n, g.Name, event)
	}
	for reason, n := range g.Restarts {
		to <- counter(restartsDesc, n, g.Name, reason)
	}
	for i := range g.Workers {
		g.Workers[i].collect(to, g.Name)
	}
	for state, n := range g.States {
		to <- gauge(workersDesc, float64(n), g.Name, state)
	}
}

func (w *Worker) collect(to chan<- prometheus.Metric, group string) {
	to <- gauge(flightDesc, float64(w.InFlight), group, w.Slot)
	to <- counter(doneDesc, w.Done, group, w.Slot)
	to <- counter(gilWaitDesc, w.GILWait, group, w.Slot)
	to <- counter(gilWaitsDesc, w.GILWaits, group, w.Slot)
	if w.Loop {
		to <- gauge(lagDesc, w.LoopLag, group, w.Slot)
	}
	if use, ok := usageOf(w.PID); ok {
		to <- gauge(memoryDesc, use.resident, group, w.Slot)
		to <- counter(cpuDesc, use.user, group, w.Slot, "user")
		to <- counter(cpuDesc, use.system, group, w.Slot, "system")
	}
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
