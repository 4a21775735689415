package process

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
)

// The stream of an instance has one event for each event that it handled, and one more wherever something
// became of a command that nobody else remembers and that was acted upon. The last one is enough to go on.
const (
	typeHandled   = "$process.handled"
	typeEnded     = "$process.ended"     // it was handled, and was the last; or the instance had not begun
	typeRefused   = "$process.refused"   // of the commands of an event that is being handled
	typeParked    = "$process.parked"    // it is stuck
	typeWaiting   = "$process.waiting"   // an event came while it was stuck
	typeSkipped   = "$process.skipped"   // by a person: the event that it was stuck at is left out
	typeCancelled = "$process.cancelled" // by a person: it is ended
	typeTrimmed   = "$process.trimmed"   // it ended long ago: what was before is removed
)

const contentType = "application/json"

// Names that belong to a process.
func category(name string) string { return "$process." + name }
func dueType(name string) string  { return "$process." + name + ".due" }   // a timer
func askType(name string) string  { return "$process." + name + ".asked" } // by a person
func consumer(name string) string { return "process." + name }
func inbox(name string) eventstore.StreamName { // where events are that only the process reads
	return eventstore.Stream("$process", name)
}

// A Status says how an instance is doing.
type Status string

const (
	Running Status = "running"
	Stuck   Status = "stuck" // it needs a decision
	Ended   Status = "ended"
)

// A record is the data of an event in an instance's stream: what happened and how things stand after it.
type record struct {
	Event    *Ref                `json:"event,omitempty"`
	Position eventstore.Position `json:"position"` // what comes at or before it has come already
	Status   Status              `json:"status"`
	Begun    bool                `json:"begun,omitempty"`
	State    json.RawMessage     `json:"state,omitempty"`
	Sent     []Sent              `json:"sent,omitempty"`
	Timers   []timer             `json:"timers,omitempty"`
	Error    string              `json:"error,omitempty"`  // why it is stuck
	Again    time.Time           `json:"again,omitzero"`   // when it will be tried again by itself
	Parked   eventstore.Version  `json:"parked,omitempty"` // waiting: where the instance got stuck
	Ended    time.Time           `json:"ended,omitzero"`   // trimmed: when that was
	Left     eventstore.Version  `json:"left,omitempty"`   // what waited after this version is still to be handled; 0 if nothing does

	// Sealed has what is not kept in the clear, by piece.
	Sealed map[string]json.RawMessage `json:"sealed,omitempty"`
	erased bool                       // the state was
}

// A Ref names an event that came in.
type Ref struct {
	ID       eventstore.ID         `json:"id"`
	Type     string                `json:"type"`
	Stream   eventstore.StreamName `json:"stream"`
	Version  eventstore.Version    `json:"version"`
	Position eventstore.Position   `json:"position"`
	Time     time.Time             `json:"time"`

	Timer       string        `json:"timer,omitempty"` // it was a timer of the instance
	Correlation eventstore.ID `json:"correlation,omitzero"`
}

func refTo(r *eventstore.Recorded) Ref {
	return Ref{ID: r.ID, Type: r.Type, Stream: r.Stream, Version: r.Version, Position: r.Position, Time: r.Time, Correlation: r.Correlation}
}

// recorded returns what a conversation needs of the event.
func (f *Ref) recorded() *eventstore.Recorded {
	return &eventstore.Recorded{
		Event:  eventstore.Event{ID: f.ID, Type: f.Type, Correlation: f.Correlation},
		Stream: f.Stream, Version: f.Version, Position: f.Position, Time: f.Time,
	}
}

// An Outcome is what became of a command.
type Outcome string

const (
	Done      Outcome = "done"
	Refuse    Outcome = "refused"   // and handled by a Refused route
	Skipped   Outcome = "skipped"   // by OnError
	Discarded Outcome = "discarded" // by OnError, or because one before it was refused
	Replaced  Outcome = "replaced"  // by OnError, with other commands
)

// A Sent is a command that an instance returned, and what became of it.
type Sent struct {
	// Path says where the command comes from: the part of the event, the place among the commands that its
	// route returned, and, for what was sent instead of it, the place among those, as "0.1.0".
	Path      string          `json:"path"`
	Type      string          `json:"type"` // in Go
	Aggregate string          `json:"aggregate"`
	Command   json.RawMessage `json:"command,omitempty"` // nil if it is not JSON, or was erased
	Outcome   Outcome         `json:"outcome"`
	Erased    bool            `json:"erased,omitempty"` // the command and the error were

	Stream   eventstore.StreamName `json:"stream,omitempty"` // of the aggregate; if done
	Version  eventstore.Version    `json:"version,omitempty"`
	Position eventstore.Position   `json:"position,omitempty"`

	Error   string  `json:"error,omitempty"`
	Causes  []cause `json:"causes,omitempty"`
	Refused bool    `json:"refused,omitempty"`
	Attempt int     `json:"attempt,omitempty"`

	fresh  bool     // it is not in a record yet
	owners []string // whose data the command is by itself
}

// noted returns what is kept of a command.
func (st *step[S]) noted(path string, c command.Command, o Outcome) (s Sent) {
	s = Sent{Path: path, Type: reflect.TypeOf(c).String(), Outcome: o, fresh: true}
	defer func() { _ = recover() }() // what the command's methods panic with is for who executes it
	if st.owners != nil {
		s.owners = st.owners(s.Type, c)
	}
	s.Aggregate = c.AggregateID()
	if data, err := json.Marshal(c); err == nil {
		s.Command = data
	}
	return s
}

// A timer is one that an instance has set and that has not come due.
type timer struct {
	ID      string          `json:"id"`
	At      time.Time       `json:"at"`
	Command string          `json:"command"` // its stored name
	Data    json.RawMessage `json:"data,omitempty"`

	erased bool
	fresh  bool     // it is not in a record yet
	owners []string // whose data the command is by itself
}

func (r *record) event(typ string) (eventstore.Event, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return eventstore.Event{}, fmt.Errorf("%w: %w", eventstore.ErrCodec, err)
	}
	return eventstore.Event{ID: eventstore.NewID(), Type: typ, Raw: data, ContentType: contentType}, nil
}

func parse(r *eventstore.Recorded) (record, error) {
	var rec record
	if err := json.Unmarshal(r.Raw, &rec); err != nil {
		return rec, fmt.Errorf("process: %s version %d, a %s: %w: %w", r.Stream, r.Version, r.Type, eventstore.ErrCodec, err)
	}
	return rec, nil
}

// maxKey is how long the keys of commands and timers may be, in bytes.
const maxKey = 255

// key joins parts to a key, by hash where it would be too long.
func key(parts ...string) string {
	k := "process"
	for _, p := range parts {
		k += "/" + p
	}
	if len(k) > maxKey {
		sum := sha256.Sum256([]byte(k))
		k = "process/" + parts[0] + "/" + hex.EncodeToString(sum[:])
	}
	return k
}

// copied returns what the state is after it was stored.
func copied[S any](state S) (c S, err error) {
	data, err := json.Marshal(&state)
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err != nil {
		return c, fmt.Errorf("process: the state does not survive being stored: %w", err)
	}
	return c, nil
}
