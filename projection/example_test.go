package projection_test

import (
	"context"
	"fmt"
	"log"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/projection"
)

// A Sold is an event that a till appends.
type Sold struct {
	Item  string
	Price int
}

// Sales is a read model: what was earned with each item.
type Sales struct{ Earned map[string]int }

// sold keeps Sales up to date.
func sold(_ context.Context, s *Sales, e Sold, _ *eventstore.Recorded) error {
	if s.Earned == nil {
		s.Earned = map[string]int{}
	}
	s.Earned[e.Item] += e.Price
	return nil
}

func Example() {
	ctx, stop := context.WithCancel(context.Background())
	store := memstore.Open(nil)
	if err := store.Types.Register("sold", Sold{}); err != nil {
		log.Fatal(err)
	}

	var sales projection.Memory[Sales]
	group := &projection.Group{Store: store}
	err := group.Add(&projection.Projection[*Sales]{
		Name:     "sales",
		Target:   &sales,
		Handlers: []projection.Handler[*Sales]{projection.On(sold)},
		OnError: func(f projection.Failure) projection.Action {
			if f.Attempt < 10 {
				return projection.Retry(f)
			}
			return projection.Stop() // Group.Status says why
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- group.Run(ctx) }()

	for _, s := range []Sold{{"tea", 3}, {"cake", 5}, {"tea", 3}} {
		at, err := store.Append(ctx, "till-1", eventstore.Any, eventstore.Event{Data: s})
		if err != nil {
			log.Fatal(err)
		}
		// Read your writes: when Wait returns, the model has the event.
		if err := group.Wait(ctx, at.Position, "sales"); err != nil {
			log.Fatal(err)
		}
		sales.View(func(m *Sales, at eventstore.Position) {
			fmt.Println("at", at, "earned", m.Earned)
		})
	}

	stop() // and let the batch under way be finished
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
	if err := store.Close(); err != nil {
		log.Fatal(err)
	}

	// Output:
	// at 1 earned map[tea:3]
	// at 2 earned map[cake:5 tea:3]
	// at 3 earned map[cake:5 tea:6]
}
