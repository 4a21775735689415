package router

import (
	"context"
	"fmt"
	"reflect"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
)

// Func returns a target for commands of type C, for commands that no aggregate
// executes. C may be an interface, for all commands that implement it. An Await is
// passed on to fn, which may ignore it if its result has no position.
//
// What fn appends and dispatches with its ctx continues the command's conversation and
// trace, and names the command as its cause; [eventstore.FromContext] gives what stands for
// it then. Fn sets Refused in a Result whose error is the domain's, if processes
// send the command.
func Func[C command.Command](fn func(ctx context.Context, c C, e *command.Envelope) (command.Result, error)) command.Target {
	return target[C](fn)
}

type target[C command.Command] func(context.Context, C, *command.Envelope) (command.Result, error)

func (t target[C]) Handles(c command.Command) bool { _, ok := c.(C); return ok }

func (t target[C]) HandleCommand(ctx context.Context, e *command.Envelope) (command.Result, error) {
	c, ok := e.Command.(C)
	if !ok {
		return command.Result{}, fmt.Errorf("router: %s: %w for %T", t, command.ErrUnrouted, e.Command)
	}
	if e.Correlation != (eventstore.ID{}) {
		ctx = eventstore.NewContext(ctx, &eventstore.Recorded{Event: eventstore.Event{
			ID: e.ID, Correlation: e.Correlation, Causation: e.Causation, Metadata: e.Metadata,
		}})
	}
	return t(ctx, c, e)
}

func (t target[C]) Commands() []command.Command {
	if reflect.TypeFor[C]().Kind() == reflect.Interface {
		return nil
	}
	return []command.Command{*new(C)}
}

func (t target[C]) String() string { return fmt.Sprintf("the func for %v", reflect.TypeFor[C]()) }

// Use returns t behind middleware, for rules that hold for some routes only. The
// first middleware is outermost.
func Use(t command.Target, mw ...command.Middleware) command.Target {
	return used{command.Chain(t, mw...), t}
}

type used struct {
	h command.Handler
	t command.Target
}

func (u used) Handles(c command.Command) bool { return u.t.Handles(c) }

func (u used) HandleCommand(ctx context.Context, e *command.Envelope) (command.Result, error) {
	return u.h.HandleCommand(ctx, e)
}

func (u used) SubmitCommand(ctx context.Context, e *command.Envelope) *command.Pending {
	return command.SubmitEnvelope(ctx, u.h, e)
}

func (u used) Commands() []command.Command {
	if l, ok := u.t.(lister); ok {
		return l.Commands()
	}
	return nil
}

func (u used) String() string { return describe(u.t) }
