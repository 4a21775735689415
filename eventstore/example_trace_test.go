package eventstore_test

import (
	"context"
	"fmt"
	"log"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

// A request's trace goes with its events, and from them into whatever handles them.
func ExampleWithTrace() {
	store := memstore.Open(nil)
	defer store.Close()
	store.Types.Register("counted", Counted{})

	header := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" // traceparent, of an HTTP request
	ctx := eventstore.WithTrace(context.Background(), header, "")
	if _, err := store.Append(ctx, "counter-1", eventstore.Any, eventstore.Event{Data: Counted{1}}); err != nil {
		log.Fatal(err)
	}
	for r, err := range store.ReadStream(context.Background(), "counter-1", 0) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(r.Metadata[eventstore.TraceParent] == header)

		handling := eventstore.NewContext(context.Background(), r) // as handlers get it
		parent, _ := eventstore.TraceOf(handling)
		fmt.Println(parent == header)
	}
	// Output:
	// true
	// true
}
