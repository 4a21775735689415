package schedule_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"time"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/projection"
	"github.com/levada-go/levada/router"
	"github.com/levada-go/levada/schedule"
)

// A Wake is a command for later.
type Wake struct{ Who string }

func (c Wake) AggregateID() string { return c.Who }

// Without a levada.App, a Timers is a part of a router, which gives it commands to keep, and of a Group, which runs it.
func ExampleTimers() {
	store := memstore.Open(nil)
	defer store.Close()
	woken := make(chan string)
	var commands router.Router
	commands.Handle(router.Func(func(_ context.Context, c Wake, _ *command.Envelope) (command.Result, error) {
		woken <- c.Who
		return command.Result{}, nil
	}))
	timers := &schedule.Timers{Commands: map[string]command.Command{"wake": Wake{}}, Handler: &commands}
	commands.Handle(timers)
	group := &projection.Group{Store: store, Logger: slog.New(slog.DiscardHandler)}
	if err := group.Add(timers); err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- group.Run(ctx) }()

	// One that is set again under its key takes the place of the first.
	tomorrow, soon := time.Now().Add(24*time.Hour), time.Now().Add(10*time.Millisecond)
	for _, at := range []time.Time{tomorrow, soon} {
		if _, err := command.DispatchAt(ctx, &commands, at, Wake{"ann"}, command.Once("alarm clock of ann")); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(<-woken, "wakes up")
	stop()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
	// Output: ann wakes up
}
