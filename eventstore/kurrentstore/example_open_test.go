package kurrentstore_test

import (
	"context"
	"fmt"
	"log"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/esdbdev"
	"github.com/levada-go/levada/eventstore/kurrentstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

type Deposited struct{ Amount int }

// Here the server is the development server, in the same process. A real one is
// another connection string.
func ExampleOpen() {
	ctx := context.Background()
	memory := memstore.Open(nil)
	defer memory.Close()
	server, err := esdbdev.New(memory, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	if err := server.Start("127.0.0.1:0"); err != nil {
		log.Fatal(err)
	}

	store, err := kurrentstore.Open(ctx, server.URL(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	if err := store.Types.Register("account.deposited", Deposited{}); err != nil {
		log.Fatal(err)
	}
	account := eventstore.Stream("account", "ann")
	at, err := store.Append(ctx, account, eventstore.NoStream, eventstore.Event{Data: Deposited{70}}, eventstore.Event{Data: Deposited{30}})
	fmt.Println(at.Version, err)
	for r, err := range store.ReadStream(ctx, account, 0) {
		fmt.Println(r.Version, r.Data, err)
	}
	_, err = store.Append(ctx, account, eventstore.Exactly(1), eventstore.Event{Data: Deposited{5}})
	fmt.Println(err)
	_, err = store.Tags()
	fmt.Println(err)
	// Output:
	// 2 <nil>
	// 1 {70} <nil>
	// 2 {30} <nil>
	// eventstore: conflict: account-ann: expected version 1, is at version 2
	// eventstore: conditional append: unsupported operation
}

// In a cluster any of the servers will do to begin with: the store finds the leader.
func ExampleOpen_cluster() {
	ctx := context.Background()
	store, err := kurrentstore.Open(ctx, "esdb://admin:changeit@node1:2113,node2:2113,node3:2113?tlsCaFile=ca.crt", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
}
