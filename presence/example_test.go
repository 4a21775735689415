package presence_test

import (
	"context"
	"fmt"
	"log"

	"github.com/levada-go/levada/presence"
)

// A user opens a second tab, types, and leaves.
func Example() {
	p, err := presence.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	diffs, err := p.Diffs("room:1")
	if err != nil {
		log.Fatal(err)
	}
	defer diffs.Close()
	next := func() {
		d, err := diffs.Next(context.Background())
		if err != nil {
			log.Fatal(err)
		}
		for _, gone := range d.Leaves {
			fmt.Println("-", gone.Key, gone.Metas[0].JSON)
		}
		for _, come := range d.Joins {
			fmt.Println("+", come.Key, come.Metas[0].JSON)
		}
		fmt.Println("joined", d.Joined, "left", d.Left)
	}

	type state struct{ Typing bool }
	desk, phone := p.Connect(), p.Connect()
	for _, c := range []*presence.Conn{desk, phone} {
		if _, err := c.Track("room:1", "ann", state{}); err != nil {
			log.Fatal(err)
		}
		next()
	}
	if err := phone.Update("room:1", "ann", state{Typing: true}); err != nil {
		log.Fatal(err)
	}
	next()
	ann, _ := p.GetByKey("room:1", "ann")
	fmt.Println(ann.Key, "has", len(ann.Metas), "connections")
	desk.UntrackAll()
	next()
	phone.UntrackAll()
	next()
	// Output:
	// + ann {"Typing":false}
	// joined [ann] left []
	// + ann {"Typing":false}
	// joined [] left []
	// - ann {"Typing":false}
	// + ann {"Typing":true}
	// joined [] left []
	// ann has 2 connections
	// - ann {"Typing":false}
	// joined [] left []
	// - ann {"Typing":true}
	// joined [] left [ann]
}

// A browser that reconnects within the time of grace was never away.
func ExampleConn_Close() {
	p, err := presence.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	before := p.Connect()
	first, err := before.Track("room:1", "ann", nil)
	if err != nil {
		log.Fatal(err)
	}
	before.Close()
	after := p.Connect()
	second, err := after.Track("room:1", "ann", nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(first == second, len(p.List("room:1")))
	// Output: true 1
}
