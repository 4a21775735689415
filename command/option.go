package command

import (
	"fmt"

	"github.com/levada-go/levada/eventstore"
)

// An Option adjusts one dispatch. Later options win.
type Option func(*Envelope)

// Wait makes Dispatch return only when the named projections and processes, or
// all of them if none is named, have handled the command's events: read your
// writes. It takes as long as ctx allows; see [ErrNotAwaited]. A command without
// events waits for nothing. It needs the middleware [Awaiting], which refuses names that
// there are not.
func Wait(names ...string) Option { return func(e *Envelope) { e.Await = &Await{names} } }

// Once makes the command idempotent: a later command to the same aggregate with
// the same key changes nothing, and its Result says Repeated and where the events
// of the first ended. A command that was refused, or had no events, has not used
// its key. An aggregate remembers a bounded number of its latest keys; beyond
// that, a key is forgotten. Keys have 1 to 255 bytes of UTF-8.
func Once(key string) Option {
	return func(e *Envelope) {
		e.Key = key
		if key == "" {
			e.refused = fmt.Errorf("command: %w: %T: Once with an empty key", eventstore.ErrInvalid, e.Command)
		}
	}
}

// Meta adds metadata to the command's events. Keys that start with "$" are
// reserved.
func Meta(key, value string) Option {
	return func(e *Envelope) {
		if e.Metadata == nil {
			e.Metadata = map[string]string{}
		}
		e.Metadata[key] = value
	}
}

// At fails the command with an *eventstore.ConflictError unless its stream is as
// expected, for callers that decided on what they last read. The command is not
// tried again at another version.
func At(x eventstore.Expected) Option { return func(e *Envelope) { e.Expected = x } }
