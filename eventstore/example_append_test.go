package eventstore_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

type Opened struct{ Owner string }

// An append says where it expects its stream to be. Of two that expect the same
// version, one wins.
func ExampleStore_Append() {
	ctx := context.Background()
	store := memstore.Open(nil)
	defer store.Close()
	store.Types.Register("account.opened", Opened{})

	at, err := store.Append(ctx, "account-1", eventstore.NoStream, eventstore.Event{Data: Opened{"ann"}})
	fmt.Println(at.Version, err)

	_, err = store.Append(ctx, "account-1", eventstore.NoStream, eventstore.Event{Data: Opened{"bob"}})
	fmt.Println(err)

	var conflict *eventstore.ConflictError
	fmt.Println(errors.Is(err, eventstore.ErrConflict), errors.As(err, &conflict), conflict.Actual)

	for r, err := range store.ReadStream(ctx, "account-1", 0) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(r.Version, r.Type, r.Data)
	}
	// Output:
	// 1 <nil>
	// eventstore: conflict: account-1: expected no stream, is at version 1
	// true true 1
	// 1 account.opened {ann}
}
