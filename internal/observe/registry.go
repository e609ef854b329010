package observe

import "github.com/prometheus/client_golang/prometheus"

// Registry is the index of users, connections and pages.
type Registry struct {
	Items                    map[string]int               // by kind
	Ended                    map[string]map[string]uint64 // by kind and reason
	Bytes, Limit             int64                        // of all stores; 0: no limit
	WorkerBytes, WorkerLimit int64                        // of those that the worker holds
	Rested                   uint64
	Freed                    int64
}

var (
	itemsDesc      = desc("registry_items", "Users, connections and pages.", "kind")
	itemsEndedDesc = desc("registry_items_ended_total", "Items that have ended, by reason.", "kind", "reason")
	stateDesc      = desc("state_bytes", "What stores cost in the account.", "where")
	stateLimitDesc = desc("state_limit_bytes", "And what they may cost.", "where")
	restedDesc     = desc("state_rested_pages_total", "Pages that the worker had to forget, to make room.")
	freedDesc      = desc("state_freed_bytes_total", "Stores of items that had to end, to make room.")
)

func describeRegistry(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{itemsDesc, itemsEndedDesc, stateDesc, stateLimitDesc, restedDesc, freedDesc} {
		to <- d
	}
}

// collect gives nothing in phase 0.
func (r *Registry) collect(to chan<- prometheus.Metric) {
	if r == nil {
		return
	}
	for kind, n := range r.Items {
		to <- gauge(itemsDesc, float64(n), kind)
	}
	for kind, reasons := range r.Ended {
		for why, n := range reasons {
			to <- counter(itemsEndedDesc, n, kind, why)
		}
	}
	to <- gauge(stateDesc, float64(r.Bytes), "host")
	to <- gauge(stateDesc, float64(r.WorkerBytes), "worker")
	to <- gauge(stateLimitDesc, float64(r.Limit), "host")
	to <- gauge(stateLimitDesc, float64(r.WorkerLimit), "worker")
	to <- counter(restedDesc, r.Rested)
	to <- counter(freedDesc, float64(r.Freed))
}
