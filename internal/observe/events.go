package observe

import "github.com/prometheus/client_golang/prometheus"

// Events are those of applications.
type Events struct {
	Subscribers, Subscriptions   int
	Queued                       int64
	Published, Delivered, Failed uint64
	Dropped                      map[string]uint64 // by policy
}

var (
	subscribersDesc   = desc("events_subscribers", "Pages and applications that have subscribed topics.")
	subscriptionsDesc = desc("events_subscriptions", "Topics that they have subscribed.")
	queuedDesc        = desc("events_queued", "Events that wait for a handler.")
	publishedDesc     = desc("events_published_total", "Events that were published.")
	deliveredDesc     = desc("events_delivered_total", "Events that reached a subscriber, counted for each.", "result")
	droppedDesc       = desc("events_dropped_total", "Events that were lost because a subscriber did not keep up, by what the policy was.", "overflow")
)

func describeEvents(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{subscribersDesc, subscriptionsDesc, queuedDesc, publishedDesc, deliveredDesc, droppedDesc} {
		to <- d
	}
}

// collect gives nothing where there are no events.
func (e *Events) collect(to chan<- prometheus.Metric) {
	if e == nil {
		return
	}
	to <- gauge(subscribersDesc, float64(e.Subscribers))
	to <- gauge(subscriptionsDesc, float64(e.Subscriptions))
	to <- gauge(queuedDesc, float64(e.Queued))
	to <- counter(publishedDesc, e.Published)
	to <- counter(deliveredDesc, e.Delivered, "done")
	to <- counter(deliveredDesc, e.Failed, "failed")
	for overflow, n := range e.Dropped {
		to <- counter(droppedDesc, n, overflow)
	}
}
