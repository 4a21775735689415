package boundary_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/levada-go/levada/boundary"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

type Priced struct {
	Product string
	Cents   int
	At      time.Time
}

type Bought struct {
	Products []string
	Cents    int
}

var ErrPrice = errors.New("the price has changed")

// grace is for how long a price that was shown is still honoured.
const grace = 10 * time.Minute

// offers are the prices of one product, the newest last.
type offers []Priced

// honours reports whether the product may be sold at cents now: at the newest price, or at one that was
// replaced less than grace ago.
func (o offers) honours(cents int, now time.Time) bool {
	for i, p := range slices.Backward(o) {
		if p.Cents == cents {
			return i == len(o)-1 || now.Before(o[i+1].At.Add(grace))
		}
	}
	return false
}

// A basket is sold at the prices the customer saw, if all of them still hold: the boundary is made of as many products as
// the basket has.
func ExampleDecide_price() {
	ctx := context.Background()
	store := memstore.Open(nil)
	defer store.Close()
	store.Types.Register("product.priced", Priced{})
	store.Types.Register("basket.bought", Bought{})
	tags, err := store.Tags()
	if err != nil {
		fmt.Println(err)
		return
	}
	noon := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	price := func(product string, cents int, at time.Time) {
		event := eventstore.Event{Data: Priced{product, cents, at}, Tags: []string{"product:" + product}}
		if _, err := store.Append(ctx, eventstore.Stream("product", product), eventstore.Any, event); err != nil {
			fmt.Println(err)
		}
	}
	buy := func(now time.Time, seen map[string]int) error {
		var query eventstore.Query
		bought := Bought{}
		for product, cents := range seen {
			query = append(query, eventstore.Item{Types: []string{"product.priced"}, Tags: []string{"product:" + product}})
			bought.Products, bought.Cents = append(bought.Products, product), bought.Cents+cents
		}
		_, err := boundary.Decide(ctx, tags, boundary.Model[map[string]offers]{
			Query: query,
			Apply: func(s *map[string]offers, r *eventstore.Recorded) {
				if *s == nil {
					*s = map[string]offers{}
				}
				e := r.Data.(Priced)
				(*s)[e.Product] = append((*s)[e.Product], e)
			},
		}, func(s map[string]offers) ([]eventstore.To, error) {
			for product, cents := range seen {
				if !s[product].honours(cents, now) {
					return nil, fmt.Errorf("%s: %w", product, ErrPrice)
				}
			}
			return []eventstore.To{{Stream: "sales", Event: eventstore.Event{Data: bought}}}, nil
		})
		return err
	}
	price("tea", 300, noon)
	price("cup", 900, noon)
	price("tea", 350, noon.Add(time.Hour))
	fmt.Println(buy(noon.Add(time.Hour+time.Minute), map[string]int{"tea": 300, "cup": 900}))
	fmt.Println(buy(noon.Add(2*time.Hour), map[string]int{"tea": 300, "cup": 900}))
	fmt.Println(buy(noon.Add(2*time.Hour), map[string]int{"tea": 350, "cup": 900}))
	// Output:
	// <nil>
	// tea: the price has changed
	// <nil>
}
