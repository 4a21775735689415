package aggregate_test

import (
	"context"
	"fmt"
	"log"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore/memstore"
)

// A Donation box counts what was given.
type Donation struct{ Total int }

// Given is what happens to it.
type Given struct{ Amount int }

func (e Given) Apply(d *Donation) { d.Total += e.Amount }

// Give gives an amount to a cause.
type Give struct {
	Cause  string
	Amount int
}

func (c Give) AggregateID() string { return c.Cause }

func (c Give) Execute(Donation) ([]aggregate.Event[Donation], error) {
	return []aggregate.Event[Donation]{Given{c.Amount}}, nil
}

// A form that is sent twice must not give twice. The key is stored with the
// command's events, so that it holds after a restart and for other processes too.
func Example_once() {
	ctx := context.Background()
	donations, err := aggregate.New(memstore.Open(nil), &aggregate.Type[Donation]{
		Name:   "donation",
		Events: aggregate.Events[Donation]{"donation.given": Given{}},
	})
	if err != nil {
		log.Fatal(err)
	}
	for range 2 {
		res, err := donations.Execute(ctx, Give{"library", 20}, command.Once("form-7f3a"))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("version", res.Version, "repeated:", res.Repeated)
	}
	// Output:
	// version 1 repeated: false
	// version 1 repeated: true
}
