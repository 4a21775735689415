package projection_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/projection"
)

// How a projection is doing, and why it does not get on.
func ExampleGroup_Status() {
	ctx, end := context.WithCancel(context.Background())
	store := memstore.Open(nil)
	defer store.Close()
	if err := store.Types.Register("sold", Sold{}); err != nil {
		log.Fatal(err)
	}
	var sales projection.Memory[Sales]
	closed := true
	group := &projection.Group{Store: store, Logger: slog.New(slog.DiscardHandler)}
	if err := group.Add(&projection.Projection[*Sales]{
		Name: "sales", Target: &sales,
		Handlers: []projection.Handler[*Sales]{projection.On(func(ctx context.Context, s *Sales, e Sold, r *eventstore.Recorded) error {
			if closed {
				return fmt.Errorf("the books are closed")
			}
			return sold(ctx, s, e, r)
		})},
		OnError: func(projection.Failure) projection.Action { return projection.Stop() },
	}); err != nil {
		log.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- group.Run(ctx) }()
	at, err := store.Append(ctx, "till-1", eventstore.Any, eventstore.Event{Data: Sold{"tea", 3}}, eventstore.Event{Data: Sold{"cake", 5}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(group.Wait(ctx, at.Position, "sales"))
	show := func() {
		list, err := group.Status(ctx)
		if err != nil {
			log.Fatal(err)
		}
		for _, s := range list {
			fmt.Println(s.Name, s.State, "at", s.Position, "of", s.Head, "lag", s.Lag, "handled", s.Handled)
		}
	}
	show()
	closed = false
	if err := group.Resume("sales"); err != nil {
		log.Fatal(err)
	}
	if err := group.Wait(ctx, at.Position, "sales"); err != nil {
		log.Fatal(err)
	}
	show()

	// All of it once more.
	if err := group.Rebuild(ctx, "sales", func(s projection.Status) { fmt.Println("rebuilt up to", s.Position) }); err != nil {
		log.Fatal(err)
	}
	end()
	fmt.Println(<-ended)
	// Output:
	// projection: sales is stopped: the books are closed
	// sales stopped at 0 of 2 lag 2 handled 0
	// sales running at 2 of 2 lag 0 handled 2
	// rebuilt up to 2
	// <nil>
}
