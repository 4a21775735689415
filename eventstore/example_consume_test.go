package eventstore_test

import (
	"context"
	"fmt"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

// A mailer remembers in the store which orders it has dealt with. Any number of processes may run the same loop: they share
// the partitions, and orders of one customer are mailed in order.
func ExampleStore_Consume() {
	ctx := context.Background()
	store := memstore.Open(nil)
	defer store.Close()
	store.Types.Register("order.placed", Opened{})
	for _, customer := range []string{"ann", "bob"} {
		if _, err := store.Append(ctx, eventstore.Stream("order", customer), eventstore.NoStream, eventstore.Event{Data: Opened{customer}}); err != nil {
			fmt.Println(err)
		}
	}
	mail := func() {
		for d, err := range store.Consume(ctx, eventstore.Consumer{
			Name:       "mailer",
			Filter:     eventstore.Filter{Categories: []string{"order"}},
			From:       eventstore.Origin(),
			Partitions: 1,
			Batch:      1,
		}) {
			if err != nil {
				fmt.Println(err)
				return
			}
			fmt.Println("mail to", d.Events[0].Data.(Opened).Owner)
			if err := d.Ack(ctx); err != nil { // from here on it is not delivered again
				fmt.Println(err)
			}
			return // the process ends
		}
	}
	mail()
	mail()
	// Output:
	// mail to ann
	// mail to bob
}
