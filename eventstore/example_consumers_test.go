package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"
	"time"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

type Paid struct {
	Customer string
	Amount   int
}

func paid(payments ...Paid) *eventstore.Store {
	store := memstore.Open(nil)
	store.Types.Register("payment.made", Paid{})
	for i, p := range payments {
		if _, err := store.Append(context.Background(), eventstore.Stream("payment", fmt.Sprint(i)), eventstore.NoStream, eventstore.Event{Data: p}); err != nil {
			log.Fatal(err)
		}
	}
	return store
}

// Payments of one customer are booked in order, those of several customers at the same time, by as many members as
// there are.
func ExampleConsumer() {
	ctx, done := context.WithCancel(context.Background())
	store := paid(Paid{"ann", 1}, Paid{"bob", 10}, Paid{"ann", 2}, Paid{"bob", 20}, Paid{"ann", 3})
	defer store.Close()

	var mu sync.Mutex
	booked := map[string][]int{}
	book := func(p Paid) {
		mu.Lock()
		defer mu.Unlock()
		booked[p.Customer] = append(booked[p.Customer], p.Amount)
		if len(booked["ann"])+len(booked["bob"]) == 5 {
			done()
		}
	}
	var members sync.WaitGroup
	for range 2 {
		members.Go(func() {
			for d, err := range store.Consume(ctx, eventstore.Consumer{
				Name:       "books",
				From:       eventstore.Origin(), // the first time; from then on where it was
				Partitions: 4,
				By:         func(r *eventstore.Recorded) string { return r.Data.(Paid).Customer },
			}) {
				if err != nil {
					return
				}
				for _, r := range d.Events {
					book(r.Data.(Paid))
				}
				if err := d.Ack(context.WithoutCancel(ctx)); err != nil {
					log.Println(err)
				}
			}
		})
	}
	members.Wait()
	fmt.Println(booked["ann"], booked["bob"])
	// Output: [1 2 3] [10 20]
}

// What cannot be handled now is delivered again, before anything newer of its key.
func ExampleDelivery_Retry() {
	ctx := context.Background()
	store := paid(Paid{"ann", 1})
	defer store.Close()
	bank := errors.New("the bank does not answer")
	for d, err := range store.Consume(ctx, eventstore.Consumer{Name: "transfers", From: eventstore.Origin()}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("attempt", d.Attempt, bank)
		if bank != nil {
			bank = nil
			d.Retry(10 * time.Millisecond)
			continue
		}
		if err := d.Ack(ctx); err != nil {
			log.Fatal(err)
		}
		break
	}
	// Output:
	// attempt 1 the bank does not answer
	// attempt 2 <nil>
}

// What is stored about consumers can be looked at, and changed while they run.
func ExampleStore_Consumers() {
	ctx := context.Background()
	store := paid(Paid{"ann", 1}, Paid{"bob", 10}, Paid{"ann", 2})
	defer store.Close()
	for d, err := range store.Consume(ctx, eventstore.Consumer{Name: "books", From: eventstore.Origin(), Partitions: 1, Batch: 2}) {
		if err != nil {
			log.Fatal(err)
		}
		if err := d.Ack(ctx); err != nil {
			log.Fatal(err)
		}
		break
	}
	show := func() {
		list, err := store.Consumers(ctx)
		if err != nil {
			log.Fatal(err)
		}
		for _, c := range list {
			fmt.Println(c.Name, "at", c.Position, "lag", c.Lag, "partitions", len(c.Partitions), "paused", c.Paused)
		}
	}
	show()
	for _, change := range []func() error{
		func() error { return store.PauseConsumer(ctx, "books") },
		func() error { return store.ResumeConsumer(ctx, "books") },
		func() error { return store.Repartition(ctx, "books", 16) },
		func() error { return store.ResetConsumer(ctx, "books", eventstore.Origin()) },
		func() error { return store.DeleteConsumer(ctx, "books") },
	} {
		if err := change(); err != nil {
			log.Fatal(err)
		}
		show()
	}
	// Output:
	// books at 2 lag 1 partitions 1 paused false
	// books at 2 lag 1 partitions 1 paused true
	// books at 2 lag 1 partitions 1 paused false
	// books at 2 lag 1 partitions 16 paused false
	// books at 0 lag 3 partitions 16 paused false
}
