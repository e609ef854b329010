// Package observe shows a running host from outside: Prometheus metrics, health for
// load balancers and orchestrators, traces over OTLP.
// Before it: the edge, which tells of each exchange that ended, and whoever asks for
// /metrics. After it: nothing of ours; it counts and shows.
// Not here: logs (edge, cmd), the status that the admin interface shows as JSON.
package observe

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics is what is counted and what is read when somebody asks.
//
// The road counts into meters, which are made while the server is assembled: no label
// is looked up for an exchange. All other figures are read from the State of the host
// at each scrape, so that they cost nothing between two.
type Metrics struct {
	registry *prometheus.Registry
	meters   *meters
}

// NewMetrics makes metrics; state is asked at each scrape.
func NewMetrics(version string, state func() State) *Metrics {
	m := &Metrics{registry: prometheus.NewPedanticRegistry(), meters: newMeters()}
	m.registry.MustRegister(
		m.meters,
		&stateCollector{version: version, state: state},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// Meter gives the meter of an app or mount, the same one for the same name: a new
// configuration goes on counting where the old one was.
func (m *Metrics) Meter(app string) *Meter { return m.meters.get(app) }

// Handler answers GET with the metrics, in the form that the scraper asks for.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}
