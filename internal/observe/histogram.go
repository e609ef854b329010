package observe

import (
	"math"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// A histogram is kept twice: in the buckets of Prometheus's native histograms, whose
// bounds grow by a fourth root of two, and in the classic ones that dashboards name.
// client_golang's own does the same at ten times the cost, for it takes any value.
const (
	schema   = 2   // four buckets to each power of two
	lowest   = -80 // 2^-20 s, about a microsecond: what is below is the zero bucket
	highest  = 49  // above 2^12 s, more than an hour
	fineSize = highest - lowest + 1
)

// fractions are the bounds between a half and one, as math.Frexp gives values.
var fractions = [4]float64{0.5, 0.5946035575013605, 0.7071067811865475, 0.8408964152537144}

// classic are bounds in seconds: a page from a cache, and one that a person waits for.
var classic = [...]float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}

var classicNanos = func() (n [len(classic)]int64) {
	for i, s := range classic {
		n[i] = int64(s * float64(time.Second))
	}
	return n
}()

// histogram is one shard of a distribution of durations. Its shard's lock guards it.
type histogram struct {
	fine   [fineSize]uint64 // [0] is the zero bucket
	coarse [len(classic) + 1]uint64
	nanos  int64
}

func (h *histogram) observe(d time.Duration) {
	d = max(d, 0)
	h.fine[fineIndex(d)]++
	i := 0
	for i < len(classicNanos) && int64(d) > classicNanos[i] {
		i++
	}
	h.coarse[i]++
	h.nanos += int64(d)
}

// fineIndex is the place of the smallest bound that is not below d.
func fineIndex(d time.Duration) int {
	if d <= 0 {
		return 0
	}
	fraction, exponent := math.Frexp(d.Seconds())
	key := (exponent - 1) * len(fractions)
	for _, bound := range fractions {
		if fraction <= bound {
			break
		}
		key++
	}
	return min(max(key, lowest), highest) - lowest
}

// totals are the sum of the shards of a histogram at one moment.
type totals struct {
	fine   [fineSize]uint64
	coarse [len(classic) + 1]uint64
	nanos  int64
}

func (t *totals) add(h *histogram) {
	for i := range h.coarse {
		t.coarse[i] += h.coarse[i]
	}
	for i := range h.fine {
		t.fine[i] += h.fine[i]
	}
	t.nanos += h.nanos
}

// histogramMetric is a histogram as Prometheus takes it.
type histogramMetric struct {
	desc   *prometheus.Desc
	labels []*dto.LabelPair
	totals *totals
}

func (m *histogramMetric) Desc() *prometheus.Desc { return m.desc }

func (m *histogramMetric) Write(out *dto.Metric) error {
	out.Label = m.labels
	h := &dto.Histogram{
		SampleSum: ref(float64(m.totals.nanos) / 1e9), Schema: ref(int32(schema)),
		ZeroThreshold: ref(math.Ldexp(1, lowest/len(fractions))), ZeroCount: ref(m.totals.fine[0]),
	}
	count := m.totals.fine[0]
	h.PositiveSpan, h.PositiveDelta = spans(m.totals.fine[1:], lowest+1, &count)
	if len(h.PositiveSpan) == 0 {
		h.PositiveSpan = []*dto.BucketSpan{{Offset: ref(int32(0)), Length: ref(uint32(0))}} // native although empty
	}
	h.SampleCount = ref(count)
	sum := uint64(0)
	for i, bound := range classic {
		sum += m.totals.coarse[i]
		h.Bucket = append(h.Bucket, &dto.Bucket{UpperBound: ref(bound), CumulativeCount: ref(sum)})
	}
	out.Histogram = h
	return nil
}

// spans lays counts out as native histograms do: runs of buckets, each count as the
// difference to the one before. It adds up all of them in count.
func spans(counts []uint64, first int, count *uint64) (list []*dto.BucketSpan, deltas []int64) {
	last, end := int64(0), 0 // end: the key behind the run so far
	for i, n := range counts {
		if n == 0 {
			continue
		}
		key := first + i
		switch {
		case len(list) == 0:
			list = append(list, &dto.BucketSpan{Offset: ref(int32(key)), Length: ref(uint32(1))})
		case key == end:
			*list[len(list)-1].Length++
		default:
			list = append(list, &dto.BucketSpan{Offset: ref(int32(key - end)), Length: ref(uint32(1))})
		}
		end = key + 1
		deltas = append(deltas, int64(n)-last)
		last = int64(n)
		*count += n
	}
	return list, deltas
}

func ref[T any](v T) *T { return &v }

// labelPairs gives labels in the order of their names, as the form wants them.
func labelPairs(pairs ...string) []*dto.LabelPair {
	var list []*dto.LabelPair
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, &dto.LabelPair{Name: ref(pairs[i]), Value: ref(pairs[i+1])})
	}
	slices.SortFunc(list, func(a, b *dto.LabelPair) int {
		if a.GetName() < b.GetName() {
			return -1
		}
		return 1
	})
	return list
}
