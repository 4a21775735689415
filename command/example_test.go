package command_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/levada-go/levada/command"
)

// Rename is a command.
type Rename struct{ Page, Title string }

func (c Rename) AggregateID() string { return c.Page }

// RequireUser is middleware that lets nobody pass who has not said who they are.
func RequireUser(next command.Handler) command.Handler {
	return command.HandlerFunc(func(ctx context.Context, e *command.Envelope) (command.Result, error) {
		if e.Metadata["user"] == "" {
			return command.Result{}, errors.New("sign in first")
		}
		return next.HandleCommand(ctx, e)
	})
}

// Middleware is a func around a handler, as in net/http.
func ExampleChain() {
	pages := command.HandlerFunc(func(_ context.Context, e *command.Envelope) (command.Result, error) {
		fmt.Printf("%s: %v\n", e.Metadata["user"], e.Command)
		return command.Result{}, nil
	})
	h := command.Chain(pages, RequireUser)

	ctx := context.Background()
	_, err := command.Dispatch(ctx, h, Rename{"home", "Welcome"})
	fmt.Println(err)
	_, err = command.Dispatch(ctx, h, Rename{"home", "Welcome"}, command.Meta("user", "ann"))
	fmt.Println(err)
	// Output:
	// sign in first
	// ann: {home Welcome}
	// <nil>
}
