package schedule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/internal/sealing"
	"github.com/levada-go/levada/internal/stored"
	"github.com/levada-go/levada/internal/system"
	"github.com/levada-go/levada/projection"
)

// Timers fires what is due. It is a command.Target, which keeps commands for later, and a
// projection.Runner, which a Group runs: on one node or, better, on several. Its fields are
// set before it is added to a Group. It must not be copied after that.
type Timers struct {
	// Store keeps the timers. Nil means the Group's, which it then is.
	Store *eventstore.Store
	// Commands names the types of commands that can be kept, by example. Names are for ever.
	Commands map[string]command.Command
	// Handler gets the commands whose time has come, usually the whole chain of middleware. It
	// may be nil if there are no Commands.
	Handler command.Handler
	// Name is that of the runner in its Group; default "timers".
	Name string
	// Logger is told of commands that fail; default slog.Default().
	Logger *slog.Logger

	commands *stored.Commands
}

// Provided is what a Timers provides to the other tasks of its Group, and what processes need; see projection.Task.
const Provided = "a schedule.Timers"

// ErrUnnamed reports a command that cannot be kept for later: Timers.Commands does not
// have its type.
var ErrUnnamed = stored.ErrUnnamed

// An Alarm is an event that is to be appended at a time. It is for what builds on timers, as processes do.
type Alarm struct {
	// Key names the alarm, in 1 to 255 bytes of UTF-8. Setting one of the same key replaces it.
	Key string
	At  time.Time
	// Stream, whose name starts with "$", gets an event of Type with Data, JSON, once or more often. The event belongs to the
	// conversation of the event that the alarm was set in.
	Stream eventstore.StreamName
	Type   string
	Data   []byte
}

// Set keeps a; when it returns nil that is durable. A Timers must run somewhere for it to
// go off. An alarm whose time has passed goes off at once.
func Set(ctx context.Context, s *eventstore.Store, a Alarm) error {
	if len(a.Key) == 0 || a.Stream == "" || a.Stream[0] != '$' || a.Type == "" {
		return fmt.Errorf("schedule: %w: an alarm needs a Key, a Type, and a Stream whose name starts with $", eventstore.ErrInvalid)
	}
	_, err := appendEntry(ctx, s, typeSet, &entry{Key: a.Key, At: a.At.UTC(), Stream: a.Stream, Type: a.Type, Data: a.Data})
	return err
}

// Cancel forgets the alarm that was set under key, if it has not gone off.
func Cancel(ctx context.Context, s *eventstore.Store, key string) error {
	_, err := appendEntry(ctx, s, typeCancelled, &entry{Key: key})
	return err
}

// Handles implements command.Target: commands for later and their withdrawal are
// Timers' own.
func (t *Timers) Handles(c command.Command) bool {
	switch c.(type) {
	case command.Later, command.Withdraw:
		return true
	}
	return false
}

// Commands for later are kept under keys that start so, lest they meet those of alarms.
const commandKeys = "command/"

// HandleCommand implements command.Target.
func (t *Timers) HandleCommand(ctx context.Context, e *command.Envelope) (command.Result, error) {
	if err := e.Validate(); err != nil {
		return command.Result{}, err
	}
	if t.commands == nil {
		return command.Result{}, errors.New("schedule: Timers that were not added to a Group")
	}
	switch {
	case e.Await != nil:
		return command.Result{}, fmt.Errorf("schedule: %w", command.ErrNoWaiter)
	case e.Expected != eventstore.Any:
		return command.Result{}, fmt.Errorf("schedule: %w: command.At cannot be kept for later", eventstore.ErrInvalid)
	}
	cause := eventstore.FromContext(ctx)
	if e.Correlation != (eventstore.ID{}) { // the conversation of the envelope, whatever ctx says
		ctx = eventstore.NewContext(ctx, &eventstore.Recorded{Event: eventstore.Event{ID: e.ID, Correlation: e.Correlation, Metadata: e.Metadata}})
	}
	var at eventstore.Appended
	var err error
	switch c := e.Command.(type) {
	case command.Later:
		var name string
		var data []byte
		if name, data, err = t.commands.Encode(c.Command); err != nil {
			return command.Result{}, fmt.Errorf("schedule: %w", err)
		}
		key := e.Key
		if key == "" {
			key = e.ID.String()
		}
		set := entry{Key: commandKeys + key, At: c.At.UTC(), Command: name, Data: data, Metadata: e.Metadata}
		if err = set.seal(ctx, sealing.Of(t.Store), c.Command, cause); err != nil {
			return command.Result{}, fmt.Errorf("schedule: %w", err)
		}
		at, err = appendEntry(ctx, t.Store, typeSet, &set)
	case command.Withdraw:
		at, err = appendEntry(ctx, t.Store, typeCancelled, &entry{Key: commandKeys + c.Key})
	default:
		return command.Result{}, fmt.Errorf("schedule: %w for %T", command.ErrUnrouted, e.Command)
	}
	if err != nil {
		return command.Result{}, err
	}
	return command.Result{Stream: stream, Version: at.Version, Position: at.Position}, nil
}

