package observe

import (
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// span is one that has ended, as exporters read it. It never changes once it was handed
// over.
type span struct {
	sdktrace.ReadOnlySpan // nil: it has the method that keeps others from being a span

	tracer      *Tracer
	name        string
	own, parent trace.SpanContext
	kind        trace.SpanKind
	from, to    time.Time
	attributes  []attribute.KeyValue
	status      sdktrace.Status
}

var _ sdktrace.ReadOnlySpan = (*span)(nil)

func (s *span) Name() string                     { return s.name }
func (s *span) SpanContext() trace.SpanContext   { return s.own }
func (s *span) Parent() trace.SpanContext        { return s.parent }
func (s *span) SpanKind() trace.SpanKind         { return s.kind }
func (s *span) StartTime() time.Time             { return s.from }
func (s *span) EndTime() time.Time               { return s.to }
func (s *span) Attributes() []attribute.KeyValue { return s.attributes }
func (s *span) Status() sdktrace.Status          { return s.status }
func (s *span) Resource() *resource.Resource     { return s.tracer.resource }

func (s *span) InstrumentationScope() instrumentation.Scope { return s.tracer.scope }

// InstrumentationLibrary is the old name of InstrumentationScope.
func (s *span) InstrumentationLibrary() instrumentation.Library { //nolint:staticcheck // of the interface
	return s.tracer.scope
}

func (s *span) Links() []sdktrace.Link   { return nil }
func (s *span) Events() []sdktrace.Event { return nil }
func (s *span) DroppedAttributes() int   { return 0 }
func (s *span) DroppedLinks() int        { return 0 }
func (s *span) DroppedEvents() int       { return 0 }
func (s *span) ChildSpanCount() int      { return 0 }
