package observe

import "github.com/prometheus/client_golang/prometheus"

// Kept is the log of state that survives the host.
type Kept struct {
	Bytes                      int64 // since it was written anew
	Changes, Kept              uint64
	Writes, Syncs, Anew, Fails uint64
	Damaged                    int
	Works                      bool
}

var (
	logWorksDesc   = desc("log_works", "1: what changes is kept; 0: it cannot be written, and answers are 503 durability_unavailable.")
	logBytesDesc   = desc("log_bytes", "Bytes of the log of state, since it was written anew.")
	logChangesDesc = desc("log_changes_total", "Changes of state, and those of them that are kept.", "which")
	logDoneDesc    = desc("log_operations_total", "Writes, fsyncs, times that it was written anew, and failures.", "what")
	logDamagedDesc = desc("log_damaged_items", "Items of which the log was not whole at the start.")
)

func describeKept(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{logWorksDesc, logBytesDesc, logChangesDesc, logDoneDesc, logDamagedDesc} {
		to <- d
	}
}

// collect gives nothing where state does not survive the host.
func (k *Kept) collect(to chan<- prometheus.Metric) {
	if k == nil {
		return
	}
	works := 0.0
	if k.Works {
		works = 1
	}
	to <- gauge(logWorksDesc, works)
	to <- gauge(logBytesDesc, float64(k.Bytes))
	to <- counter(logChangesDesc, k.Changes, "all")
	to <- counter(logChangesDesc, k.Kept, "kept")
	for what, n := range map[string]uint64{"write": k.Writes, "fsync": k.Syncs, "anew": k.Anew, "failure": k.Fails} {
		to <- counter(logDoneDesc, n, what)
	}
	to <- gauge(logDamagedDesc, float64(k.Damaged))
}
