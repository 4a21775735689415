package eventstore_test

import (
	"context"
	"fmt"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

type Posted struct{ User, Text string }

// A page that shows a room selects what was posted there and keeps a line of each.
func ExampleSubscribe() {
	ctx := context.Background()
	store := memstore.Open(nil)
	defer store.Close()
	store.Types.Register("room.posted", Posted{})
	post := func(room, user, text string) {
		store.Append(ctx, eventstore.Stream("room", room), eventstore.Any, eventstore.Event{Data: Posted{user, text}})
	}
	post("lobby", "ann", "hi")

	sub, err := eventstore.Subscribe(ctx, store, eventstore.Transient[string]{
		Filter: eventstore.Filter{Streams: []eventstore.StreamName{"room-lobby"}},
		From:   eventstore.Origin(),
		Select: func(r *eventstore.Recorded) bool { return r.Data.(Posted).User != "spam" },
		Map:    func(r *eventstore.Recorded) string { p := r.Data.(Posted); return p.User + ": " + p.Text },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	post("kitchen", "cat", "miaow")
	post("lobby", "spam", "buy now")
	post("lobby", "bob", "hello")

	for n := 0; n < 2; {
		lines := <-sub.C // all that came since the last receive
		for _, line := range lines.Events {
			fmt.Println(line)
		}
		n += len(lines.Events)
	}
	sub.Close()
	_, open := <-sub.C
	fmt.Println(open, sub.Err())
	// Output:
	// ann: hi
	// bob: hello
	// false <nil>
}
