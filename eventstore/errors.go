package eventstore

import (
	"errors"
	"fmt"

	"github.com/levada-go/levada/eventstore/driver"
)

// Errors of appending.
var (
	ErrConflict       = errors.New("eventstore: conflict")           // *ConflictError has the details
	ErrDuplicate      = errors.New("eventstore: duplicate event id") // an ID twice in one append, or part of the append is stored already
	ErrNoEvents       = errors.New("eventstore: no events")          // an append of nothing
	ErrTooLarge       = driver.ErrTooLarge                           // over a limit of the store; nothing was written
	ErrInvalid        = errors.New("eventstore: invalid")            // a name, id, tag or metadata key that cannot be stored
	ErrUnregistered   = errors.New("eventstore: unregistered type")  // Data's type has no stored name
	ErrCodec          = errors.New("eventstore: codec")              // data that cannot be encoded or decoded, or does not survive it
	ErrOutcomeUnknown = driver.ErrOutcomeUnknown                     // the append may or may not have happened
	ErrStreamDeleted  = driver.ErrStreamDeleted                      // the stream was purged
	ErrReadOnly       = driver.ErrReadOnly                           // the store was opened for reading
)

// Errors of reading and subscribing.
var (
	ErrClosed      = driver.ErrClosed                            // the store was closed
	ErrLagged      = errors.New("eventstore: subscriber lagged") // a subscription with OnLag Fail was too slow
	ErrErased      = driver.ErrErased                            // a Sealer can never open this again
	ErrMoved       = driver.ErrMoved                             // a checkpoint was moved by another process
	ErrUnsupported = errors.ErrUnsupported                       // the driver lacks an optional capability
)

// A ConflictError reports that a stream was not where an append expected it.
// Nothing was written. errors.Is(err, ErrConflict) is true of it.
type ConflictError struct {
	Stream   StreamName
	Expected Expected
	Actual   Version // 0 if there is no such stream
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("eventstore: conflict: %s: expected %s, is at version %d", e.Stream, e.Expected, e.Actual)
}

// Is makes errors.Is(err, ErrConflict) true.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }
