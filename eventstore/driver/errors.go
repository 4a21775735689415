package driver

import (
	"errors"
	"fmt"
)

// Errors with a meaning to the portable store, found with errors.Is.
var (
	// ErrClosed reports a store that was closed.
	ErrClosed = errors.New("eventstore: closed")
	// ErrOutcomeUnknown reports an append of which nobody can say whether it
	// was written: the commit itself failed, or its answer was lost.
	ErrOutcomeUnknown = errors.New("eventstore: outcome unknown")
	// ErrTooLarge reports an append over one of the Limits. Nothing was written.
	ErrTooLarge = errors.New("eventstore: too large")
	// ErrStreamDeleted reports a stream that was purged: it can never be read
	// or appended to again.
	ErrStreamDeleted = errors.New("eventstore: stream deleted")
	// ErrReadOnly reports a write to a store that was opened for reading.
	ErrReadOnly = errors.New("eventstore: read only")
	// ErrMoved reports a checkpoint that is not where the caller thought: another
	// process has moved it. Nothing was written.
	ErrMoved = errors.New("eventstore: checkpoint moved by another process")
	// ErrErased reports data that can never be read again because its key was
	// destroyed.
	ErrErased = errors.New("eventstore: erased")
)

// A ConflictError reports that the expectation of an append did not hold.
// Nothing was written.
type ConflictError struct {
	// Actual is the version of the stream, 0 if there is none; from AppendIf it
	// is the position of the first event that stood in the way.
	Actual uint64
	// Stream is the one that was not as expected, from AppendAtomic; it is empty
	// where an append has one stream only.
	Stream string
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("eventstore: conflict: at %d", e.Actual)
}
