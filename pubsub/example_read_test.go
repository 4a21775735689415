package pubsub_test

import (
	"context"
	"fmt"

	"github.com/levada-go/levada/pubsub"
)

// A Fill says up to which position there is something to read.
type Fill struct{ Position uint64 }

var fills = pubsub.Topic[Fill]{Name: "fills"}

// A page shows what it reads, and then what changes. A change that is in both is
// recognised by its position.
func ExampleSubscribeRead() {
	ctx := context.Background()
	bus := pubsub.Local()
	defer bus.Close()

	sub, known, err := pubsub.SubscribeRead(ctx, bus, fills, nil, func(ctx context.Context) (uint64, error) {
		// While the page is read, two orders are filled; the page has the first.
		_ = fills.Publish(ctx, bus, Fill{41})
		_ = fills.Publish(ctx, bus, Fill{42})
		return 41, nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer sub.Close()

	fmt.Println("read up to", known)
	for _, t := range <-sub.C {
		if t.Position > known {
			fmt.Println("then", t.Position)
		}
	}
	// Output:
	// read up to 41
	// then 42
}
