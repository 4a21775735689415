package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/levada-go/levada/eventstore"
)

// ErrNoScheduler reports a command for later that reached nothing that would keep
// it until then. It was not kept.
var ErrNoScheduler = errors.New("command: nothing keeps commands for later")

// A Later is a command that is to be dispatched when its time has come. DispatchAt
// makes it, and a scheduler handles it, such as schedule.Timers; middleware on the way sees
// it now, and Command by itself at that time.
type Later struct {
	Command Command
	At      time.Time
}

// AggregateID returns that of the command.
func (l Later) AggregateID() string { return l.Command.AggregateID() }

// A Withdraw takes back a Later. CancelScheduled makes it.
type Withdraw struct{ Key string }

// AggregateID returns the key.
func (w Withdraw) AggregateID() string { return w.Key }

// DispatchAt hands cmd to h, to be kept and dispatched at t, or at once if t has
// passed. When it returns nil that is durable, and goes on wherever the scheduler
// runs. The command is dispatched at least once, with a key made of its own and t, and
// so takes effect once; see Once. If it is refused then, nobody but a log is told.
//
// With Once the command can be taken back by its key, by [CancelScheduled], and a later
// DispatchAt with that key replaces it: the same call repeated keeps one command. Meta is
// kept for the command's events, which belong to the conversation of ctx. At and Wait
// cannot be kept and are refused with an eventstore.ErrInvalid, as is a command whose type has
// no stored name with the scheduler. A command about somebody who was erased is an
// eventstore.ErrErased; if they are erased later it is not dispatched. If h leads to no scheduler the error is an ErrNoScheduler.
func DispatchAt(ctx context.Context, h Handler, t time.Time, cmd Command, opts ...Option) (Result, error) {
	if cmd == nil {
		return Result{}, fmt.Errorf("command: %w: nil command", eventstore.ErrInvalid)
	}
	e, err := New(ctx, Later{cmd, t}, opts...)
	switch {
	case err != nil:
		return Result{}, err
	case e.Await != nil: // nobody behind Awaiting would see it
		return Result{}, fmt.Errorf("command: %w: Wait cannot be kept for later", eventstore.ErrInvalid)
	case e.Expected != eventstore.Any:
		return Result{}, fmt.Errorf("command: %w: At cannot be kept for later", eventstore.ErrInvalid)
	}
	return scheduled(h.HandleCommand(ctx, e))
}

// DispatchAfter is DispatchAt d from now.
func DispatchAfter(ctx context.Context, h Handler, d time.Duration, cmd Command, opts ...Option) (Result, error) {
	return DispatchAt(ctx, h, time.Now().Add(d), cmd, opts...)
}

// CancelScheduled takes back the command that DispatchAt was given with Once(key). It
// is no error if there is none. Once it returns nil the command is not dispatched, unless its
// time had come before. If h leads to no scheduler the error is an ErrNoScheduler.
func CancelScheduled(ctx context.Context, h Handler, key string) error {
	_, err := scheduled(Dispatch(ctx, h, Withdraw{key}, Once(key)))
	return err
}

func scheduled(res Result, err error) (Result, error) {
	if errors.Is(err, ErrUnrouted) {
		err = fmt.Errorf("%w: an App with Config.Commands does, or a schedule.Timers: %w", ErrNoScheduler, err)
	}
	return res, err
}
