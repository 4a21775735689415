package otel

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/live"
	"github.com/levada-go/levada/projection"
)

// Options say where things go. The zero Options are the global providers.
type Options struct {
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider
}

// Telemetry gives the hooks of the library's parts. It is safe for concurrent use.
type Telemetry struct {
	tracer trace.Tracer
	meter  metric.Meter

	appended, committed, waited, read, commanded, handled, mounted, evented, rendered metric.Float64Histogram
	commitEvents, readEvents, renderBytes                                             metric.Int64Histogram
	lagging, slow, panics                                                             metric.Int64Counter
}

const scope = "github.com/levada-go/levada/otel"

// New returns a Telemetry. Nil options are the global providers. The error is that of an instrument.
func New(o *Options) (*Telemetry, error) {
	if o == nil {
		o = &Options{}
	}
	tracers, meters := o.TracerProvider, o.MeterProvider
	if tracers == nil {
		tracers = otel.GetTracerProvider()
	}
	if meters == nil {
		meters = otel.GetMeterProvider()
	}
	t := &Telemetry{tracer: tracers.Tracer(scope), meter: meters.Meter(scope)}
	var errs []error
	seconds := func(h *metric.Float64Histogram, name, what string) {
		var err error
		*h, err = t.meter.Float64Histogram("levada."+name, metric.WithUnit("s"), metric.WithDescription(what),
			metric.WithExplicitBucketBoundaries(0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10))
		errs = append(errs, err)
	}
	counts := func(h *metric.Int64Histogram, name, unit, what string) {
		var err error
		*h, err = t.meter.Int64Histogram("levada."+name, metric.WithUnit(unit), metric.WithDescription(what),
			metric.WithExplicitBucketBoundaries(1, 4, 16, 64, 256, 1024, 4096, 16384, 65536))
		errs = append(errs, err)
	}
	counter := func(c *metric.Int64Counter, name, what string) {
		var err error
		*c, err = t.meter.Int64Counter("levada."+name, metric.WithDescription(what))
		errs = append(errs, err)
	}
	seconds(&t.appended, "append.duration", "from the call of Append to its outcome")
	seconds(&t.committed, "commit.duration", "of one commit of the driver")
	seconds(&t.waited, "commit.wait", "how long the first append has waited for its commit")
	counts(&t.commitEvents, "commit.events", "{event}", "that were committed at once")
	seconds(&t.read, "read.duration", "of one page")
	counts(&t.readEvents, "read.events", "{event}", "on one page")
	counter(&t.lagging, "subscription.lagging", "subscriptions that fell behind")
	seconds(&t.commanded, "command.duration", "from the arrival of a command to its outcome")
	seconds(&t.handled, "handle.duration", "of one event in one handler")
	seconds(&t.mounted, "live.mount.duration", "of mounting a page")
	seconds(&t.evented, "live.event.duration", "of an event of a page")
	seconds(&t.rendered, "live.render.duration", "of rendering and comparing a page")
	counts(&t.renderBytes, "live.render.bytes", "By", "of one frame")
	counter(&t.slow, "live.slow", "pages that were closed as too slow")
	counter(&t.panics, "live.panics", "panics of pages")
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("otel: %w", err)
	}
	return t, nil
}

// began is what a Start hook leaves for its End.
type began struct {
	span  trace.Span
	at    time.Time
	attrs []attribute.KeyValue // of the metrics
}

type key int

const (
	appendKey key = iota
	commitKey
	readKey
	handleKey
)

func (t *Telemetry) start(ctx context.Context, k key, name string, kind trace.SpanKind, span []attribute.KeyValue, metrics ...attribute.KeyValue) context.Context {
	ctx, s := t.tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithAttributes(span...))
	return context.WithValue(ctx, k, &began{s, time.Now(), metrics})
}

func (t *Telemetry) end(ctx context.Context, k key, h metric.Float64Histogram, outcome string, err error, span ...attribute.KeyValue) {
	b, ok := ctx.Value(k).(*began)
	if !ok {
		return
	}
	h.Record(ctx, time.Since(b.at).Seconds(), metric.WithAttributes(append(b.attrs, attribute.String("levada.outcome", outcome))...))
	b.span.SetAttributes(append(span, attribute.String("levada.outcome", outcome))...)
	if err != nil {
		b.span.RecordError(err)
		if outcome == "error" { // a refusal and a conflict are answers
			b.span.SetStatus(codes.Error, err.Error())
		}
	}
	b.span.End()
}

