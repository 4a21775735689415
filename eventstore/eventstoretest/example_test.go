package eventstoretest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/eventstoretest"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/projection"
)

type Shipped struct{ Order string }

// A report is what stands for the *testing.T of a test here: it prints what fails.
type report struct{ testing.TB }

func (report) Helper()                           {}
func (report) Cleanup(func())                    {}
func (report) Fatalf(format string, args ...any) { fmt.Printf(format, args...) }
func (report) Fatal(args ...any)                 { fmt.Println(args...) }
func (report) Context() context.Context          { return context.Background() }

var t report

// A test waits for what is to happen, and not for a time. In a test, t is the argument.
func ExampleExpect() {
	store := memstore.Open(nil)
	defer store.Close()
	store.Types.Register("shipped", Shipped{})
	go store.Append(context.Background(), "order-1", eventstore.Any, eventstore.Event{Data: Shipped{"1"}}) // elsewhere

	e, at := eventstoretest.Expect(t, store, func(e Shipped) bool { return e.Order == "1" })
	fmt.Println(e, at.Stream, at.Version)
	fmt.Println(eventstoretest.Stream(t, store, "order-1"))
	// Output:
	// {1} order-1 1
	// [{1}]
}

// Settle waits until the read models show what the store has.
func ExampleSettle() {
	store := memstore.Open(nil)
	defer store.Close()
	store.Types.Register("shipped", Shipped{})
	var shipped projection.Memory[int]
	group := &projection.Group{Store: store}
	if err := group.Add(&projection.Projection[*int]{
		Name: "shipped", Target: &shipped,
		Handlers: []projection.Handler[*int]{projection.On(func(_ context.Context, n *int, _ Shipped, _ *eventstore.Recorded) error {
			*n++
			return nil
		})},
	}); err != nil {
		fmt.Println(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- group.Run(ctx) }()

	store.Append(ctx, "order-1", eventstore.Any, eventstore.Event{Data: Shipped{"1"}})
	eventstoretest.Settle(t, group, store)
	shipped.View(func(n *int, _ eventstore.Position) { fmt.Println(*n, "shipped") })
	stop()
	fmt.Println(<-ended)
	// Output:
	// 1 shipped
	// <nil>
}

// An append that fails may be stored all the same, as when the connection breaks before the answer. Repeated with the
// same ids, it is stored once.
func ExampleFaulty() {
	d, faults := eventstoretest.Faulty(t, memstore.NewDriver())
	store := eventstore.New(d, nil)
	defer store.Close()
	store.Types.Register("shipped", Shipped{})

	event := eventstore.Event{ID: eventstore.NewID(), Data: Shipped{"1"}}
	faults.After(eventstoretest.OpAppend, 1, errors.New("the connection is gone"))
	for range 2 {
		at, err := store.Append(context.Background(), "order-1", eventstore.NoStream, event)
		fmt.Println(at.Version, err != nil)
	}
	fmt.Println(eventstoretest.All(t, store, eventstore.Filter{}))
	// Output:
	// 0 true
	// 1 false
	// [{1}]
}
