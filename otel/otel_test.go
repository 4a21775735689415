package otel_test

import (
	"context"
	"errors"
	"html/template"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/levada-go/levada"
	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/live"
	"github.com/levada-go/levada/otel"
	"github.com/levada-go/levada/projection"
)

type Account struct{ Balance int }

type Deposited struct{ Amount int }

func (e Deposited) Apply(a *Account) { a.Balance += e.Amount }

type Deposit struct {
	ID     string
	Amount int
}

func (c Deposit) AggregateID() string { return c.ID }

var errNothing = errors.New("nothing to deposit")

func (c Deposit) Execute(Account) ([]aggregate.Event[Account], error) {
	if c.Amount == 0 {
		return nil, errNothing
	}
	return []aggregate.Event[Account]{Deposited{c.Amount}}, nil
}

// measured is what a test has recorded.
type measured struct {
	*otel.Telemetry
	spans   *tracetest.SpanRecorder
	metrics *metric.ManualReader
	tracers trace.TracerProvider
}

func measure(t *testing.T) *measured {
	m := &measured{spans: tracetest.NewSpanRecorder(), metrics: metric.NewManualReader()}
	m.tracers = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(m.spans))
	var err error
	m.Telemetry, err = otel.New(&otel.Options{TracerProvider: m.tracers, MeterProvider: metric.NewMeterProvider(metric.WithReader(m.metrics))})
	require.NoError(t, err)
	return m
}

// named returns the spans of a name, in the order of their ends.
func (m *measured) named(name string) (list []sdktrace.ReadOnlySpan) {
	for _, s := range m.spans.Ended() {
		if s.Name() == name {
			list = append(list, s)
		}
	}
	return list
}

// counts returns how many values each metric has, by its name and the outcome of its values.
func (m *measured) counts(t *testing.T) map[string]int {
	var rm metricdata.ResourceMetrics
	require.NoError(t, m.metrics.Collect(t.Context(), &rm))
	out := map[string]int{}
	for _, s := range rm.ScopeMetrics {
		for _, x := range s.Metrics {
			add := func(n int, outcome string) { out[x.Name+" "+outcome] += n }
			switch d := x.Data.(type) {
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					o, _ := p.Attributes.Value("levada.outcome")
					add(int(p.Count), o.AsString())
				}
			case metricdata.Histogram[int64]:
				for _, p := range d.DataPoints {
					add(int(p.Count), "")
				}
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					add(int(p.Value), "")
				}
			case metricdata.Gauge[int64]:
				for _, p := range d.DataPoints {
					add(int(p.Value), "")
				}
			case metricdata.Gauge[float64]:
				add(len(d.DataPoints), "")
			}
		}
	}
	return out
}

func TestAppendsToSeveralStreamsAreAppends(t *testing.T) {
	t.Parallel()
	m := measure(t)
	store := memstore.Open(&memstore.Options{Store: eventstore.Options{Trace: m.Store()}})
	defer store.Close()
	require.NoError(t, store.Types.Register("deposited", Deposited{}))
	atomic, err := store.Atomic()
	require.NoError(t, err)
	tags, err := store.Tags()
	require.NoError(t, err)
	e := eventstore.Event{Data: Deposited{7}}
	parts := []eventstore.Part{
		{Stream: "account-a", Expected: eventstore.NoStream, Events: []eventstore.Event{e}},
		{Stream: "account-b", Events: []eventstore.Event{e, e}},
	}
	_, err = atomic.Append(t.Context(), parts...)
	require.NoError(t, err)
	_, err = atomic.Append(t.Context(), parts...)
	require.ErrorIs(t, err, eventstore.ErrConflict)
	_, err = tags.Append(t.Context(), nil, 0, eventstore.To{Stream: "account-c", Event: e})
	require.NoError(t, err)
	var told []map[string]string
	for _, s := range m.named("append") {
		attrs := map[string]string{}
		for _, a := range s.Attributes() {
			attrs[string(a.Key)] = a.Value.Emit()
		}
		told = append(told, attrs)
	}
	require.Equal(t, []map[string]string{
		{"levada.stream": "account-a", "levada.streams": `["account-a","account-b"]`, "levada.expected": "no stream", "levada.events": "3", "levada.position": "3", "levada.outcome": "ok"},
		{"levada.stream": "account-a", "levada.streams": `["account-a","account-b"]`, "levada.expected": "no stream", "levada.events": "3", "levada.position": "0", "levada.outcome": "conflict"},
		{"levada.stream": "account-c", "levada.streams": `["account-c"]`, "levada.conditional": "true", "levada.events": "1", "levada.position": "4", "levada.outcome": "ok"},
	}, told)
	counts := m.counts(t)
	require.Equal(t, 2, counts["levada.append.duration ok"])
	require.Equal(t, 1, counts["levada.append.duration conflict"])
}

