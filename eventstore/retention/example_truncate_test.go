package retention_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/retention"
)

// Measurements are kept until whoever consumes them has seen them.
func ExampleKeeper_Truncate() {
	ctx := context.Background()
	store := memstore.Open(nil)
	defer store.Close()
	store.Types.Register("noted", Noted{})
	for _, text := range []string{"19 °C", "20 °C", "21 °C"} {
		if _, err := store.Append(ctx, "thermometer-1", eventstore.Any, eventstore.Event{Data: Noted{text}}); err != nil {
			log.Fatal(err)
		}
	}
	consume := func(events int) {
		for d, err := range store.Consume(ctx, eventstore.Consumer{Name: "average", From: eventstore.Origin(), Partitions: 1, Batch: events}) {
			if err != nil {
				log.Fatal(err)
			}
			if err := d.Ack(ctx); err != nil {
				log.Fatal(err)
			}
			return
		}
	}
	keeper := &retention.Keeper{Store: store}

	consume(1)
	err := keeper.Truncate(ctx, "thermometer-1", 3) // all before version 3
	if behind, ok := errors.AsType[*retention.BehindError](err); ok {
		fmt.Println(behind.Reader, "is at", behind.Position, "and needs", behind.Needs)
	}
	consume(2)
	fmt.Println(keeper.Truncate(ctx, "thermometer-1", 3))
	for r, err := range store.ReadStream(ctx, "thermometer-1", 0) {
		fmt.Println(r.Version, r.Data.(Noted).Text, err)
	}
	// Output:
	// consumer average is at 1 and needs 2
	// <nil>
	// 3 21 °C <nil>
}
