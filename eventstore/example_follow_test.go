package eventstore_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

type Counted struct{ N int }

// Follow goes from history to what is appended, without a seam. A batch's
// Position is what to remember, so as to go on there after a restart.
func ExampleStore_Follow() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	store := memstore.Open(nil)
	defer store.Close()
	store.Types.Register("counted", Counted{})
	count := func(n int) {
		store.Append(ctx, "counter", eventstore.Any, eventstore.Event{Data: Counted{n}})
	}
	count(1)
	count(2)

	var checkpoint eventstore.Position
	for b, err := range store.Follow(ctx, eventstore.Filter{Categories: []string{"counter"}}, checkpoint) {
		if errors.Is(err, context.Canceled) {
			break
		}
		for _, r := range b.Events {
			n := r.Data.(Counted).N
			fmt.Println("counted", n)
			if n == 2 {
				count(3) // from here on it is live
			}
			if n == 3 {
				cancel()
			}
		}
		checkpoint = b.Position
	}
	fmt.Println("remembered", checkpoint)
	// Output:
	// counted 1
	// counted 2
	// counted 3
	// remembered 3
}
