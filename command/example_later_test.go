package command_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/levada-go/levada"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/router"
)

// A Remind is a command that is kept for later.
type Remind struct{ Who, Of string }

func (c Remind) AggregateID() string { return c.Who }

func ExampleDispatchAfter() {
	store := memstore.Open(nil)
	defer store.Close()
	reminded := make(chan string)
	app, err := levada.New(store, levada.Config{
		Targets: []command.Target{router.Func(func(_ context.Context, c Remind, _ *command.Envelope) (command.Result, error) {
			reminded <- c.Who + ": " + c.Of
			return command.Result{}, nil
		})},
		Commands: map[string]command.Command{"remind": Remind{}},
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- app.Run(ctx) }()

	_, err = command.DispatchAfter(ctx, app, 20*time.Millisecond, Remind{"ann", "the dentist"})
	if err != nil {
		log.Fatal(err)
	}
	_, err = command.DispatchAfter(ctx, app, 10*time.Millisecond, Remind{"ann", "the party"}, command.Once("party"))
	if err != nil {
		log.Fatal(err)
	}
	if err := command.CancelScheduled(ctx, app, "party"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-reminded)
	stop()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}

	// Output:
	// ann: the dentist
}
