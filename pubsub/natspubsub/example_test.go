package natspubsub_test

import (
	"context"
	"fmt"
	"log"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/levada-go/levada/pubsub"
	"github.com/levada-go/levada/pubsub/natspubsub"
)

// Two processes hear of each other's votes. Here they are two buses of one process,
// and the server is in it, too.
func Example() {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true})
	if err != nil {
		log.Fatal(err)
	}
	s.Start()
	defer s.Shutdown()

	ctx := context.Background()
	votes := pubsub.Topic[string]{Name: "votes"}
	start := func() (*pubsub.Bus, func()) {
		nc, err := nats.Connect(s.ClientURL(), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true))
		if err != nil {
			log.Fatal(err)
		}
		transport := natspubsub.New(nc, nil)
		bus := pubsub.New(transport, nil)
		return bus, func() {
			_ = bus.Close()
			_ = transport.Close()
			nc.Close()
		}
	}
	here, end := start()
	defer end()
	there, end := start()
	defer end()

	sub, err := votes.Subscribe(ctx, there, nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := votes.Publish(ctx, here, "ann: 5"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-sub.C)
	// Output: [ann: 5]
}
