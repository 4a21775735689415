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

// A page shows what it reads, and then what changes. A change that is in both is
// recognised by its position.
func ExampleSubscribeRead() {
	ctx := context.Background()
	bus := pubsub.Local()
	defer bus.Close()

	sub, known, err := pubsub.SubscribeRead(ctx, bus, trades, nil, func(ctx context.Context) (uint64, error) {
		// While the page is read, two trades happen; the page has the first.
		_ = trades.Publish(ctx, bus, Trade{"ETH-BTC", 41})
		_ = trades.Publish(ctx, bus, Trade{"ETH-BTC", 42})
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

// Of each pair only the newest trade matters to who is slow.
func ExampleMailbox() {
	ctx := context.Background()
	bus := pubsub.Local()
	defer bus.Close()

	sub, err := trades.Subscribe(ctx, bus, &pubsub.Mailbox[Trade]{Key: func(t Trade) string { return t.Pair }})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer sub.Close()

	for i, pair := range []string{"ETH-BTC", "SOL-BTC", "ETH-BTC", "ETH-BTC"} {
		_ = trades.Publish(ctx, bus, Trade{pair, uint64(i + 1)})
	}
	for _, t := range <-sub.C {
		fmt.Println(t.Pair, t.Position)
	}
	// Output:
	// SOL-BTC 2
	// ETH-BTC 4
}
