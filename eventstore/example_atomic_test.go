package eventstore_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

type (
	ShiftAssigned struct{ Day string }
	ShiftSwapped  struct{ Gives, Takes, With string }
)

// Everybody has a roster, a stream of its own, and most of what happens concerns one of
// them. A swap concerns two: it stands in both or in neither, and both must be as they
// were when it was agreed.
func ExampleAtomicStore() {
	ctx := context.Background()
	store := memstore.Open(nil)
	defer store.Close()
	store.Types.Register("shift.assigned", ShiftAssigned{})
	store.Types.Register("shift.swapped", ShiftSwapped{})
	atomic, err := store.Atomic() // at startup: not every driver can do it
	if err != nil {
		fmt.Println(err)
		return
	}
	for name, day := range map[eventstore.StreamName]string{"roster-ann": "Monday", "roster-bob": "Friday"} {
		if _, err := store.Append(ctx, name, eventstore.NoStream, eventstore.Event{Data: ShiftAssigned{day}}); err != nil {
			fmt.Println(err)
			return
		}
	}

	// The ids are given here, so that the swap can be appended again if its outcome is unknown.
	swap := []eventstore.Part{
		{Stream: "roster-ann", Expected: eventstore.Exactly(1), Events: []eventstore.Event{{
			ID: eventstore.NewID(), Data: ShiftSwapped{Gives: "Monday", Takes: "Friday", With: "bob"}}}},
		{Stream: "roster-bob", Expected: eventstore.Exactly(1), Events: []eventstore.Event{{
			ID: eventstore.NewID(), Data: ShiftSwapped{Gives: "Friday", Takes: "Monday", With: "ann"}}}},
	}
	at, err := atomic.Append(ctx, swap...)
	fmt.Println(len(at), "rosters, both at version", at[0].Version, err)
	again, err := atomic.Append(ctx, swap...)
	fmt.Println("the same answer:", again[0] == at[0] && again[1] == at[1], err)

	// Carl agreed with Bob before that, about his Friday.
	_, err = atomic.Append(ctx,
		eventstore.Part{Stream: "roster-carl", Expected: eventstore.NoStream, Events: []eventstore.Event{{Data: ShiftSwapped{"Sunday", "Friday", "bob"}}}},
		eventstore.Part{Stream: "roster-bob", Expected: eventstore.Exactly(1), Events: []eventstore.Event{{Data: ShiftSwapped{"Friday", "Sunday", "carl"}}}},
	)
	var conflict *eventstore.ConflictError
	if errors.As(err, &conflict) {
		fmt.Println(conflict.Stream, "is at", conflict.Actual)
	}
	carl, err := store.Stream(ctx, "roster-carl")
	fmt.Println("carl's roster is at", carl.Version, err)
	// Output:
	// 2 rosters, both at version 2 <nil>
	// the same answer: true <nil>
	// roster-bob is at 2
	// carl's roster is at 0 <nil>
}
