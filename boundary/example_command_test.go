package boundary_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/levada-go/levada"
	"github.com/levada-go/levada/boundary"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/projection"
	"github.com/levada-go/levada/router"
)

// SignUp gives a user a name, if nobody has it.
type SignUp struct{ User, Name string }

func (c SignUp) AggregateID() string { return c.User }

// signUps is what decides it.
func signUps(tags *eventstore.TagStore) command.Target {
	return router.Func(func(ctx context.Context, c SignUp, e *command.Envelope) (command.Result, error) {
		pos, err := boundary.Decide(ctx, tags, owner(c.Name), func(user string) ([]eventstore.To, error) {
			if user != "" {
				return nil, ErrTaken
			}
			event := eventstore.Event{Data: Registered(c), Tags: []string{nameTag(c.Name)}, Metadata: e.Metadata}
			return []eventstore.To{{Stream: eventstore.Stream("user", c.User), Event: event}}, nil
		})
		return command.Result{Position: pos, Refused: errors.Is(err, ErrTaken)}, err
	})
}

// A decision is a command like any other: middleware is around it, processes send it, and who dispatches it
// can wait for what reads its events.
func ExampleDecide_command() {
	store := memstore.Open(nil)
	defer store.Close()
	store.Types.Register("user.registered", Registered{})
	store.Types.Register("user.renamed", Renamed{})
	tags, err := store.Tags()
	if err != nil {
		fmt.Println(err)
		return
	}
	var names projection.Memory[[]string]
	app, err := levada.New(store, levada.Config{
		Targets: []command.Target{signUps(tags)},
		Projections: []projection.Runner{&projection.Projection[*[]string]{
			Name: "names", Target: &names,
			Handlers: []projection.Handler[*[]string]{projection.On(func(_ context.Context, list *[]string, e Registered, _ *eventstore.Recorded) error {
				*list = append(*list, e.Name)
				return nil
			})},
		}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- app.Run(ctx) }()

	for _, c := range []SignUp{{"1", "ann"}, {"2", "Ann"}, {"3", "bob"}} {
		res, err := app.Dispatch(ctx, c, command.Wait("names"))
		fmt.Println(c.Name, err, res.Refused)
	}
	names.View(func(list *[]string, _ eventstore.Position) { fmt.Println(*list) })
	stop()
	<-ended
	// Output:
	// ann <nil> false
	// Ann the name is taken true
	// bob <nil> false
	// [ann bob]
}
