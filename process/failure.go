package process

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
)

// A Failure is something that an instance cannot get over by itself: a command that
// was refused or could not be executed, or an event that could not be handled.
type Failure struct {
	Process, Instance string
	// Event is what the instance handles; for a timer, its coming due.
	Event *eventstore.Recorded
	// Command is what failed, and Pending is what was still to be sent after it. Command is nil if
	// it was the event: its route panicked or was Strict, or it cannot be decoded.
	Command command.Command
	Pending []command.Command
	// State is an S: as it will be when all commands have been dealt with. It must not be modified.
	State any
	// Err is a *Refusal if Refused, else the error of dispatching, ErrStarted, ErrNotStarted,
	// Event.Err, or a *PanicError. It Is eventstore.ErrErased if the command would say something about somebody who was erased.
	Err     error
	Refused bool // the domain said no: the command was decided on and refused, or the route is Strict
	Attempt int  // at this command, 1 for the first
}

// Errors of Strict routes.
var (
	ErrStarted    = errors.New("process: the instance has begun already")
	ErrNotStarted = errors.New("process: the instance has not begun")
)

// An Action says how to go on after a Failure. The zero Action is Default's.
type Action struct {
	kind  actionKind
	after time.Duration
	cmds  []command.Command
}

type actionKind uint8

const (
	byDefault actionKind = iota
	retry
	skip
	discard
	instead
	park
	stop
)

// maxAttempts is when Default gives up: after 7 minutes and 22 seconds.
const maxAttempts = 20

// Default is what happens without an OnError: what was refused is parked at once; a command that would say something about
// somebody who was erased is left out; all else is tried again, with growing pauses, twenty times in seven minutes, and then parked.
func Default(f Failure) Action {
	if f.Command != nil && errors.Is(f.Err, eventstore.ErrErased) {
		return Skip()
	}
	if f.Refused || f.Attempt >= maxAttempts {
		return Park()
	}
	return Retry(f)
}

const (
	firstPause = 10 * time.Millisecond
	maxPause   = time.Minute
)

// Retry tries again after a pause that begins at 10 milliseconds and doubles with every
// attempt up to a minute. Commands that were executed are not executed again.
func Retry(f Failure) Action { return RetryAfter(pause(f.Attempt)) }

// RetryAfter tries again after d.
func RetryAfter(d time.Duration) Action { return Action{kind: retry, after: d} }

// Skip leaves out the command and goes on with the next. Without a command it leaves out the event.
func Skip() Action { return Action{kind: skip} }

// Discard leaves out the command and all that were to be sent after it. Without a command it leaves
// out the event.
func Discard() Action { return Action{kind: discard} }

// Instead leaves out the command and all that were to be sent after it, see Failure.Pending, and sends
// cmds. Without a command it leaves out the event and sends cmds.
func Instead(cmds ...command.Command) Action { return Action{kind: instead, cmds: cmds} }

// Park leaves the instance as it was before the event, stuck: later events wait until
// somebody decides, with [RetryStuck], [SkipStuck] or [CancelStuck]. Commands that were executed
// remain so. Other instances go on.
func Park() Action { return Action{kind: park} }

// Stop ends the process on this node, in front of the event. Its Group's Status says so, and Resume starts
// it again with the event.
func Stop() Action { return Action{kind: stop} }

// pause is how long to wait after the given number of failed attempts.
func pause(attempts int) time.Duration {
	return min(maxPause, firstPause<<min(max(attempts-1, 0), 16))
}

// A Refusal is what is kept of the error of a command that was refused. errors.Is finds in it every
// error without data of its own, as made by errors.New, that was in the original. If it was erased, with somebody whom the command
// was about, errors.Is finds eventstore.ErrErased and nothing else.
type Refusal struct {
	Text   string
	causes []cause
}

// A cause is an error in the tree of one: its type and text.
type cause struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

func (e *Refusal) Error() string { return e.Text }

// Is reports whether target has the type and text of an error that the original wrapped, or was.
func (e *Refusal) Is(target error) bool {
	want := causeOf(target)
	for _, c := range e.causes {
		if c == want {
			return true
		}
	}
	return false
}

func causeOf(err error) cause { return cause{fmt.Sprintf("%T", err), err.Error()} }

// maxCauses bounds what is kept of an error.
const maxCauses = 32

func refusal(err error) *Refusal {
	var r *Refusal
	if errors.As(err, &r) {
		return r
	}
	r = &Refusal{Text: err.Error()}
	var walk func(error)
	walk = func(err error) {
		if err == nil || len(r.causes) == maxCauses {
			return
		}
		r.causes = append(r.causes, causeOf(err))
		switch x := err.(type) {
		case interface{ Unwrap() error }:
			walk(x.Unwrap())
		case interface{ Unwrap() []error }:
			for _, err := range x.Unwrap() {
				walk(err)
			}
		}
	}
	walk(err)
	return r
}

// A PanicError is a panic of a route.
type PanicError struct {
	Value any
	Stack []byte // as debug.Stack gives it
}

func (e *PanicError) Error() string { return fmt.Sprintf("process: panic: %v", e.Value) }

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
