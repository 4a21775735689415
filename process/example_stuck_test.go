package process_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"sync/atomic"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/process"
	"github.com/levada-go/levada/projection"
	"github.com/levada-go/levada/router"
	"github.com/levada-go/levada/schedule"
)

// An Ordered is an event that a shop appends; Ship is a command to its depot.
type (
	Ordered struct{ Order string }
	Ship    struct{ Order string }
)

func (c Ship) AggregateID() string { return c.Order }

// What to do about instances that are stuck is for people to decide.
func ExampleRetryStuck() {
	ctx, stop := context.WithCancel(context.Background())
	store := memstore.Open(nil)
	if err := store.Types.Register("ordered", Ordered{}); err != nil {
		log.Fatal(err)
	}
	var open atomic.Bool // the depot
	var depot router.Router
	depot.Handle(router.Func(func(_ context.Context, c Ship, _ *command.Envelope) (command.Result, error) {
		if !open.Load() {
			return command.Result{Refused: true}, errors.New("the depot is closed")
		}
		fmt.Println("shipped", c.Order)
		return command.Result{}, nil
	}))
	type Order struct{}
	group := &projection.Group{Store: store, Logger: slog.New(slog.DiscardHandler)}
	err := group.Add((&process.Type[Order]{
		Name: "order",
		Routes: []process.Route[Order]{
			process.Start(func(e Ordered) string { return e.Order }, func(_ *Order, e Ordered) []command.Command {
				return []command.Command{Ship(e)}
			}),
		},
	}).Open(&depot), &schedule.Timers{})
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- group.Run(ctx) }()

	at, err := store.Append(ctx, "shop-1", eventstore.Any, eventstore.Event{Data: Ordered{"4711"}})
	if err != nil {
		log.Fatal(err)
	}
	if err := group.Wait(ctx, at.Position, "order"); err != nil {
		log.Fatal(err)
	}
	open.Store(true)
	for in, err := range process.Instances(ctx, store, "order", process.Stuck) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(in.ID, "is stuck at", in.Event.Type+":", in.Error)
		at, err := process.RetryStuck(ctx, store, "order", in.ID)
		if err != nil {
			log.Fatal(err)
		}
		if err := group.Wait(ctx, at, "order"); err != nil {
			log.Fatal(err)
		}
	}
	for e, err := range process.History(ctx, store, "order", "4711") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.What, e.Status)
	}
	stop()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}

	// Output:
	// 4711 is stuck at ordered: the depot is closed
	// shipped 4711
	// $process.parked stuck
	// $process.handled running
}
