package process

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/internal/stored"
	"github.com/levada-go/levada/projection"
)

// A Type describes a process manager whose instances have a state S. It must not be
// modified once in use.
//
// The zero value of S is the state of an instance that begins. S is kept as JSON: what JSON
// would drop or not restore is refused when the process is added to a Group. Where the store has a Sealer S is sealed: by its own
// tags, or else for all whose data was in the events that the instance has handled; once one of them is erased, it is made anew of what is left of
// the events, by the routes, and the instance goes on.
type Type[S any] struct {
	// Name is unique among the processes of the store, and for ever. It is UTF-8 of
	// 1 to 100 bytes without dashes, slashes and control characters, and does not start with "$".
	Name string

	// Routes say which events concern which instance, and what it then does. They are made
	// by Start, On and End, one for each type of event, and by Refused, one for each type of command.
	Routes []Route[S]

	// Commands names those types of commands that After and At keep, by example. Names are for ever.
	Commands map[string]command.Command

	// OnError decides about commands that fail and that no Refused route is for, and about
	// events that cannot be handled. Nil means Default. It must depend on nothing but the Failure: after a
	// crash it is asked again. It is called by many goroutines.
	OnError func(Failure) Action

	// From is where the process begins the first time it runs under its name; later it is not
	// looked at. Nil is the first event there is; new(eventstore.Start{}) is the head.
	From *eventstore.Start

	// Partitions is how many nodes can share the instances, up to 1,024. It is fixed when the process first runs; another
	// number is an eventstore.ErrPartitions until Store.Repartition, with the name "process."+Name. Default 8.
	Partitions int
	// InFlight is how many events of a partition are handled at once, each of other instances. Default 64.
	InFlight int
	// Timeout is how long a command may take before it is a Failure, with an error that Is
	// context.DeadlineExceeded. Default 30 s, negative for no bound.
	Timeout time.Duration
	// Cached is how many instances to keep in memory. Default 4096, negative for none.
	Cached int
	// Lease is for how long the instances of a node that is not heard from stay its own; see eventstore.Consumer. Default 10 s.
	Lease time.Duration

	// KeepEnded is for how long everything is kept about an instance that has ended, as Read and History show
	// it, and about timers and decisions that were dealt with. Then all of it is removed but for a stub of some 100 bytes,
	// with which it remains known that the events up to there have been handled: delivered again, they do not
	// begin the instance anew, a later event does. It is looked after once an hour, or more often where KeepEnded is shorter than
	// four hours. Default 30 days, negative for ever; and for ever with a driver that cannot truncate streams. Nodes should
	// agree about it.
	KeepEnded time.Duration

	Logger *slog.Logger // default that of the Group
}

// An Opener is a *Type[S] for some S.
type Opener interface {
	// Open returns what runs the type's instances, dispatching to h.
	Open(h command.Handler) projection.Runner
}

// Open implements Opener. What is wrong with the type is reported when the Runner is
// added to a Group.
func (t *Type[S]) Open(h command.Handler) projection.Runner { return &runner[S]{t: t, h: h} }

// Defaults and bounds of a Type.
const (
	maxName           = 100
	defaultPartitions = 8
	defaultInFlight   = 64
	defaultTimeout    = 30 * time.Second
	defaultCached     = 4096
	defaultKeepEnded  = 30 * 24 * time.Hour
)

// A definition is a Type that was found to be right.
type definition[S any] struct {
	*Type[S]
	routes   map[reflect.Type]*Route[S] // by event
	refused  map[reflect.Type]*Route[S] // by command
	commands *stored.Commands
}

// define checks t as far as that can be done without a store.
func (t *Type[S]) define() (*definition[S], error) {
	if t == nil {
		return nil, errors.New("process: a nil Type")
	}
	c := *t
	d := &definition[S]{Type: &c, routes: map[reflect.Type]*Route[S]{}, refused: map[reflect.Type]*Route[S]{}}
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("process %s: "+format, append([]any{t.Name}, args...)...))
	}
	if err := validName(t.Name); err != nil {
		faults = append(faults, err)
	}
	var types eventstore.Types
	if rt := reflect.TypeFor[S](); rt.Kind() == reflect.Pointer {
		fault("%w: the state is a pointer, %v", eventstore.ErrInvalid, rt)
	} else if err := types.Register("state", reflect.Zero(rt).Interface()); err != nil {
		fault("the state would not be restored: %w", err)
	}
	starts := false
	for i := range c.Routes {
		r := &c.Routes[i]
		by, what := d.routes, r.event
		if r.kind == refusedRoute {
			by, what = d.refused, r.command
		}
		switch {
		case r.kind == 0:
			fault("%w: Routes[%d] was not made by Start, On, End or Refused, or made of nil", eventstore.ErrInvalid, i)
			continue
		case by[what] != nil:
			fault("%w: two routes for %v", eventstore.ErrInvalid, what)
		case r.kind == refusedRoute && r.strict:
			fault("%w: the route for refusals of %v cannot be Strict", eventstore.ErrInvalid, what)
		}
		by[what] = r
		starts = starts || r.kind == startRoute
	}
	if !starts {
		fault("%w: no Start route: no instance would ever begin", eventstore.ErrInvalid)
	}
	if c.Partitions < 0 || c.InFlight < 0 || c.Lease < 0 {
		fault("%w: Partitions, InFlight and Lease cannot be negative", eventstore.ErrInvalid)
	}
	var err error
	if d.commands, err = stored.New(t.Commands); err != nil {
		fault("%w", err)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	orDefault(&c.Partitions, defaultPartitions)
	orDefault(&c.InFlight, defaultInFlight)
	orDefault(&c.Timeout, defaultTimeout)
	orDefault(&c.Cached, defaultCached)
	orDefault(&c.KeepEnded, defaultKeepEnded)
	if c.OnError == nil {
		c.OnError = Default
	}
	if c.From == nil {
		c.From = new(eventstore.Origin())
	}
	return d, nil
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// types returns the stored names of the events that are routed.
func (d *definition[S]) types(t *eventstore.Types) ([]string, error) {
	var names []string
	var faults []error
	for rt, r := range d.routes {
		if name, ok := r.name(t); ok {
			names = append(names, name)
		} else {
			faults = append(faults, fmt.Errorf("process %s: route of %v: %w: list it among an aggregate's Events, or give it a name by Store.Types.Register", d.Name, rt, eventstore.ErrUnregistered))
		}
	}
	slices.Sort(names)
	return names, errors.Join(faults...)
}

func validName(name string) error {
	switch {
	case name == "", len(name) > maxName:
		return fmt.Errorf("process: %w: a name of %d bytes, want 1 to %d", eventstore.ErrInvalid, len(name), maxName)
	case name[0] == '$', strings.ContainsAny(name, "-/"):
		return fmt.Errorf("process: %w: name %q: it starts with $, or has a dash or a slash", eventstore.ErrInvalid, name)
	}
	if err := eventstore.StreamName(name).Validate(); err != nil {
		return fmt.Errorf("process: %w", err)
	}
	return nil
}
