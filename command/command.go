package command

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"unicode/utf8"

	"github.com/levada-go/levada/eventstore"
)

// A Command is a request to change one aggregate.
type Command interface {
	// AggregateID names the aggregate, within its kind. It must always return the
	// same name.
	AggregateID() string
}

// An Envelope is a command on its way. Middleware that changes one that it did
// not make passes on a copy.
type Envelope struct {
	ID          eventstore.ID // the cause of the command's events
	Command     Command
	Correlation eventstore.ID       // the conversation; copied to the events
	Causation   eventstore.ID       // the event that caused the command, if any
	Metadata    map[string]string   // copied to the events
	Key         string              // idempotency key; see Once
	Expected    eventstore.Expected // of the aggregate's stream; see At
	Await       *Await              // nil returns as soon as the events are stored

	// placed, if not nil, is closed once the command's place in the order of its
	// aggregate is settled; see Chain.
	placed *placing
	// refused is why an option cannot be honoured.
	refused error
}

// An Await names the projections and processes to wait for; no names mean all.
type Await struct{ Names []string }

// A Result is what became of a command.
type Result struct {
	Stream  eventstore.StreamName
	Version eventstore.Version // of the stream, after the command
	// Position is at or after that of the command's last event, and so what to
	// wait for; 0 if there was no event.
	Position eventstore.Position
	Events   []any // the domain events, in order
	Repeated bool  // the command's key had been used: nothing was done now
	// Refused says that the error is the domain's: what Execute returned, decided on
	// the latest state. All other errors are those of getting there, and of storing.
	Refused bool
}

// A Handler handles commands. It must be safe for concurrent use.
type Handler interface {
	HandleCommand(ctx context.Context, e *Envelope) (Result, error)
}

// A HandlerFunc is a func used as a Handler.
type HandlerFunc func(ctx context.Context, e *Envelope) (Result, error)

// HandleCommand calls f.
func (f HandlerFunc) HandleCommand(ctx context.Context, e *Envelope) (Result, error) {
	return f(ctx, e)
}

// A Target is a Handler that knows which commands are its own.
type Target interface {
	Handler
	// Handles reports whether c is one of the target's commands. The answer must
	// depend on c's type alone.
	Handles(c Command) bool
}

// Errors of dispatching.
var (
	// ErrUnrouted reports a command that nothing handles.
	ErrUnrouted = errors.New("command: no handler")
	// ErrOutcomeUnknown reports a command of which nobody can say yet whether its
	// events were stored. It is eventstore.ErrOutcomeUnknown.
	ErrOutcomeUnknown = eventstore.ErrOutcomeUnknown
	// ErrNotAwaited reports that the command's events are stored, and its Result is
	// filled in, but not everything that Wait named has handled them.
	ErrNotAwaited = errors.New("command: stored, but not awaited")
	// ErrNoWaiter reports a command with Wait that reached an aggregate without
	// having passed Awaiting. It was not executed.
	ErrNoWaiter = errors.New("command: nothing honours Wait")
)

// A PanicError reports a panic of the code that handles a command.
type PanicError struct {
	Value any    // what it panicked with
	Stack []byte // where, as debug.Stack formats it
}

// NewPanicError returns the error for a recovered value, with the stack of the
// goroutine that calls it. It is for handlers.
func NewPanicError(value any) *PanicError { return &PanicError{value, debug.Stack()} }

func (e *PanicError) Error() string { return fmt.Sprintf("command: panic: %v", e.Value) }

// Unwrap returns the value of the panic if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Dispatch hands cmd to h and returns what becomes of it.
//
// A command dispatched while handling an event, with the handler's context,
// continues that event's conversation.
//
// A command that cannot be carried is refused with an eventstore.ErrInvalid before
// h sees it: a nil cmd, a key of more than 255 bytes, an empty one, or metadata that
// is reserved or not UTF-8. All other errors are h's.
func Dispatch(ctx context.Context, h Handler, cmd Command, opts ...Option) (Result, error) {
	e, err := New(ctx, cmd, opts...)
	if err != nil {
		return Result{}, err
	}
	return h.HandleCommand(ctx, e)
}

// New returns the Envelope in which Dispatch and Submit would send cmd, or the
// error with which they would refuse it. It is for handlers that take commands
// directly.
func New(ctx context.Context, cmd Command, opts ...Option) (*Envelope, error) {
	id := eventstore.NewID()
	e := &Envelope{ID: id, Command: cmd, Correlation: id}
	if r := eventstore.FromContext(ctx); r != nil {
		e.Correlation, e.Causation = r.Correlation, r.ID
		if r.Correlation == (eventstore.ID{}) {
			e.Correlation = r.ID // which began the conversation
		}
	}
	for _, o := range opts {
		o(e)
	}
	if parent, state := eventstore.TraceOf(ctx); parent != "" && e.Metadata[eventstore.TraceParent] == "" {
		Meta(eventstore.TraceParent, parent)(e)
		if delete(e.Metadata, eventstore.TraceState); state != "" {
			e.Metadata[eventstore.TraceState] = state
		}
	}
	if err := e.Validate(); err != nil {
		return nil, err
	}
	return e, nil
}

const maxKey = 255 // bytes, like the names of streams and types

// Validate returns an eventstore.ErrInvalid that says why e cannot be carried.
// Dispatch and Submit call it; so do aggregates, since middleware may have changed e.
func (e *Envelope) Validate() error {
	switch {
	case e.Command == nil:
		return fmt.Errorf("command: %w: nil command", eventstore.ErrInvalid)
	case e.refused != nil:
		return e.refused
	case len(e.Key) > maxKey:
		return fmt.Errorf("command: %w: %T: key %.40q… of %d bytes: more than %d", eventstore.ErrInvalid, e.Command, e.Key, len(e.Key), maxKey)
	case !utf8.ValidString(e.Key):
		return fmt.Errorf("command: %w: %T: key %.40q is not valid UTF-8", eventstore.ErrInvalid, e.Command, e.Key)
	}
	for k, v := range e.Metadata {
		switch {
		case k == "":
			return fmt.Errorf("command: %w: %T: empty metadata key", eventstore.ErrInvalid, e.Command)
		case k[0] == '$':
			return fmt.Errorf("command: %w: %T: metadata %.40q: keys that start with $ are reserved", eventstore.ErrInvalid, e.Command, k)
		case !utf8.ValidString(k) || !utf8.ValidString(v):
			return fmt.Errorf("command: %w: %T: metadata %.40q is not valid UTF-8", eventstore.ErrInvalid, e.Command, k)
		}
	}
	return nil
}
