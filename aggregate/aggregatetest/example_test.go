package aggregatetest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/aggregate/aggregatetest"
)

// A Door is open or not.
type Door struct{ Open bool }

// What happens to a door.
type (
	Opened struct{}
	Closed struct{}
)

func (Opened) Apply(d *Door) { d.Open = true }
func (Closed) Apply(d *Door) { d.Open = false }

// Doors is the type under test.
var Doors = &aggregate.Type[Door]{
	Name:   "door",
	Events: aggregate.Events[Door]{"door.opened": Opened{}, "door.closed": Closed{}},
}

// ErrShut reports a door that was shut before.
var ErrShut = errors.New("it is shut")

// Shut shuts a door.
type Shut struct{ Door string }

func (c Shut) AggregateID() string { return c.Door }

func (c Shut) Execute(d Door) ([]aggregate.Event[Door], error) {
	if !d.Open {
		return nil, ErrShut
	}
	return []aggregate.Event[Door]{Closed{}}, nil
}

// A report is what stands for the *testing.T of a test here: it prints what fails.
type report struct{ testing.TB }

func (report) Helper()                           {}
func (report) Cleanup(func())                    {}
func (report) Fatalf(format string, args ...any) { fmt.Printf(format, args...) }
func (report) Fatal(args ...any)                 { fmt.Println(args...) }
func (report) Context() context.Context          { return context.Background() }

var t report

// In a test, t is the argument.
func ExampleGiven() {
	aggregatetest.Given(t, Doors, Opened{}).
		When(Shut{"front"}).Then(Closed{}).
		When(Shut{"front"}).ThenError(ErrShut)
	// Output:
}