// outcome names what became of something.
func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, eventstore.ErrConflict):
		return "conflict"
	}
	return "error"
}

// Store returns the hooks for eventstore.Options.Trace. Pages are read and commits are made for many: they are
// spans only within a trace.
func (t *Telemetry) Store() *eventstore.Trace {
	return &eventstore.Trace{
		AppendStart: func(ctx context.Context, a eventstore.AppendInfo) context.Context {
			attrs := []attribute.KeyValue{attribute.String("levada.stream", string(a.Stream)), attribute.Int("levada.events", a.Events)}
			if a.Conditional {
				attrs = append(attrs, attribute.Bool("levada.conditional", true))
			} else {
				attrs = append(attrs, attribute.String("levada.expected", a.Expected.String()))
			}
			if len(a.Streams) > 0 {
				names := make([]string, len(a.Streams))
				for i, name := range a.Streams {
					names[i] = string(name)
				}
				attrs = append(attrs, attribute.StringSlice("levada.streams", names))
			}
			return t.start(ctx, appendKey, "append", trace.SpanKindClient, attrs)
		},
		AppendEnd: func(ctx context.Context, at eventstore.Appended, err error) {
			t.end(ctx, appendKey, t.appended, outcome(err), err, attribute.Int64("levada.position", int64(at.Position)))
		},
		CommitStart: func(ctx context.Context, c eventstore.CommitInfo) context.Context {
			t.waited.Record(ctx, c.Wait.Seconds())
			t.commitEvents.Record(ctx, int64(c.Events))
			return ctx
		},
		CommitEnd: func(ctx context.Context, took time.Duration, err error) {
			t.committed.Record(ctx, took.Seconds(), metric.WithAttributes(attribute.String("levada.outcome", outcome(err))))
		},
		ReadStart: func(ctx context.Context, r eventstore.ReadInfo) context.Context {
			if !trace.SpanContextFromContext(ctx).IsValid() {
				return context.WithValue(ctx, readKey, &began{noSpan, time.Now(), nil})
			}
			return t.start(ctx, readKey, "read", trace.SpanKindClient, []attribute.KeyValue{attribute.String("levada.stream", string(r.Stream))})
		},
		ReadEnd: func(ctx context.Context, events int, err error) {
			t.readEvents.Record(ctx, int64(events))
			t.end(ctx, readKey, t.read, outcome(err), err, attribute.Int("levada.events", events))
		},
		Lagging: func(eventstore.Filter, eventstore.Position) { t.lagging.Add(context.Background(), 1) },
	}
}

var noSpan = trace.SpanFromContext(context.Background())

// Commands returns the middleware for commands. Put it outermost, to see the whole. The span of a command is a
// child of that in its context, else of the trace that the command belongs to, and becomes the parent of whatever
// its events cause.
func (t *Telemetry) Commands() command.Middleware {
	return func(next command.Handler) command.Handler {
		return command.HandlerFunc(func(ctx context.Context, e *command.Envelope) (res command.Result, err error) {
			if !trace.SpanContextFromContext(ctx).IsValid() {
				ctx = extract(ctx, e.Metadata)
			}
			name := fmt.Sprintf("%T", e.Command)
			began := time.Now()
			ctx, span := t.tracer.Start(ctx, "command "+name, trace.WithSpanKind(trace.SpanKindInternal), trace.WithAttributes(
				attribute.String("levada.command", name), attribute.String("levada.aggregate", e.Command.AggregateID()),
				attribute.String("levada.correlation", e.Correlation.String()),
			))
			how := "error" // also when it panics
			defer func() {
				attrs := attribute.String("levada.outcome", how)
				t.commanded.Record(ctx, time.Since(began).Seconds(), metric.WithAttributes(attrs, attribute.String("levada.command", name)))
				span.SetAttributes(attrs, attribute.Int64("levada.position", int64(res.Position)))
				if err != nil {
					span.RecordError(err)
				}
				if how == "error" {
					span.SetStatus(codes.Error, "")
				}
				span.End()
			}()
			inner := *e
			inner.Metadata = inject(ctx, e.Metadata)
			res, err = next.HandleCommand(ctx, &inner)
			switch how = outcome(err); {
			case res.Refused:
				how = "refused"
			case err == nil && res.Repeated:
				how = "repeated"
			}
			return res, err
		})
	}
}

