package observe

import "github.com/prometheus/client_golang/prometheus"

// Idempotency is the requests with a key, and the answers that are kept for them.
type Idempotency struct {
	Keys, Running int
	Bytes         int64
	Requests      map[string]uint64 // by what became of them
	Dropped       uint64
}

var (
	keysDesc        = desc("idempotency_keys", "Idempotency-Keys that are remembered.", "state")
	keptDesc        = desc("idempotency_bytes", "Answers that are kept.")
	onceDesc        = desc("idempotency_requests_total", "Requests with an Idempotency-Key, by what became of them.", "outcome")
	keysDroppedDesc = desc("idempotency_dropped_total", "Keys and answers that went before their time, to make room.")
)

func describeIdempotency(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{keysDesc, keptDesc, onceDesc, keysDroppedDesc} {
		to <- d
	}
}

// collect gives nothing where no mount keeps answers.
func (i *Idempotency) collect(to chan<- prometheus.Metric) {
	if i == nil {
		return
	}
	to <- gauge(keysDesc, float64(i.Running), "running")
	to <- gauge(keysDesc, float64(i.Keys-i.Running), "answered")
	to <- gauge(keptDesc, float64(i.Bytes))
	for outcome, n := range i.Requests {
		to <- counter(onceDesc, n, outcome)
	}
	to <- counter(keysDroppedDesc, i.Dropped)
}
