package levada

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/process"
	"github.com/levada-go/levada/projection"
	"github.com/levada-go/levada/router"
	"github.com/levada-go/levada/schedule"
)

// A Config lists the parts of an App.
type Config struct {
	Aggregates  []aggregate.Opener   // *aggregate.Type[S] for some S
	Projections []projection.Runner  // *projection.Projection[T] for some T
	Processes   []process.Opener     // *process.Type[S] for some S
	Targets     []command.Target     // other handlers of commands, as router.Func makes
	Middleware  []command.Middleware // the first is outermost

	// Commands names those types of commands that command.DispatchAt can keep for later,
	// by example. Names are for ever.
	Commands map[string]command.Command

	// OnError decides about events that projections without an OnError of their
	// own cannot handle; nil means projection.Retry.
	OnError func(projection.Failure) projection.Action

	// MaxLag is how far behind a projection may be in a healthy App: the age of
	// the first event that it has not handled. Default one minute; negative for no bound.
	MaxLag time.Duration
	// MaxStuck is how many instances of a process may be stuck, and wait for a decision, in a healthy App. Default
	// none; negative for no bound.
	MaxStuck int
	// MaxParked is how many keys of a projection may have events that are parked, and wait for a decision, in a
	// healthy App. Default none; negative for no bound.
	MaxParked int

	Trace  *projection.Trace
	Logger *slog.Logger // default slog.Default()
}

// An App is a running whole. Its methods are safe for concurrent use. It is a
// command.Submitter, so that it can stand wherever commands go.
type App struct {
	Store    *eventstore.Store
	Commands command.Handler // the middleware, and behind it the router
	Group    *projection.Group

	maxLag              time.Duration
	maxStuck, maxParked int
}

// defaultMaxLag is how far behind a projection may be in a healthy App.
const defaultMaxLag = time.Minute

// New checks the parts against each other and returns an App on s. It reports
// everything at once that can be found before the first command: aggregates,
// projections and processes that are incomplete, clashing names, two projections or processes of one name,
// or two handlers for one command of a router.Func, handlers of events that no
// aggregate returns, states and events that the store's codec would not
// restore. It does not read from s or write to it.
func New(s *eventstore.Store, c Config) (*App, error) {
	if s == nil {
		return nil, errors.New("levada: no store")
	}
	var faults []error
	var r router.Router
	opened := map[aggregate.Opener]bool{}
	categories := map[string]bool{}
	for i, o := range c.Aggregates {
		switch {
		case o == nil:
			faults = append(faults, fmt.Errorf("levada: Aggregates[%d] is nil", i))
			continue
		case opened[o]:
			faults = append(faults, fmt.Errorf("levada: Aggregates[%d] is there twice", i))
			continue
		}
		opened[o] = true
		t, err := o.Open(s)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		if k, ok := t.(interface{ Category() string }); ok {
			if categories[k.Category()] {
				faults = append(faults, fmt.Errorf("levada: Aggregates[%d]: another type keeps its streams in category %q too", i, k.Category()))
			}
			categories[k.Category()] = true
		}
		r.Handle(t)
	}
	for i, t := range c.Targets {
		if t == nil {
			faults = append(faults, fmt.Errorf("levada: Targets[%d] is nil", i))
			continue
		}
		r.Handle(t)
	}
	// Handlers are told by their events' names, which the aggregates have registered.
	g := &projection.Group{Store: s, Logger: c.Logger, Trace: c.Trace, OnError: c.OnError}
	for i, m := range c.Middleware {
		if m == nil {
			faults = append(faults, fmt.Errorf("levada: Middleware[%d] is nil", i))
		}
	}
	runners := c.Projections[:len(c.Projections):len(c.Projections)]
	a := &App{Store: s, Group: g, maxLag: c.MaxLag, maxStuck: c.MaxStuck, maxParked: c.MaxParked}
	for i, o := range c.Processes {
		if o == nil {
			faults = append(faults, fmt.Errorf("levada: Processes[%d] is nil", i))
			continue
		}
		runners = append(runners, o.Open(a))
	}
	examples := slices.Collect(maps.Values(c.Commands))
	if len(c.Processes) > 0 || len(c.Commands) > 0 {
		timers := &schedule.Timers{Commands: c.Commands, Handler: a, Logger: c.Logger}
		r.Handle(timers)
		runners = append(runners, timers)
	}
	if slices.Contains(examples, nil) { // which Timers reports
		examples = nil
	}
	if err := errors.Join(append(faults, g.Add(runners...), r.Check(examples...))...); err != nil {
		return nil, err
	}
	a.Commands = command.Chain(&r, append(c.Middleware[:len(c.Middleware):len(c.Middleware)], command.Awaiting(g))...)
	if a.maxLag == 0 {
		a.maxLag = defaultMaxLag
	}
	return a, nil
}

