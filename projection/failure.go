package projection

import (
	"fmt"
	"runtime/debug"
	"time"

	"github.com/levada-go/levada/eventstore"
)

// A Failure is an event that could not be handled.
type Failure struct {
	Projection string
	Event      *eventstore.Recorded
	// Err is the handler's error, a *PanicError, Event.Err if the event could not
	// be decoded, or the target's error if it repeatedly refused to commit this event alone.
	Err     error
	Attempt int // at this event; 1 for the first
}

// An Action says how to go on after a Failure. The zero Action retries as Retry does.
type Action struct {
	kind  actionKind
	after time.Duration
}

type actionKind uint8

const (
	retry actionKind = iota
	retryAfter
	skip
	stop
	park
)

// maxPause bounds the time between two attempts that Retry makes.
const maxPause = time.Minute

// Retry handles the event again, for ever, after a pause that begins at 10
// milliseconds and doubles with every attempt up to a minute. It is the
// default: a projection that lags is better than one that lies.
func Retry(f Failure) Action { return RetryAfter(pause(f.Attempt)) }

// RetryAfter handles the event again after d.
func RetryAfter(d time.Duration) Action { return Action{retryAfter, d} }

// Skip leaves the event out, with a log record. Nothing that its handler wrote
// remains. The others of its batch are handled in one transaction.
func Skip() Action { return Action{kind: skip} }

// Stop ends the projection, and no other, in front of the event. Group.Status
// says so, Group.Wait returns a *StoppedError, and Group.Resume starts again with the event.
func Stop() Action { return Action{kind: stop} }

// Park leaves out the event and those that follow it with the same key, see
// Projection.Key, and goes on with all others. They are kept as dead letters until
// Group.Retry has handled them, in order, or Group.Discard gives them up; nothing is
// lost or counted twice, whatever fails meanwhile. Where 1,000 keys are parked already,
// the event is retried instead: when everything fails, it is not the events' fault. So
// is one at a position of 2^48 or more.
func Park() Action { return Action{kind: park} }

// ParkAfter returns an OnError that retries an event as Retry does until it has failed
// the given number of times, and then parks it.
func ParkAfter(attempts int) func(Failure) Action {
	return func(f Failure) Action {
		if f.Attempt < attempts {
			return Retry(f)
		}
		return Park()
	}
}

func (a Action) pause(attempt int) time.Duration {
	if a.kind == retry {
		return pause(attempt)
	}
	return a.after
}

// pause is how long to wait after the given number of failed attempts.
func pause(attempts int) time.Duration {
	return min(maxPause, 10*time.Millisecond<<min(max(attempts-1, 0), 16))
}

// A PanicError is a panic of a handler, or of a target. Logs get its stack too.
type PanicError struct {
	Value any
	Stack []byte // as debug.Stack gives it
}

func (e *PanicError) Error() string { return fmt.Sprintf("projection: panic: %v", e.Value) }

// Unwrap returns the panic's value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// recovered, deferred, turns a panic into an error.
func recovered(err *error) {
	if v := recover(); v != nil {
		*err = &PanicError{v, debug.Stack()}
	}
}
