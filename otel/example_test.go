package otel_test

import (
	"context"
	"fmt"
	"log"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/levada-go/levada"
	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/otel"
	"github.com/levada-go/levada/projection"
)

// The spans of a command, of its append, and of the read model that follows from it are one trace.
func ExampleNew() {
	spans := tracetest.NewSpanRecorder() // a program has an exporter
	t, err := otel.New(&otel.Options{
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)),
		MeterProvider:  metric.NewMeterProvider(),
	})
	if err != nil {
		log.Fatal(err)
	}
	store := memstore.Open(&memstore.Options{Store: eventstore.Options{Trace: t.Store()}})
	defer store.Close()
	var total projection.Memory[Account]
	app, err := levada.New(store, levada.Config{
		Aggregates: []aggregate.Opener{&aggregate.Type[Account]{Name: "account", Events: aggregate.Events[Account]{"deposited": Deposited{}}}},
		Projections: []projection.Runner{&projection.Projection[*Account]{
			Name: "total", Target: &total,
			Handlers: []projection.Handler[*Account]{projection.On(func(_ context.Context, a *Account, e Deposited, _ *eventstore.Recorded) error {
				a.Balance += e.Amount
				return nil
			})},
		}},
		Middleware: []command.Middleware{t.Commands()}, // first: outermost
		Trace:      t.Projections(),
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := t.ObserveLag(app.Group); err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- app.Run(ctx) }()
	if _, err := app.Dispatch(ctx, Deposit{"ann", 7}, command.Wait("total")); err != nil {
		log.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}

	traces := map[string][]string{}
	for _, s := range spans.Ended() {
		id := s.SpanContext().TraceID().String()
		traces[id] = append(traces[id], s.Name())
	}
	for _, names := range traces {
		if slices.Contains(names, "append") {
			names = slices.DeleteFunc(names, func(name string) bool { return name == "read" })
			slices.Sort(names)
			fmt.Println(strings.Join(slices.Compact(names), ", "))
		}
	}
	// Output: append, command otel_test.Deposit, handle deposited
}
