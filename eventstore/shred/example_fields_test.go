package shred_test

import (
	"context"
	"fmt"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/shred"
)

// Ann asks to be forgotten: her events stay, what they say of her does not.
func Example() {
	ctx := context.Background()
	sealer := shred.New(&shred.Memory{}, nil)
	store := memstore.Open(&memstore.Options{Store: eventstore.Options{Seal: sealer}})
	defer store.Close()
	store.Types.Register("user.registered", Registered{})
	if _, err := store.Append(ctx, "user-ann", eventstore.NoStream, eventstore.Event{Data: Registered{
		User: "ann", Email: "ann@example.com", Plan: "free",
	}}); err != nil {
		fmt.Println(err)
	}
	show := func() {
		for r, err := range store.ReadStream(ctx, "user-ann", 0) {
			fmt.Printf("%+v %v\n", r.Data, err)
		}
	}
	show()
	if err := sealer.Shred(ctx, "ann"); err != nil {
		fmt.Println(err)
	}
	show()
	// Output:
	// {User:ann Email:ann@example.com Likes:[] Plan:free} <nil>
	// {User:ann Email: Likes:[] Plan:free} <nil>
}