// Task implements projection.Runner. It reports commands that cannot be kept, and a store without leases.
func (t *Timers) Task(g *projection.Group) (projection.Task, error) {
	if t.Name == "" {
		t.Name = "timers"
	}
	if t.Store == nil {
		t.Store = g.Store
	}
	if t.Logger == nil {
		t.Logger = g.Logger
	}
	if t.Logger == nil {
		t.Logger = slog.Default()
	}
	var faults []error
	if t.Store != g.Store {
		faults = append(faults, errors.New("another Store than the Group's"))
	}
	var err error
	if t.commands, err = stored.New(t.Commands); err != nil {
		faults = append(faults, err)
	}
	if len(t.Commands) > 0 && t.Handler == nil {
		faults = append(faults, errors.New("no Handler for the Commands"))
	}
	if _, err := t.Store.Leases(); err != nil {
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return projection.Task{}, fmt.Errorf("schedule: %w", err)
	}
	return projection.Task{
		Name: t.Name,
		Run: func(ctx context.Context) error {
			return newKeeper(t, g).run(ctx)
		},
		// Nobody has to wait for timers where they do not run.
		Load:     t.Store.Head,
		Provides: Provided,
	}, nil
}

// stream is where everything about timers is.
const stream eventstore.StreamName = "$timer"

// Types of the stream's events.
const (
	typeSet       = "$timer.set"       // or replaced
	typeCancelled = "$timer.cancelled" // if it is not due
	typeCarried   = "$timer.carried"   // from Of to here: what is between was cut off
	typeDue       = "$timer.due"       // the command is to be dispatched, whatever comes
	typeDone      = "$timer.done"      // nothing is left to do
)

// An entry is the data of an event of the stream, which names an alarm and, unless it
// sets one, by Of the version that did.
type entry struct {
	Key      string                `json:"key"`
	Of       eventstore.Version    `json:"of,omitempty"`
	At       time.Time             `json:"at,omitzero"`
	Stream   eventstore.StreamName `json:"stream,omitempty"`
	Type     string                `json:"type,omitempty"`
	Command  string                `json:"command,omitempty"`
	Data     rawJSON               `json:"data,omitempty"`
	Metadata map[string]string     `json:"metadata,omitempty"`
	Due      bool                  `json:"due,omitempty"`   // carried when it was due
	SetBy    *cause                `json:"setBy,omitempty"` // carried
	Error    string                `json:"error,omitempty"` // what became of the command, if it failed

	// Sealed is what is kept instead of a command's Data, or instead of Error.
	Sealed rawJSON `json:"sealed,omitempty"`
}

// appendEntry appends to the stream.
func appendEntry(ctx context.Context, s *eventstore.Store, typ string, e *entry) (eventstore.Appended, error) {
	ev, err := e.event(typ)
	if err != nil {
		return eventstore.Appended{}, err
	}
	at, err := s.Append(system.Context(ctx), stream, eventstore.Any, ev)
	if err != nil {
		return at, fmt.Errorf("schedule: %w", err)
	}
	return at, nil
}
