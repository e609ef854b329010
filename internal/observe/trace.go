package observe

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/guado-server/guado/internal/exchange"
)

// TraceOptions say where traces go.
type TraceOptions struct {
	Endpoint string // "http://127.0.0.1:4318"; the rest is OpenTelemetry's own environment
	Service  string
	Version  string
	Instance string
	Log      *slog.Logger
}

// Tracer sends spans of exchanges that have ended to a collector. The edge has given
// their ids (the application was told one while it ran) and chosen which are recorded,
// so that here is nothing to do for the others. The library batches and sends them; that
// they are made here as they end spares its work for spans that are still under way.
//
// Three spans make an exchange: the host's, from the request's head to the answer's
// end; the time in the queue; the worker's, made by the host of what the worker said of
// its time. What the application traces itself hangs below that one by traceparent.
type Tracer struct {
	batches  sdktrace.SpanProcessor
	resource *resource.Resource
	scope    instrumentation.Scope
}

// NewTracer makes a tracer; nothing is sent before the first span.
func NewTracer(ctx context.Context, o TraceOptions) (*Tracer, error) {
	to, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(signal(o.Endpoint)))
	if err != nil {
		return nil, fmt.Errorf("traces to %s: %w", o.Endpoint, err)
	}
	from, err := resource.New(ctx,
		resource.WithAttributes(
			attribute.String("service.name", o.Service), attribute.String("service.version", o.Version),
			attribute.String("service.instance.id", o.Instance),
		),
		resource.WithTelemetrySDK(), resource.WithFromEnv(), // the environment's names win
	)
	if err != nil {
		return nil, fmt.Errorf("attributes of traces: OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return &Tracer{
		batches:  sdktrace.NewBatchSpanProcessor(&exporter{SpanExporter: to, log: o.Log, endpoint: o.Endpoint}),
		resource: from,
		scope:    instrumentation.Scope{Name: "github.com/guado-server/guado", Version: o.Version},
	}, nil
}

// signal is where traces go at a collector: the same path below every base URL.
func signal(endpoint string) string {
	const path = "/v1/traces"
	return strings.TrimSuffix(strings.TrimSuffix(endpoint, "/"), path) + path
}

// Close sends what waits, until ctx ends.
func (t *Tracer) Close(ctx context.Context) error {
	if err := t.batches.Shutdown(ctx); err != nil {
		return fmt.Errorf("traces that wait to be sent: %w", err)
	}
	return nil
}

// End records an exchange that has ended.
func (t *Tracer) End(x *exchange.Exchange, o exchange.Outcome) {
	if !x.Trace.Sampled {
		return
	}
	r := &x.Trace
	served := !r.Sent.IsZero()
	own := r.Span
	if !served {
		own = r.Worker // what was called in its place was told this one
	}
	host := t.span(name(x), r.ID, own, x.Received, o.At)
	host.kind, host.attributes = trace.SpanKindServer, request(x, o)
	if r.Parent != [8]byte{} {
		host.parent = trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: r.ID, SpanID: r.Parent, TraceFlags: trace.FlagsSampled, Remote: true,
		})
	}
	switch {
	case x.Problem != nil && x.Problem.Status >= 500:
		host.status = sdktrace.Status{Code: codes.Error, Description: x.Problem.Code}
	case o.Status >= 500:
		host.status.Code = codes.Error
	case o.Err != nil:
		host.status = sdktrace.Status{Code: codes.Error, Description: "aborted"}
	}
	if served {
		t.inside(x, host)
	}
	t.batches.OnEnd(host)
}

// inside records what the host knows of the time between the request and its answer.
func (t *Tracer) inside(x *exchange.Exchange, host *span) {
	r := &x.Trace
	if x.Waited > 0 {
		queue := t.span("queue", r.ID, newSpanID(), r.Sent.Add(-x.Waited), r.Sent)
		queue.parent = host.own
		t.batches.OnEnd(queue)
	}
	// The worker says how long it had the exchange. What lies before is the wait in
	// its ring, behind others.
	began := r.Sent
	if x.Worked > 0 && r.Ended.Add(-x.Worked).After(began) {
		began = r.Ended.Add(-x.Worked)
	}
	worker := t.span("worker "+x.Worker, r.ID, r.Worker, began, r.Ended)
	worker.parent = host.own
	worker.attributes = []attribute.KeyValue{
		attribute.String("guado.worker", x.Worker), attribute.String("guado.app", x.App),
	}
	t.batches.OnEnd(worker)
}

func (t *Tracer) span(name string, id [16]byte, own [8]byte, from, to time.Time) *span {
	return &span{
		tracer: t, name: name, from: from, to: to, kind: trace.SpanKindInternal,
		own: trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: own, TraceFlags: trace.FlagsSampled}),
	}
}

// name is the method and what answered: paths would make a new name for each page.
func name(x *exchange.Exchange) string {
	method := methodOf(x)
	if x.App == "" {
		return method
	}
	return method + " " + x.App
}

// methodOf keeps methods that nobody knows out of names.
func methodOf(x *exchange.Exchange) string {
	switch x.Method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT":
		return x.Method
	}
	return "_OTHER"
}

// request is the semantic conventions for HTTP, as of their stable version 1.23. The
// query is left out: it holds secrets more often than a log should.
func request(x *exchange.Exchange, o exchange.Outcome) []attribute.KeyValue {
	list := make([]attribute.KeyValue, 0, 16)
	list = append(list,
		attribute.String("http.request.method", methodOf(x)),
		attribute.String("url.scheme", x.Scheme),
		attribute.String("url.path", string(x.RawPath)),
		attribute.Int("http.response.status_code", o.Status),
		attribute.String("network.protocol.version", version(x)),
		attribute.String("guado.request_id", x.ID),
		attribute.Int64("http.request.body.size", o.BytesIn),
		attribute.Int64("http.response.body.size", o.BytesOut),
	)
	if len(x.Host) > 0 {
		list = append(list, attribute.String("server.address", string(x.Host)))
	}
	if x.Client.IsValid() {
		list = append(list, attribute.String("client.address", x.Client.Addr().String()))
	}
	if agent := x.Field("user-agent"); len(agent) > 0 {
		list = append(list, attribute.String("user_agent.original", string(agent)))
	}
	if x.App != "" {
		list = append(list, attribute.String("guado.app", x.App))
	}
	if x.Problem != nil {
		list = append(list, attribute.String("error.type", x.Problem.Code))
	}
	return list
}

func version(x *exchange.Exchange) string {
	switch x.Version {
	case exchange.HTTP10:
		return "1.0"
	case exchange.HTTP2:
		return "2"
	default:
		return "1.1"
	}
}

// exporter logs what could not be sent, once until it can again.
type exporter struct {
	sdktrace.SpanExporter
	log      *slog.Logger
	endpoint string
	failing  bool // used by the batcher's goroutine alone
}

// ExportSpans is of SpanExporter.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	switch {
	case err != nil && !e.failing:
		e.log.Warn("traces cannot be sent; later failures are not logged", "endpoint", e.endpoint, "spans", len(spans), "error", err)
	case err == nil && e.failing:
		e.log.Info("traces are sent again", "endpoint", e.endpoint)
	}
	e.failing = err != nil
	return nil // it was logged: the library's own handler of errors is global
}

func newSpanID() (id trace.SpanID) {
	binary.LittleEndian.PutUint64(id[:], max(rand.Uint64(), 1))
	return id
}
