package projection_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
	"github.com/levada-go/levada/projection"
)

// sell appends sales of a till and returns the position of the last.
func sell(store *eventstore.Store, till string, sales ...Sold) eventstore.Position {
	var at eventstore.Appended
	for _, s := range sales {
		var err error
		at, err = store.Append(context.Background(), eventstore.Stream("till", till), eventstore.Any, eventstore.Event{Data: s})
		if err != nil {
			log.Fatal(err)
		}
	}
	return at.Position
}

// tills opens a store that knows sales.
func tills() *eventstore.Store {
	store := memstore.Open(&memstore.Options{Store: eventstore.Options{Logger: quiet}})
	if err := store.Types.Register("sold", Sold{}); err != nil {
		log.Fatal(err)
	}
	return store
}

func ExamplePark() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	store := tills()
	defer store.Close()

	priceless := errors.New("the price is missing")
	free := false // what the handler accepts
	var sales projection.Memory[Sales]
	group := &projection.Group{Store: store, Logger: quiet}
	err := group.Add(&projection.Projection[*Sales]{
		Name:   "sales",
		Target: &sales,
		Handlers: []projection.Handler[*Sales]{
			projection.On(func(ctx context.Context, s *Sales, e Sold, r *eventstore.Recorded) error {
				if e.Price == 0 && !free {
					return priceless
				}
				return sold(ctx, s, e, r)
			}),
		},
		OnError: projection.ParkAfter(3),
	})
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- group.Run(ctx) }()

	sell(store, "1", Sold{"tea", 3}, Sold{"cake", 0}, Sold{"tea", 3})
	at := sell(store, "2", Sold{"tea", 4})
	if err := group.Wait(ctx, at, "sales"); err != nil {
		log.Fatal(err)
	}
	sales.View(func(s *Sales, _ eventstore.Position) { fmt.Println("without what is parked:", s.Earned) })

	parked, err := group.Parked(ctx, "sales")
	if err != nil {
		log.Fatal(err)
	}
	for _, k := range parked {
		fmt.Printf("%s: %d events, the first is version %d: %s\n", k.Key, k.Events, k.First.Version, k.First.Error)
	}

	free = true // the program was mended
	for _, k := range parked {
		if err := group.Retry(ctx, "sales", k.Key); err != nil { // or group.Discard
			log.Fatal(err)
		}
	}
	sales.View(func(s *Sales, _ eventstore.Position) { fmt.Println("with it:", s.Earned) })
	stop()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}

	// Output:
	// without what is parked: map[tea:7]
	// till-1: 2 events, the first is version 2: the price is missing
	// with it: map[cake:0 tea:10]
}

func ExampleLive() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	store := tills()
	defer store.Close()
	at := sell(store, "1", Sold{"tea", 3}, Sold{"Tea", 3})

	// The second version does not care for capital letters.
	var first, second projection.Memory[Sales]
	group := &projection.Group{Store: store, Logger: quiet}
	err := group.Add(
		&projection.Projection[*Sales]{
			Name: "sales", Target: &first,
			Handlers: []projection.Handler[*Sales]{projection.On(sold)},
		},
		&projection.Projection[*Sales]{
			Name: "sales-2", Target: &second, Replaces: "sales",
			Handlers: []projection.Handler[*Sales]{
				projection.On(func(ctx context.Context, s *Sales, e Sold, r *eventstore.Recorded) error {
					e.Item = strings.ToLower(e.Item)
					return sold(ctx, s, e, r)
				}),
			},
		},
	)
	if err != nil {
		log.Fatal(err)
	}
	live := projection.Live[*projection.Memory[Sales]]{
		Group:  group,
		Models: map[string]*projection.Memory[Sales]{"sales": &first, "sales-2": &second},
	}
	ended := make(chan error)
	go func() { ended <- group.Run(ctx) }()

	if err := group.Wait(ctx, at, "sales"); err != nil {
		log.Fatal(err)
	}
	// Nobody need wait for the second version, but this example does.
	for name := ""; name != "sales-2"; time.Sleep(time.Millisecond) {
		if name, err = group.Current(ctx, "sales"); err != nil {
			log.Fatal(err)
		}
	}
	model, err := live.Model(ctx) // whichever is current
	if err != nil {
		log.Fatal(err)
	}
	model.View(func(s *Sales, _ eventstore.Position) { fmt.Println(s.Earned) })
	// The first version is not needed any more.
	if err := group.Remove(ctx, "sales"); err != nil {
		log.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
	// Output: map[tea:6]
}

