package observe

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// The library's own histogram is the judge: same values in, same buckets out.
func TestAHistogramIsThatOfTheLibrary(t *testing.T) {
	judge := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "judge", Buckets: classic[:], NativeHistogramBucketFactor: 1.19, // schema 2
		NativeHistogramZeroThreshold: 1.0 / (1 << 20), NativeHistogramMaxBucketNumber: 1000,
	})
	var h histogram
	r := rand.New(rand.NewPCG(1, 2))
	values := []time.Duration{0, 1, 953, 954, time.Microsecond, time.Millisecond, 5 * time.Millisecond, 250 * time.Millisecond,
		500 * time.Millisecond, time.Second, 2 * time.Second, time.Minute, time.Hour}
	for range 20_000 {
		values = append(values, time.Duration(r.Int64N(1<<(10+r.IntN(32)))))
	}
	for _, d := range values {
		h.observe(d)
		judge.Observe(d.Seconds())
	}
	var sum totals
	sum.add(&h)
	got, want := written(t, &histogramMetric{tookDesc, nil, &sum}), written(t, judge)
	if got.GetSampleCount() != want.GetSampleCount() || got.GetSchema() != want.GetSchema() ||
		got.GetZeroThreshold() != want.GetZeroThreshold() || got.GetZeroCount() != want.GetZeroCount() {
		t.Errorf("head\n%v\nwant\n%v", got, want)
	}
	if diff := got.GetSampleSum() - want.GetSampleSum(); diff > 1e-3 || diff < -1e-3 {
		t.Errorf("sum %v, want %v", got.GetSampleSum(), want.GetSampleSum())
	}
	for i, b := range want.GetBucket() {
		if g := got.GetBucket()[i]; g.GetUpperBound() != b.GetUpperBound() || g.GetCumulativeCount() != b.GetCumulativeCount() {
			t.Errorf("le %v: %d, want %d", b.GetUpperBound(), g.GetCumulativeCount(), b.GetCumulativeCount())
		}
	}
	gotKeys, wantKeys := buckets(got), buckets(want)
	for key, n := range wantKeys {
		if gotKeys[key] != n {
			t.Errorf("bucket %d: %d, want %d", key, gotKeys[key], n)
		}
	}
	if len(gotKeys) != len(wantKeys) {
		t.Errorf("%d buckets, want %d", len(gotKeys), len(wantKeys))
	}
}

// buckets lays native buckets out by key, empty ones left out.
func buckets(h *dto.Histogram) map[int]int64 {
	out := map[int]int64{}
	key, count, i := 0, int64(0), 0
	for _, s := range h.GetPositiveSpan() {
		key += int(s.GetOffset())
		for range s.GetLength() {
			count += h.GetPositiveDelta()[i]
			if count != 0 {
				out[key] = count
			}
			key, i = key+1, i+1
		}
	}
	return out
}

func written(t *testing.T, m prometheus.Metric) *dto.Histogram {
	t.Helper()
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.GetHistogram()
}

func TestDurationsThatCannotBeAreCountedAtTheEnds(t *testing.T) {
	var h histogram
	h.observe(-time.Second) // a clock that was set back
	h.observe(1 << 62)
	if h.fine[0] != 1 || h.fine[fineSize-1] != 1 || h.coarse[len(classic)] != 1 {
		t.Error("they are lost")
	}
}

func BenchmarkObserve(b *testing.B) {
	var h histogram
	for b.Loop() {
		h.observe(1234567)
	}
}
