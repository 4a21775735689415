package process_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"
	"time"

	"github.com/levada-go/levada"
	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/process"
)

// A Seat is free or taken.
type Seat struct{ By string }

// What happens to seats.
type (
	Taken struct{ Seat, By string }
	Freed struct{ Seat, By string }
	Paid  struct{ Seat, By string }
)

func (e Taken) Apply(s *Seat) { s.By = e.By }
func (e Freed) Apply(s *Seat) { s.By = "" }
func (e Paid) Apply(s *Seat)  {}

// What is asked of seats.
type (
	Take struct{ Seat, By string }
	Free struct{ Seat, By string }
	Pay  struct{ Seat, By string }
)

func (c Take) AggregateID() string { return c.Seat }
func (c Free) AggregateID() string { return c.Seat }
func (c Pay) AggregateID() string  { return c.Seat }

var errTaken = errors.New("the seat is not to be had")

func (c Take) Execute(s Seat) ([]aggregate.Event[Seat], error) {
	if s.By != "" {
		return nil, errTaken
	}
	return []aggregate.Event[Seat]{Taken(c)}, nil
}

func (c Free) Execute(s Seat) ([]aggregate.Event[Seat], error) {
	return []aggregate.Event[Seat]{Freed(c)}, nil
}

func (c Pay) Execute(s Seat) ([]aggregate.Event[Seat], error) {
	if s.By != c.By {
		return nil, errTaken
	}
	return []aggregate.Event[Seat]{Paid(c)}, nil
}

var seats = &aggregate.Type[Seat]{
	Name:   "seat",
	Events: aggregate.Events[Seat]{"seat.taken": Taken{}, "seat.freed": Freed{}, "seat.paid": Paid{}},
}

// A Booking waits for its payment, but not for long.
type Booking struct{ Seat string }

func (b *Booking) taken(e Taken) []command.Command {
	b.Seat = e.Seat
	return []command.Command{process.After(100*time.Millisecond, Free(e))}
}

func (b *Booking) paid(Paid) []command.Command   { return nil } // which ends the timer, too
func (b *Booking) freed(Freed) []command.Command { return nil }

var bookings = &process.Type[Booking]{
	Name: "booking",
	Routes: []process.Route[Booking]{
		process.Start(func(e Taken) string { return e.Seat + " by " + e.By }, (*Booking).taken),
		process.End(func(e Paid) string { return e.Seat + " by " + e.By }, (*Booking).paid),
		process.End(func(e Freed) string { return e.Seat + " by " + e.By }, (*Booking).freed),
	},
	Commands: map[string]command.Command{"seat.free": Free{}},
}

func Example() {
	store := memstore.Open(nil)
	defer store.Close()
	app, err := levada.New(store, levada.Config{
		Aggregates: []aggregate.Opener{seats},
		Processes:  []process.Opener{bookings},
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = app.Run(ctx) })

	for _, c := range []command.Command{Take{"1A", "ann"}, Take{"1B", "bob"}, Pay{"1A", "ann"}} {
		if _, err := app.Dispatch(ctx, c); err != nil {
			log.Fatal(err)
		}
	}
	for _, err = app.Dispatch(ctx, Take{"1B", "eve"}); errors.Is(err, errTaken); _, err = app.Dispatch(ctx, Take{"1B", "eve"}) {
		time.Sleep(10 * time.Millisecond) // until bob has lost it
	}
	stop()
	running.Wait()
	for in, err := range process.Instances(context.Background(), store, "booking", process.All) {
		if err != nil {
			log.Fatal(err)
		}
		if in.ID != "1B by eve" {
			fmt.Println(in.ID, in.Status)
		}
	}

	// Output:
	// 1A by ann ended
	// 1B by bob ended
}
