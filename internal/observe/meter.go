package observe

import (
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/guado-server/guado/internal/exchange"
)

// Other is the name under which exchanges are counted that found no mount: a client
// cannot make new names by asking for them.
const Other = "_other"

// classes are the values of the label code_class; the first is for exchanges that
// ended without a status.
var classes = [...]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

// Meter counts the exchanges of one app or mount. It is spread over a few shards, of which
// each processor as a rule has its own: processors do not pass one cache line around.
type Meter struct {
	name   string
	shards []shard
	next   atomic.Uint32
	mine   sync.Pool // of *shard: those of shards; the pool remembers which processor had one
}

type shard struct {
	inFlight atomic.Int64 // of all shards together: an exchange may end in another one
	mu       sync.Mutex   // guards the rest
	classes  [len(classes)]uint64
	in, out  uint64
	took     histogram
	waited   histogram // in the queue, of exchanges that a worker had
	worked   histogram // in the application
	_        [64]byte
}

// mostShards bounds the memory of a meter.
const mostShards = 8

func newMeter(name string) *Meter {
	m := &Meter{name: name, shards: make([]shard, min(runtime.GOMAXPROCS(0), mostShards))}
	m.mine.New = func() any { return &m.shards[int(m.next.Add(1))%len(m.shards)] }
	return m
}

// Begin counts an exchange as under way.
func (m *Meter) Begin() {
	s := m.mine.Get().(*shard)
	s.inFlight.Add(1)
	m.mine.Put(s)
}

// End counts it as done. A step that has no worker (a folder, an upstream) has no queue
// and no application either.
func (m *Meter) End(x *exchange.Exchange, o exchange.Outcome) {
	class := o.Status / 100
	if class < 0 || class >= len(classes) {
		class = 0
	}
	s := m.mine.Get().(*shard)
	s.inFlight.Add(-1)
	s.mu.Lock()
	s.classes[class]++
	s.in += uint64(max(o.BytesIn, 0))
	s.out += uint64(max(o.BytesOut, 0))
	s.took.observe(o.At.Sub(x.Received))
	if x.Worker != "" || x.Waited > 0 {
		s.waited.observe(x.Waited)
	}
	if x.Worked > 0 {
		s.worked.observe(x.Worked)
	}
	s.mu.Unlock()
	m.mine.Put(s)
}

// Requests tells how many exchanges have ended.
func (m *Meter) Requests() (n uint64) {
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		for _, of := range s.classes {
			n += of
		}
		s.mu.Unlock()
	}
	return n
}

// Answers tells how many exchanges got an answer, and how many of these one of 5xx.
func (m *Meter) Answers() (all, wrong uint64) {
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		for _, of := range s.classes[1:] {
			all += of
		}
		wrong += s.classes[5]
		s.mu.Unlock()
	}
	return all, wrong
}

// meters collects what all meters have counted.
type meters struct {
	mu     sync.Mutex // guards byName
	byName map[string]*Meter
}

func newMeters() *meters { return &meters{byName: map[string]*Meter{}} }

func (c *meters) get(name string) *Meter {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.byName[name]
	if m == nil {
		m = newMeter(name)
		c.byName[name] = m
	}
	return m
}

var (
	requestsDesc = prometheus.NewDesc("guado_http_requests_total", "Exchanges that have ended.", []string{"app", "code_class"}, nil)
	inFlightDesc = prometheus.NewDesc("guado_http_requests_in_flight", "Exchanges under way.", []string{"app"}, nil)
	bytesInDesc  = prometheus.NewDesc("guado_http_request_bytes_total", "Bytes of request bodies that were read.", []string{"app"}, nil)
	bytesOutDesc = prometheus.NewDesc("guado_http_response_bytes_total", "Bytes of answers' bodies that were sent.", []string{"app"}, nil)
	tookDesc     = prometheus.NewDesc("guado_http_request_duration_seconds", "From the head of the request to the end of the answer.", []string{"app"}, nil)
	waitedDesc   = prometheus.NewDesc("guado_queue_wait_seconds", "In the queue of the group, of exchanges that need a worker.", []string{"app"}, nil)
	workedDesc   = prometheus.NewDesc("guado_app_duration_seconds", "In the application, as the worker says.", []string{"app"}, nil)
)

// Describe is of prometheus.Collector.
func (c *meters) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{requestsDesc, inFlightDesc, bytesInDesc, bytesOutDesc, tookDesc, waitedDesc, workedDesc} {
		to <- d
	}
}

// Collect is of prometheus.Collector.
func (c *meters) Collect(to chan<- prometheus.Metric) {
	c.mu.Lock()
	list := slices.Collect(maps.Values(c.byName))
	c.mu.Unlock()
	for _, m := range list {
		m.collect(to)
	}
}

func (m *Meter) collect(to chan<- prometheus.Metric) {
	var byClass [len(classes)]uint64
	var inFlight int64
	var in, out uint64
	var took, waited, worked totals
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		for c, n := range s.classes {
			byClass[c] += n
		}
		inFlight += s.inFlight.Load()
		in, out = in+s.in, out+s.out
		took.add(&s.took)
		waited.add(&s.waited)
		worked.add(&s.worked)
		s.mu.Unlock()
	}
	for c, n := range byClass {
		if n > 0 || classes[c] == "2xx" || classes[c] == "5xx" { // rates of errors need a zero to start from
			to <- counter(requestsDesc, n, m.name, classes[c])
		}
	}
	to <- gauge(inFlightDesc, float64(max(inFlight, 0)), m.name)
	to <- counter(bytesInDesc, in, m.name)
	to <- counter(bytesOutDesc, out, m.name)
	labels := labelPairs("app", m.name)
	to <- &histogramMetric{tookDesc, labels, &took}
	if waited.any() {
		to <- &histogramMetric{waitedDesc, labels, &waited}
	}
	if worked.any() {
		to <- &histogramMetric{workedDesc, labels, &worked}
	}
}

func (t *totals) any() bool {
	for _, n := range t.fine {
		if n > 0 {
			return true
		}
	}
	return false
}

func counter[T uint64 | int | float64](d *prometheus.Desc, v T, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func gauge(d *prometheus.Desc, v float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}
