package pubsub_test

import (
	"context"
	"fmt"

	"github.com/levada-go/levada/pubsub"
)

// A Quote is replaced by the next one of its pair.
type Quote struct {
	Pair  string
	Price uint64
}

var quotes = pubsub.Topic[Quote]{Name: "quotes"}

// Of each pair only the newest quote matters to who is slow.
func ExampleMailbox() {
	ctx := context.Background()
	bus := pubsub.Local()
	defer bus.Close()

	sub, err := quotes.Subscribe(ctx, bus, &pubsub.Mailbox[Quote]{Key: func(q Quote) string { return q.Pair }})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer sub.Close()

	for i, pair := range []string{"ETH-BTC", "SOL-BTC", "ETH-BTC", "ETH-BTC"} {
		_ = quotes.Publish(ctx, bus, Quote{pair, uint64(i + 1)})
	}
	for _, q := range <-sub.C {
		fmt.Println(q.Pair, q.Price)
	}
	// Output:
	// SOL-BTC 2
	// ETH-BTC 4
}
