package natspresence_test

import (
	"context"
	"fmt"
	"log"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/levada-go/levada/presence"
	"github.com/levada-go/levada/presence/natspresence"
)

// A user who is connected to one node is seen on another.
func Example() {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true})
	if err != nil {
		log.Fatal(err)
	}
	s.Start()
	defer s.Shutdown()

	start := func(node string) (*presence.Presence, func()) {
		nc, err := nats.Connect(s.ClientURL(), nats.MaxReconnects(-1))
		if err != nil {
			log.Fatal(err)
		}
		p, err := presence.New(&presence.Options{Node: node, Transport: natspresence.New(nc, nil)})
		if err != nil {
			log.Fatal(err)
		}
		return p, func() {
			_ = p.Close()
			nc.Close()
		}
	}
	here, end := start("here")
	defer end()
	there, end := start("there")
	defer end()

	diffs, err := there.Diffs("round 1")
	if err != nil {
		log.Fatal(err)
	}
	defer diffs.Close()
	if _, err := here.Connect().Track("round 1", "ann", nil); err != nil {
		log.Fatal(err)
	}
	diff, err := diffs.Next(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(diff.Joined, "on", diff.Joins[0].Metas[0].Node)
	// Output: [ann] on here
}
