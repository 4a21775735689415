package eventstore_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

type Named struct{ User, Name string }

// A name may be used once, across all users: the append holds only if no event
// with the name's tag was recorded since we looked.
func ExampleTagStore() {
	ctx := context.Background()
	store := memstore.Open(nil)
	defer store.Close()
	store.Types.Register("user.named", Named{})
	tags, err := store.Tags() // at startup: not every driver can do it
	if err != nil {
		fmt.Println(err)
		return
	}
	taken := eventstore.Query{{Types: []string{"user.named"}, Tags: []string{"name:ann"}}}

	var seen eventstore.Position
	for b, err := range tags.Read(ctx, taken, 0) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("taken by", len(b.Events))
		seen = b.Position
	}
	for _, user := range []string{"1", "2"} {
		_, err := tags.Append(ctx, taken, seen, eventstore.To{
			Stream: eventstore.Stream("user", user),
			Event:  eventstore.Event{Data: Named{user, "ann"}, Tags: []string{"name:ann"}},
		})
		fmt.Println(user, errors.Is(err, eventstore.ErrConflict))
	}
	// Output:
	// taken by 0
	// 1 false
	// 2 true
}