func ExampleLoad() {
	ctx := context.Background()
	store := tills()
	defer store.Close()
	sell(store, "1", Sold{"tea", 3}, Sold{"cake", 5})
	sell(store, "2", Sold{"tea", 4})

	// What was sold at one till, without keeping it.
	sales, at, err := projection.Load(ctx, store, &projection.Projection[*Sales]{
		Name:     "till",
		Filter:   eventstore.Filter{Streams: []eventstore.StreamName{"till-1"}},
		Handlers: []projection.Handler[*Sales]{projection.On(sold)},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("at", at, "earned", sales.Earned)
	// Output: at 3 earned map[cake:5 tea:3]
}

func ExampleProjection_inline() {
	dir, err := os.MkdirTemp("", "levada")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := sqlitestore.Open(filepath.Join(dir, "events.db"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	if err := store.Types.Register("sold", Sold{}); err != nil {
		log.Fatal(err)
	}

	// The model is in the store's own file, and an item is sold only once.
	unique, err := sqlitestore.TargetIn(store, sqlitestore.Model{
		Tables: []string{"sold_once"},
		Schema: `CREATE TABLE sold_once(item TEXT PRIMARY KEY) STRICT`,
	})
	if err != nil {
		log.Fatal(err)
	}
	group := &projection.Group{Store: store}
	err = group.Add(&projection.Projection[*sqlite.Conn]{
		Name:   "sold once",
		Target: unique,
		Inline: true,
		Handlers: []projection.Handler[*sqlite.Conn]{
			projection.On(func(_ context.Context, c *sqlite.Conn, e Sold, _ *eventstore.Recorded) error {
				return sqlitex.Execute(c, "INSERT INTO sold_once VALUES(?)", &sqlitex.ExecOptions{Args: []any{e.Item}})
			}),
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	sell(store, "1", Sold{"vase", 70})
	_, err = store.Append(context.Background(), "till-2", eventstore.Any, eventstore.Event{Data: Sold{"vase", 80}})
	fmt.Println("sold twice:", sqlite.ErrCode(err) == sqlite.ResultConstraintPrimaryKey)
	// Output: sold twice: true
}

func ExampleCheckpointed() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	store := tills()
	defer store.Close()

	index := map[string]Sold{} // stands for a service that has no transactions
	group := &projection.Group{Store: store, Logger: quiet}
	err := group.Add(&projection.Projection[struct{}]{
		Name:   "search",
		Target: projection.Checkpointed(store),
		Handlers: []projection.Handler[struct{}]{
			projection.On(func(_ context.Context, _ struct{}, e Sold, r *eventstore.Recorded) error {
				index[r.ID.String()] = e // under a name that comes of the event: twice is once
				return nil
			}),
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- group.Run(ctx) }()
	at := sell(store, "1", Sold{"tea", 3}, Sold{"cake", 5})
	if err := group.Wait(ctx, at, "search"); err != nil {
		log.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(index), "found")
	// Output: 2 found
}

func ExampleProjection_partitions() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	store := tills()
	defer store.Close()

	var sales projection.Memory[Sales]
	group := &projection.Group{Store: store, Logger: quiet}
	err := group.Add(&projection.Projection[*Sales]{
		Name:       "sales",
		Target:     &sales,
		Partitions: 8,
		Key:        func(r *eventstore.Recorded) string { return r.Stream.ID() }, // the till
		Handlers:   []projection.Handler[*Sales]{projection.On(sold)},
	})
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- group.Run(ctx) }()
	sell(store, "1", Sold{"tea", 3}, Sold{"cake", 5})
	if err := group.Wait(ctx, sell(store, "2", Sold{"tea", 4}), "sales"); err != nil {
		log.Fatal(err)
	}
	sales.View(func(s *Sales, _ eventstore.Position) { fmt.Println("earned", s.Earned) })
	stop()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
	// Output: earned map[cake:5 tea:7]
}
