package processtest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/process"
	"github.com/levada-go/levada/process/processtest"
)

// What happens to guests, and what they are sent.
type (
	Invited struct{ Guest string }
	Replied struct{ Guest string }
	Remind  struct{ Guest string }
)

func (c Remind) AggregateID() string { return c.Guest }

// An Invitation is reminded of until there is a reply.
type Invitation struct{}

func (*Invitation) invited(e Invited) []command.Command {
	return []command.Command{process.After(48*time.Hour, Remind(e))}
}

func (*Invitation) replied(Replied) []command.Command { return nil }

var invitations = &process.Type[Invitation]{
	Name: "invitation",
	Routes: []process.Route[Invitation]{
		process.Start(func(e Invited) string { return e.Guest }, (*Invitation).invited),
		process.End(func(e Replied) string { return e.Guest }, (*Invitation).replied),
	},
	Commands: map[string]command.Command{"guest.remind": Remind{}},
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
	processtest.Given(t, invitations, Invited{"ann"}, Invited{"bob"}).
		After(24 * time.Hour).ThenNothing().
		When(Replied{"bob"}).ThenEnded("bob").
		After(24 * time.Hour).Then(Remind{"ann"})
	// Output:
}