// Dispatch hands a command to what executes it and returns what becomes of it.
// Options and errors are those of command.Dispatch.
func (a *App) Dispatch(ctx context.Context, c command.Command, opts ...command.Option) (command.Result, error) {
	return command.Dispatch(ctx, a.Commands, c, opts...)
}

// Submit hands a command to what executes it and does not wait for what becomes of
// it. Commands submitted by one goroutine to one aggregate are decided in that order.
func (a *App) Submit(ctx context.Context, c command.Command, opts ...command.Option) *command.Pending {
	return command.Submit(ctx, a.Commands, c, opts...)
}

// HandleCommand implements command.Handler.
func (a *App) HandleCommand(ctx context.Context, e *command.Envelope) (command.Result, error) {
	return a.Commands.HandleCommand(ctx, e)
}

// SubmitCommand implements command.Submitter.
func (a *App) SubmitCommand(ctx context.Context, e *command.Envelope) *command.Pending {
	return command.SubmitEnvelope(ctx, a.Commands, e)
}

// Run runs the projections, the processes and the timers until ctx ends, lets what is under way be
// finished and returns nil. It returns an error if the store is closed
// meanwhile. Commands can be dispatched before, during and after; what waits
// for projections, and what is to happen later, needs Run.
func (a *App) Run(ctx context.Context) error { return a.Group.Run(ctx) }

// Status returns how each projection is doing.
func (a *App) Status(ctx context.Context) ([]projection.Status, error) { return a.Group.Status(ctx) }

// Healthy returns nil if the store answers, no projection or process is stopped, none is
// further behind than Config.MaxLag, no process has more instances that are stuck than
// Config.MaxStuck, and no projection more keys that are parked than Config.MaxParked; otherwise
// an error that says everything that is wrong. Some of that no restart will cure.
func (a *App) Healthy(ctx context.Context) error {
	list, err := a.Group.Status(ctx)
	if err == nil && len(list) == 0 {
		_, err = a.Store.Head(ctx)
	}
	if err != nil {
		return fmt.Errorf("levada: unhealthy: %w", err)
	}
	var faults []error
	for _, s := range list {
		if s.State == projection.Stopped {
			faults = append(faults, fmt.Errorf("levada: unhealthy: %w", &projection.StoppedError{Name: s.Name, State: s.State, Err: s.LastError}))
		} else if a.maxLag > 0 && s.LagTime > a.maxLag {
			err := fmt.Errorf("levada: unhealthy: projection %s is %v and %d positions behind", s.Name, s.LagTime.Round(time.Second), s.Lag)
			if s.LastError != nil {
				err = fmt.Errorf("%w: %w", err, s.LastError)
			}
			faults = append(faults, err)
		}
		if a.maxStuck >= 0 && s.Stuck > a.maxStuck {
			faults = append(faults, fmt.Errorf("levada: unhealthy: process %s has %d stuck instances, see process.Instances", s.Name, s.Stuck))
		}
		if a.maxParked >= 0 && s.Parked > a.maxParked {
			faults = append(faults, fmt.Errorf("levada: unhealthy: projection %s has %d parked keys, see projection.Group.Parked", s.Name, s.Parked))
		}
	}
	return errors.Join(faults...)
}
