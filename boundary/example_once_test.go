package boundary_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/levada-go/levada/boundary"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

type Ordered struct{ Order, Request string }

var ErrRepeated = errors.New("this request was handled before")

// A form that is sent twice makes one order: the request's own token is the boundary. Different requests share
// nothing and never wait for each other.
func ExampleDecide_once() {
	ctx := context.Background()
	store := memstore.Open(nil)
	defer store.Close()
	store.Types.Register("order.placed", Ordered{})
	tags, err := store.Tags()
	if err != nil {
		fmt.Println(err)
		return
	}
	place := func(order, request string) error {
		_, err := boundary.Decide(ctx, tags, boundary.Model[bool]{
			Query: eventstore.Query{{Tags: []string{"request:" + request}}},
			Apply: func(seen *bool, _ *eventstore.Recorded) { *seen = true },
		}, func(seen bool) ([]eventstore.To, error) {
			if seen {
				return nil, ErrRepeated
			}
			return []eventstore.To{{
				Stream: eventstore.Stream("order", order),
				Event:  eventstore.Event{Data: Ordered{order, request}, Tags: []string{"request:" + request}},
			}}, nil
		})
		return err
	}
	fmt.Println(place("1", "a7"))
	fmt.Println(place("2", "a7"))
	fmt.Println(place("2", "b8"))
	// Output:
	// <nil>
	// this request was handled before
	// <nil>
}
