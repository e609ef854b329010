package observe

import (
	"context"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/guado-server/guado/internal/exchange"
)

// sink is a collector.
type sink struct {
	*httptest.Server
	mu       sync.Mutex // guards the rest
	spans    []*tracepb.Span
	resource map[string]string
	status   int
}

func newSink(t *testing.T) *sink {
	t.Helper()
	s := &sink{resource: map[string]string{}, status: 200}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var message collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &message)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL, err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, resource := range message.GetResourceSpans() {
			for _, a := range resource.GetResource().GetAttributes() {
				s.resource[a.GetKey()] = a.GetValue().GetStringValue()
			}
			for _, scope := range resource.GetScopeSpans() {
				s.spans = append(s.spans, scope.GetSpans()...)
			}
		}
		w.WriteHeader(s.status)
	}))
	t.Cleanup(s.Close)
	return s
}

func tracer(t *testing.T, endpoint string, log *slog.Logger) *Tracer {
	t.Helper()
	tr, err := NewTracer(t.Context(), TraceOptions{Endpoint: endpoint, Service: "shop", Version: "1.2.3", Instance: "i", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func closed(t *testing.T, tr *Tracer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := tr.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

var epoch = time.Unix(1_700_000_000, 0)

func traced() *exchange.Exchange {
	x := exchange.New()
	x.Method, x.Scheme, x.Version, x.ID = "GET", "http", exchange.HTTP11, "request1"
	x.RawPath, x.Query, x.Host = []byte("/basket"), []byte("password=1"), []byte("shop.example")
	x.App, x.Received = "shop", epoch
	x.Trace = exchange.Trace{ID: [16]byte{1}, Span: [8]byte{2}, Worker: [8]byte{3}, Sampled: true}
	return x
}

func id(b byte, size int) string {
	raw := make([]byte, size)
	raw[0] = b
	return hex.EncodeToString(raw)
}

func at(d time.Duration) uint64 { return uint64(epoch.Add(d).UnixNano()) }

func TestAnExchangeIsTheHostsSpanWithTheWorkersInside(t *testing.T) {
	s := newSink(t)
	tr := tracer(t, s.URL, slog.New(slog.DiscardHandler))
	x := traced()
	x.Trace.Parent = [8]byte{9}
	x.Worker, x.Waited, x.Worked = "p01", 20*time.Millisecond, 50*time.Millisecond
	x.Trace.Sent, x.Trace.Ended = epoch.Add(30*time.Millisecond), epoch.Add(90*time.Millisecond)
	tr.End(x, exchange.Outcome{Status: 200, At: epoch.Add(100 * time.Millisecond)})
	closed(t, tr)

	if s.resource["service.name"] != "shop" || s.resource["service.version"] != "1.2.3" {
		t.Errorf("resource %v", s.resource)
	}
	byName := map[string]*tracepb.Span{}
	for _, span := range s.spans {
		byName[span.GetName()] = span
		if hex.EncodeToString(span.GetTraceId()) != id(1, 16) {
			t.Errorf("%s is of trace %x", span.GetName(), span.GetTraceId())
		}
		for _, a := range span.GetAttributes() {
			if strings.Contains(a.GetValue().GetStringValue(), "password") {
				t.Errorf("%s shows the query: %v", span.GetName(), a)
			}
		}
	}
	for _, want := range []struct {
		name, span, parent string
		from, to           time.Duration
	}{
		{"GET shop", id(2, 8), id(9, 8), 0, 100 * time.Millisecond},
		{"queue", "", id(2, 8), 10 * time.Millisecond, 30 * time.Millisecond},
		// 50 ms before its end, not when it was sent: 10 ms it waited in the ring.
		{"worker p01", id(3, 8), id(2, 8), 40 * time.Millisecond, 90 * time.Millisecond},
	} {
		span := byName[want.name]
		if span == nil {
			t.Errorf("no span %q", want.name)
			continue
		}
		if got := hex.EncodeToString(span.GetSpanId()); want.span != "" && got != want.span {
			t.Errorf("%s is span %s, the application was told %s", want.name, got, want.span)
		}
		if got := hex.EncodeToString(span.GetParentSpanId()); got != want.parent {
			t.Errorf("%s is below %s, want %s", want.name, got, want.parent)
		}
		if span.GetStartTimeUnixNano() != at(want.from) || span.GetEndTimeUnixNano() != at(want.to) {
			t.Errorf("%s lasts from %d to %d", want.name, span.GetStartTimeUnixNano()-at(0), span.GetEndTimeUnixNano()-at(0))
		}
	}
}

func TestWithoutAWorkerTheHostsSpanIsTheOneThatWasToldOn(t *testing.T) {
	s := newSink(t)
	tr := tracer(t, s.URL, slog.New(slog.DiscardHandler))
	x := traced()
	x.Problem = &exchange.Problem{Status: 503, Code: "queue_full"}
	tr.End(x, exchange.Outcome{Status: 503, At: epoch.Add(time.Second)})
	x = traced()
	x.Trace.Sampled = false
	tr.End(x, exchange.Outcome{Status: 200, At: epoch})
	closed(t, tr)
	if len(s.spans) != 1 {
		t.Fatalf("%d spans", len(s.spans))
	}
	span := s.spans[0]
	if hex.EncodeToString(span.GetSpanId()) != id(3, 8) || len(span.GetParentSpanId()) != 0 ||
		span.GetStatus().GetCode() != tracepb.Status_STATUS_CODE_ERROR || span.GetStatus().GetMessage() != "queue_full" {
		t.Errorf("%v", span)
	}
}

func TestACollectorThatFailsIsLoggedOnce(t *testing.T) {
	s := newSink(t)
	s.status = 400 // not one that is tried again
	var log strings.Builder
	tr := tracer(t, s.URL, slog.New(slog.NewTextHandler(&log, nil)))
	for range 3 {
		tr.End(traced(), exchange.Outcome{Status: 200, At: epoch})
		if err := tr.batches.ForceFlush(t.Context()); err != nil {
			t.Error(err)
		}
	}
	closed(t, tr)
	if n := strings.Count(log.String(), "traces cannot be sent"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, &log)
	}
}
