package natsstore_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/nats-io/nats.go"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/natsstore"
)

// A Posted is an event of a chat room.
type Posted struct {
	By   string `json:"by"`
	Text string `json:"text"`
}

// One node in the process: nothing has to be installed. The connection to it can
// be used for more than events.
func ExampleOpenEmbedded() {
	dir, err := os.MkdirTemp("", "levada")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()

	store, err := natsstore.OpenEmbedded(ctx, dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	if err := store.Types.Register("room.posted", Posted{}); err != nil {
		log.Fatal(err)
	}
	for _, p := range []Posted{{"ann", "hello"}, {"bob", "hi ann"}} {
		if _, err := store.Append(ctx, "room-lobby", eventstore.Any, eventstore.Event{Data: p}); err != nil {
			log.Fatal(err)
		}
	}
	for r, err := range store.ReadStream(ctx, "room-lobby", 0) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(r.Version, r.Data.(Posted).By)
	}
	var nc *nats.Conn
	fmt.Println(store.As(&nc))
	// Output:
	// 1 ann
	// 2 bob
	// true
}

// A store on a cluster, as a server program opens it.
func ExampleOpenURL() {
	ctx := context.Background()
	store, err := natsstore.OpenURL(ctx, "nats://n1:4222,nats://n2:4222,nats://n3:4222", &natsstore.Options{
		Name:       "shop",
		Replicas:   3,
		Durability: natsstore.Fsync, // the servers have sync_interval: always
	})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
}
