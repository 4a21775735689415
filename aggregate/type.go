package aggregate

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
)

// A Command decides what happens next to an aggregate with state S.
type Command[S any] interface {
	command.Command

	// Execute returns the events that follow from the command, or an error if it
	// is refused. No events and no error means that nothing needs to happen.
	// Execute must not modify state, block, or depend on anything but the command
	// and the state: it may be called again on another state. It is called while
	// other commands to the aggregate wait. A panic is returned to the caller as a
	// *command.PanicError.
	Execute(state S) ([]Event[S], error)
}

// An Event is a fact about an aggregate with state S.
type Event[S any] interface {
	// Apply folds the event into state. It cannot fail: the event happened. It must
	// not keep references into the event that it would later write through, and
	// must depend on nothing but the event and the state.
	Apply(state *S)
}

// Events maps stored names to events of an aggregate, by example.
type Events[S any] map[string]Event[S]

// A Type describes a kind of aggregate. It must not be modified once in use.
//
// The zero value of S is the state of an aggregate without events. If S has
// references, a method Clone() S makes it cheap to take back commands whose append
// failed: it is called before each batch that has events. Without it the state is
// then read from the store again.
type Type[S any] struct {
	// Name is the category of the aggregate's streams: "room" keeps the room
	// "lobby" in the stream "room-lobby". It has no dash.
	Name string

	// Events lists every event the aggregate's commands return, under the name it
	// is stored by.
	Events Events[S]

	// Upcasts rewrites events stored in forms no longer in Events.
	Upcasts []eventstore.Upcast

	// Tags returns the tags with which an event of the aggregate id is stored, so that
	// decisions that span streams find it; see package boundary. Nil gives none. It must
	// depend on nothing but its arguments. Tags that the store cannot take, such as an
	// empty one, fail the command with an eventstore.ErrInvalid, and a panic does with a
	// *command.PanicError. Events that are stored already keep the tags that they have.
	Tags func(id string, e Event[S]) []string

	// SnapshotEvery, if positive, keeps a snapshot of the state that is renewed
	// every so many events. Increase SnapshotSchema whenever S changes shape:
	// snapshots of another schema are passed over. Snapshot says how; nil means JSON.
	SnapshotEvery  int
	SnapshotSchema int
	Snapshot       *SnapshotCodec[S]

	// Cached is how many aggregates to keep in memory; default 1024, negative for
	// none. Those with commands under way are kept on top of that. The least
	// recently commanded goes first.
	Cached int
	// Idle, if positive, is how long an aggregate stays in memory after its last command.
	Idle time.Duration
	// Queue is how many commands may wait for one aggregate; more block their
	// callers. Default 8192.
	Queue int
	// Keys is how many of its latest idempotency keys an aggregate remembers;
	// default 4096. A key beyond that is forgotten, and its command would be
	// executed again. So it must be more than a process manager, or a client that
	// tries again, can have under way for one aggregate. The key of events that an
	// upcast leaves nothing of is forgotten when the aggregate is read back.
	Keys int

	// Logger is told when a snapshot cannot be read or written; default slog.Default().
	Logger *slog.Logger

	plainJSON bool // snapshots are the JSON of S
}

// A SnapshotCodec turns states into bytes and back. Its funcs are called from
// many goroutines.
type SnapshotCodec[S any] struct {
	Encode func(state *S) ([]byte, error)    // must not modify state
	Decode func(data []byte, state *S) error // state is zero; data must not be kept
}

// Defaults of a Type.
const (
	defaultCached = 1024
	defaultQueue  = 8192
	defaultKeys   = 4096
)

// An Opener is a *Type[S] for some S.
type Opener interface {
	// Open returns the handler for the type's commands.
	Open(s *eventstore.Store) (command.Target, error)
}

// Open is New for callers that do not know S.
func (t *Type[S]) Open(s *eventstore.Store) (command.Target, error) {
	r, err := New(s, t)
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Register gives t's events, and what they once were, their names in types. [New] does
// it by itself: it is for programs that read the events and do not run the
// aggregates, and for tests of projections. Its errors are those of New that concern events.
func (t *Type[S]) Register(types *eventstore.Types) error {
	for _, name := range slices.Sorted(maps.Keys(t.Events)) {
		if err := types.Register(name, t.Events[name]); err != nil {
			return fmt.Errorf("aggregate %s: %w", t.Name, err)
		}
	}
	if err := types.Add(t.Upcasts...); err != nil {
		return fmt.Errorf("aggregate %s: %w", t.Name, err)
	}
	return nil
}

// Fold returns state with events applied. It is for tests and for tools; what S
// refers to is changed in place.
func Fold[S any](state S, events ...Event[S]) S {
	for _, e := range events {
		e.Apply(&state)
	}
	return state
}

// check returns why t cannot be used, and t with its defaults filled in.
func (t *Type[S]) check() (*Type[S], error) {
	c := *t
	switch {
	case c.Name == "" || strings.Contains(c.Name, "-"):
		return nil, fmt.Errorf("aggregate %q: %w: want a name without a dash", c.Name, eventstore.ErrInvalid)
	case strings.HasPrefix(c.Name, "$"):
		return nil, fmt.Errorf("aggregate %q: %w: names that start with $ are reserved", c.Name, eventstore.ErrInvalid)
	case len(c.Events) == 0:
		return nil, fmt.Errorf("aggregate %s: %w: no events", c.Name, eventstore.ErrInvalid)
	case c.Queue < 0 || c.Keys < 0:
		return nil, fmt.Errorf("aggregate %s: %w: Queue and Keys cannot be negative", c.Name, eventstore.ErrInvalid)
	case c.Snapshot != nil && (c.Snapshot.Encode == nil || c.Snapshot.Decode == nil):
		return nil, fmt.Errorf("aggregate %s: %w: Snapshot needs both Encode and Decode", c.Name, eventstore.ErrInvalid)
	}
	if err := (eventstore.StreamName(c.Name)).Validate(); err != nil {
		return nil, fmt.Errorf("aggregate %q: %w", c.Name, err)
	}
	if c.SnapshotEvery > 0 && c.Snapshot == nil {
		codec, err := jsonSnapshot[S]()
		if err != nil {
			return nil, fmt.Errorf("aggregate %s: %w", c.Name, err)
		}
		c.Snapshot, c.plainJSON = codec, true
	}
	if c.Cached == 0 {
		c.Cached = defaultCached
	}
	if c.Queue == 0 {
		c.Queue = defaultQueue
	}
	if c.Keys == 0 {
		c.Keys = defaultKeys
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return &c, nil
}