func TestOneTraceGoesFromTheRequestThroughEventsToTheirConsequences(t *testing.T) {
	t.Parallel()
	m := measure(t)
	store := memstore.Open(&memstore.Options{Store: eventstore.Options{Trace: m.Store()}})
	defer store.Close()
	var sum projection.Memory[int]
	var app *levada.App
	app, err := levada.New(store, levada.Config{
		Aggregates: []aggregate.Opener{&aggregate.Type[Account]{Name: "account", Events: aggregate.Events[Account]{"deposited": Deposited{}}}},
		Projections: []projection.Runner{&projection.Projection[*int]{Name: "sum", Target: &sum, Handlers: []projection.Handler[*int]{
			projection.On(func(ctx context.Context, n *int, e Deposited, r *eventstore.Recorded) error {
				*n += e.Amount
				if r.Stream.ID() == "a" {
					_, err := app.Dispatch(ctx, Deposit{"b", 1})
					return err
				}
				return nil
			}),
		}}},
		Middleware: []command.Middleware{m.Commands()},
		Trace:      m.Projections(),
	})
	require.NoError(t, err)
	require.NoError(t, m.ObserveLag(app.Group))
	run, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- app.Run(run) }()

	ctx, request := m.tracers.Tracer("test").Start(t.Context(), "request")
	_, err = app.Dispatch(ctx, Deposit{"a", 5}, command.Once("k"), command.Wait())
	require.NoError(t, err)
	head, err := store.Head(t.Context())
	require.NoError(t, err)
	require.NoError(t, app.Group.Wait(t.Context(), head))
	_, err = app.Dispatch(t.Context(), Deposit{"a", 0})
	require.ErrorIs(t, err, errNothing)
	_, err = app.Dispatch(t.Context(), Deposit{"a", 5}, command.Once("k"))
	require.NoError(t, err)
	_, err = app.Dispatch(t.Context(), Deposit{"a", 5}, command.At(eventstore.Exactly(9)))
	require.ErrorIs(t, err, eventstore.ErrConflict)
	_, err = app.Dispatch(eventstore.WithTrace(t.Context(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", ""), Deposit{"c", 1})
	require.NoError(t, err)
	head, err = store.Head(t.Context())
	require.NoError(t, err)
	require.NoError(t, app.Group.Wait(t.Context(), head))
	request.End()
	counts := m.counts(t)
	stop()
	require.NoError(t, <-done)

	id := request.SpanContext().TraceID()
	commands := m.named("command otel_test.Deposit")
	first := commands[0]
	for _, s := range commands {
		if s.Parent().SpanID() == request.SpanContext().SpanID() {
			first = s
		}
	}
	require.Equal(t, id, first.SpanContext().TraceID())
	var handled, second sdktrace.ReadOnlySpan
	for _, s := range m.named("handle deposited") {
		if s.Parent().SpanID() == first.SpanContext().SpanID() {
			handled = s
		}
	}
	require.NotNil(t, handled, "the handler continues the command")
	require.Equal(t, id, handled.SpanContext().TraceID())
	for _, s := range commands {
		if s.Parent().SpanID() == handled.SpanContext().SpanID() {
			second = s
		}
	}
	require.NotNil(t, second, "and what it sends continues it")
	require.Equal(t, id, second.SpanContext().TraceID())
	var foreign bool
	for _, s := range commands {
		foreign = foreign || s.SpanContext().TraceID().String() == "0af7651916cd43dd8448eb211c80319c"
	}
	require.True(t, foreign, "a trace that was begun elsewhere")
	for r, err := range store.ReadStream(t.Context(), "account-b", 0) {
		require.NoError(t, err)
		require.Contains(t, r.Metadata[eventstore.TraceParent], second.SpanContext().SpanID().String())
	}

	for name, n := range map[string]int{
		"levada.command.duration ok":       3,
		"levada.command.duration refused":  1,
		"levada.command.duration repeated": 1,
		"levada.command.duration conflict": 1,
		"levada.projection.lag ":           0,
		"levada.projection.lag.age ":       1,
	} {
		require.Equal(t, n, counts[name], "%s in %v", name, counts)
	}
	for _, name := range []string{"levada.append.duration ok", "levada.commit.duration ok", "levada.commit.events ", "levada.handle.duration ok"} {
		require.Positive(t, counts[name], "%s in %v", name, counts)
	}
}

func TestAPanicIsAnErrorOfItsCommand(t *testing.T) {
	t.Parallel()
	m := measure(t)
	h := command.Chain(command.HandlerFunc(func(context.Context, *command.Envelope) (command.Result, error) { panic("oh") }), m.Commands())
	require.Panics(t, func() { _, _ = command.Dispatch(t.Context(), h, Deposit{"a", 1}) })
	require.Equal(t, 1, m.counts(t)["levada.command.duration error"])
	require.Len(t, m.named("command otel_test.Deposit"), 1)
}

func TestPagesAreMeasured(t *testing.T) {
	t.Parallel()
	m := measure(t)
	site, err := live.NewSite(&live.Options{Trace: m.Site()})
	require.NoError(t, err)
	live.Handle(site, "/", &live.View[struct{}]{Template: template.Must(template.New("page").Parse("here"))})
	site.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	require.Equal(t, 1, m.counts(t)["levada.live.mount.duration ok"])
}

func TestReadsOutsideOfATraceAreNoSpans(t *testing.T) {
	t.Parallel()
	m := measure(t)
	store := memstore.Open(&memstore.Options{Store: eventstore.Options{Trace: m.Store()}})
	defer store.Close()
	for range store.ReadStream(t.Context(), "a-1", 0) {
	}
	require.Empty(t, m.named("read"))
	ctx, span := m.tracers.Tracer("test").Start(t.Context(), "request")
	for range store.ReadStream(ctx, "a-1", 0) {
	}
	span.End()
	require.Len(t, m.named("read"), 1)
	require.Equal(t, 2, m.counts(t)["levada.read.duration ok"])
}
