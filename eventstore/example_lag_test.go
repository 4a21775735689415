package eventstore_test

import (
	"context"
	"fmt"
	"log"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

// Who shows a temperature needs the last one, however late it comes to look.
func ExampleTransient_latest() {
	ctx := context.Background()
	store := memstore.Open(nil)
	defer store.Close()
	store.Types.Register("counted", Counted{})
	sub, err := eventstore.Subscribe(ctx, store, eventstore.Transient[int]{
		Filter: eventstore.Filter{Categories: []string{"thermometer"}},
		Map:    func(r *eventstore.Recorded) int { return r.Data.(Counted).N },
		Buffer: 1,
		OnLag:  eventstore.Latest,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer sub.Close()
	for n := 15; n <= 25; n++ {
		if _, err := store.Append(ctx, "thermometer-1", eventstore.Any, eventstore.Event{Data: Counted{n}}); err != nil {
			log.Fatal(err)
		}
	}
	for b := range sub.C {
		if len(b.Events) != 1 {
			log.Fatal("more than the buffer holds")
		}
		if b.Events[0] == 25 {
			fmt.Println("it is 25 °C")
			break
		}
	}
	// Output: it is 25 °C
}
