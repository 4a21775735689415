package boundary_test

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/levada-go/levada/boundary"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

type Invoiced struct {
	Number   int
	Customer string
}

// Invoices are numbered without gaps, however many are written at once: no number is reserved before its invoice is there.
func ExampleDecide_invoice() {
	ctx := context.Background()
	store := memstore.Open(nil)
	defer store.Close()
	store.Types.Register("invoice.written", Invoiced{})
	tags, err := store.Tags()
	if err != nil {
		fmt.Println(err)
		return
	}
	last := boundary.Model[int]{
		Query: eventstore.Query{{Types: []string{"invoice.written"}}},
		Apply: func(s *int, r *eventstore.Recorded) { *s = r.Data.(Invoiced).Number },
	}
	var numbers []int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, customer := range []string{"ann", "bob", "cid", "dan"} {
		wg.Go(func() {
			var number int
			_, err := boundary.Decide(ctx, tags, last, func(last int) ([]eventstore.To, error) {
				number = last + 1
				event := eventstore.Event{Data: Invoiced{number, customer}}
				return []eventstore.To{{Stream: eventstore.Stream("invoice", fmt.Sprint(number)), Event: event}}, nil
			})
			if err != nil {
				fmt.Println(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			numbers = append(numbers, number)
		})
	}
	wg.Wait()
	slices.Sort(numbers)
	fmt.Println(numbers)
	// Output: [1 2 3 4]
}
