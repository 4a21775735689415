package pubsub_test

import (
	"context"
	"fmt"

	"github.com/levada-go/levada/pubsub"
)

// A Trade says that there is something new, and at which position.
type Trade struct {
	Pair     string
	Position uint64
}

var trades = pubsub.Topic[Trade]{Name: "trades"}

func Example() {
	ctx := context.Background()
	bus := pubsub.Local()
	defer bus.Close()

	sub, err := trades.Subscribe(ctx, bus, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer sub.Close()

	for i := range uint64(3) {
		if err := trades.Publish(ctx, bus, Trade{"ETH-BTC", i + 1}); err != nil {
			fmt.Println(err)
		}
	}
	for _, t := range <-sub.C {
		fmt.Println(t.Pair, t.Position)
	}
	// Output:
	// ETH-BTC 1
	// ETH-BTC 2
	// ETH-BTC 3
}