// carrier carries a trace in metadata.
var carrier = propagation.TraceContext{}

// extract returns a context in the trace that metadata names, if any.
func extract(ctx context.Context, meta map[string]string) context.Context {
	if meta[eventstore.TraceParent] == "" {
		return ctx
	}
	return carrier.Extract(ctx, propagation.MapCarrier(meta))
}

// inject returns metadata with the span of ctx.
func inject(ctx context.Context, meta map[string]string) map[string]string {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return meta
	}
	out := maps.Clone(meta)
	if out == nil {
		out = map[string]string{}
	}
	delete(out, eventstore.TraceState)
	carrier.Inject(ctx, propagation.MapCarrier(out))
	if out[eventstore.TraceState] == "" {
		delete(out, eventstore.TraceState)
	}
	return out
}

// Projections returns the hooks for projection.Group.Trace and levada.Config.Trace. The span of a handler is a
// child of what caused the event, wherever that was.
func (t *Telemetry) Projections() *projection.Trace {
	return &projection.Trace{
		HandleStart: func(ctx context.Context, name string, r *eventstore.Recorded) context.Context {
			attrs := []attribute.KeyValue{attribute.String("levada.projection", name), attribute.String("levada.event", r.Type)}
			span := append(attrs[:2:2], attribute.String("levada.stream", string(r.Stream)), attribute.Int64("levada.position", int64(r.Position)))
			return t.start(extract(ctx, r.Metadata), handleKey, "handle "+r.Type, trace.SpanKindConsumer, span, attrs...)
		},
		HandleEnd: func(ctx context.Context, err error) { t.end(ctx, handleKey, t.handled, outcome(err), err) },
	}
}

// ObserveLag measures how far behind the projections of a group are, whenever metrics are collected.
func (t *Telemetry) ObserveLag(g *projection.Group) error {
	lag, err := t.meter.Int64ObservableGauge("levada.projection.lag", metric.WithUnit("{position}"), metric.WithDescription("positions that are yet to be handled"))
	if err != nil {
		return fmt.Errorf("otel: %w", err)
	}
	age, err := t.meter.Float64ObservableGauge("levada.projection.lag.age", metric.WithUnit("s"), metric.WithDescription("age of the first event that is yet to be handled"))
	if err != nil {
		return fmt.Errorf("otel: %w", err)
	}
	_, err = t.meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		list, err := g.Status(ctx)
		for _, s := range list {
			attrs := metric.WithAttributes(attribute.String("levada.projection", s.Name), attribute.String("levada.state", string(s.State)))
			o.ObserveInt64(lag, int64(s.Lag), attrs)
			o.ObserveFloat64(age, s.LagTime.Seconds(), attrs)
		}
		return err
	}, lag, age)
	if err != nil {
		return fmt.Errorf("otel: %w", err)
	}
	return nil
}

// Site returns the hooks for live.Options.Trace.
func (t *Telemetry) Site() *live.Trace {
	ctx := context.Background()
	attrs := func(pattern string, err error, more ...attribute.KeyValue) metric.MeasurementOption {
		return metric.WithAttributes(append(more, attribute.String("levada.pattern", pattern), attribute.String("levada.outcome", outcome(err)))...)
	}
	return &live.Trace{
		Mounted: func(pattern string, connected bool, took time.Duration, err error) {
			t.mounted.Record(ctx, took.Seconds(), attrs(pattern, err, attribute.Bool("levada.connected", connected)))
		},
		Handled: func(pattern, event string, took time.Duration, err error) {
			t.evented.Record(ctx, took.Seconds(), attrs(pattern, err, attribute.String("levada.event", event)))
		},
		Rendered: func(pattern string, took time.Duration, bytes int) {
			t.rendered.Record(ctx, took.Seconds(), attrs(pattern, nil))
			t.renderBytes.Record(ctx, int64(bytes), attrs(pattern, nil))
		},
		TooSlow:  func(pattern string) { t.slow.Add(ctx, 1, attrs(pattern, nil)) },
		Panicked: func(pattern string, _ any, _ []byte) { t.panics.Add(ctx, 1, attrs(pattern, nil)) },
	}
}
