package processtest_test

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/examples/bank/bank"
	"github.com/levada-go/levada/process"
	"github.com/levada-go/levada/process/processtest"
)

var (
	sent  = bank.Sent{Transfer: "1", From: "ann", To: "bob", Amount: 7}
	asked = bank.Sent{Transfer: "1", From: "ann", To: "bob", Amount: 7, Ask: true}
)

func TestATransferIsSeenThrough(t *testing.T) {
	t.Parallel()
	processtest.Given(t, bank.Transferrals).
		When(sent).Then(hold("ann", "1", 7)).
		ThenState("1", func(s bank.Transferring) { require.Equal(t, "bob", s.To) }).
		When(held("1", 7)).Then(receive("bob", "1", 7)).
		When(received("1", 7)).Then(capture("ann", "1")).
		When(captured("1")).Then(complete("1")).
		When(completed("1")).ThenNothing().ThenEnded("1").
		When(held("1", 7)).ThenNothing()
}

func TestRefusalsAreCompensated(t *testing.T) {
	t.Parallel()
	processtest.Given(t, bank.Transferrals).
		When(sent).Refused(hold("ann", "1", 7), bank.ErrFunds).Then(fail("1", bank.ErrFunds.Error()))
	processtest.Given(t, bank.Transferrals, sent).
		When(held("1", 7)).Then(receive("bob", "1", 7)).
		Refused(receive("bob", "1", 7), bank.ErrNoAccount).
		Then(release("ann", "1"), fail("1", bank.ErrNoAccount.Error())).
		Refused(fail("1", bank.ErrNoAccount.Error()), bank.ErrOver).ThenStuck(bank.ErrOver)
}

func TestTimersFire(t *testing.T) {
	t.Parallel()
	processtest.Given(t, bank.Transferrals, asked).
		When(held("1", 7)).Then(process.After(bank.TimeToAccept, expire("1"))).
		After(bank.TimeToAccept-1).ThenNothing().
		After(1).Then(expire("1")).
		Refused(expire("1"), bank.ErrAccepted).ThenNothing().
		After(bank.TimeToAccept).ThenNothing()
	processtest.Given(t, bank.Transferrals, asked, held("1", 7)).
		When(accepted("1")).Then(receive("bob", "1", 7), process.Cancel(expire("1"))).
		After(2 * bank.TimeToAccept).ThenNothing()
	processtest.Given(t, bank.Transferrals, asked, held("1", 7)).
		When(failed("1", "?")).ThenNothing().
		After(2 * bank.TimeToAccept).ThenNothing()
}

// The bank's commands and events.
func hold(account, transfer string, amount int64) bank.Hold {
	return bank.Hold{Account: account, Transfer: transfer, Amount: amount}
}
func held(transfer string, amount int64) bank.Held {
	return bank.Held{Transfer: transfer, Amount: amount}
}
func receive(account, transfer string, amount int64) bank.Receive {
	return bank.Receive{Account: account, Transfer: transfer, Amount: amount}
}
func received(transfer string, amount int64) bank.Received {
	return bank.Received{Transfer: transfer, Amount: amount}
}
func capture(account, transfer string) bank.Capture {
	return bank.Capture{Account: account, Transfer: transfer}
}
func captured(transfer string) bank.Captured   { return bank.Captured{Transfer: transfer} }
func complete(transfer string) bank.Complete   { return bank.Complete{Transfer: transfer} }
func completed(transfer string) bank.Completed { return bank.Completed{Transfer: transfer} }
func release(account, transfer string) bank.Release {
	return bank.Release{Account: account, Transfer: transfer}
}
func fail(transfer, reason string) bank.Fail { return bank.Fail{Transfer: transfer, Reason: reason} }
func failed(transfer, reason string) bank.Failed {
	return bank.Failed{Transfer: transfer, Reason: reason}
}
func expire(transfer string) bank.Expire     { return bank.Expire{Transfer: transfer} }
func accepted(transfer string) bank.Accepted { return bank.Accepted{Transfer: transfer} }

// A failing is a testing.TB that keeps what it was failed with.
type failing struct {
	testing.TB
	clean  []func()
	failed string
}

func (f *failing) Helper()          {}
func (f *failing) Failed() bool     { return f.failed != "" }
func (f *failing) Cleanup(c func()) { f.clean = append(f.clean, c) }
func (f *failing) Fatalf(s string, args ...any) {
	f.failed = fmt.Sprintf(s, args...)
	runtime.Goexit()
}

func TestScenariosFail(t *testing.T) {
	t.Parallel()
	n := 0
	random := &process.Type[struct{}]{Name: "random", Routes: []process.Route[struct{}]{
		process.Start(func(e bank.Sent) string { return e.Transfer }, func(*struct{}, bank.Sent) []command.Command {
			n++
			return []command.Command{fail("1", fmt.Sprint(n))}
		}),
	}}
	tests := []struct {
		name string
		run  func(tb testing.TB)
		want string
	}{
		{"a type that cannot run", func(tb testing.TB) { processtest.Given(tb, &process.Type[struct{}]{}) }, "given: process"},
		{"an event without a route", func(tb testing.TB) { processtest.Given(tb, bank.Transferrals, 7) }, "no route for int"},
		{"other commands", func(tb testing.TB) {
			processtest.Given(tb, bank.Transferrals).When(sent).Then(hold("ann", "1", 8))
		}, "other commands than expected"},
		{"commands where none were expected", func(tb testing.TB) { processtest.Given(tb, bank.Transferrals).When(sent).ThenNothing() }, "none were expected"},
		{"nothing happened", func(tb testing.TB) { processtest.Given(tb, bank.Transferrals).ThenNothing() }, "call When first"},
		{"no commands to expect", func(tb testing.TB) { processtest.Given(tb, bank.Transferrals).When(sent).Then() }, "ThenNothing"},
		{"a command that was not sent", func(tb testing.TB) {
			processtest.Given(tb, bank.Transferrals).When(sent).Refused(fail("1", ""), bank.ErrOver)
		}, "was not sent"},
		{"a nil refusal", func(tb testing.TB) {
			processtest.Given(tb, bank.Transferrals).When(sent).Refused(hold("ann", "1", 7), nil)
		}, "nil error"},
		{"stuck, and nobody looks", func(tb testing.TB) {
			processtest.Given(tb, bank.Transferrals, sent).When(captured("1")).Refused(complete("1"), bank.ErrOver)
		}, "ThenStuck says so"},
		{"stuck with another error", func(tb testing.TB) {
			processtest.Given(tb, bank.Transferrals, sent).When(captured("1")).Refused(complete("1"), bank.ErrOver).ThenStuck(bank.ErrFunds)
		}, "not with"},
		{"not stuck", func(tb testing.TB) {
			processtest.Given(tb, bank.Transferrals).When(sent).ThenStuck(errors.New("?"))
		}, "not stuck"},
		{"not ended", func(tb testing.TB) { processtest.Given(tb, bank.Transferrals).When(sent).ThenEnded("1") }, "has not ended"},
		{"not begun", func(tb testing.TB) {
			processtest.Given(tb, bank.Transferrals).ThenState("1", func(bank.Transferring) {})
		}, "has not begun"},
		{"not deterministic", func(tb testing.TB) { processtest.Given(tb, random).When(sent) }, "not deterministic"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := &failing{TB: t}
			run := func(fn func()) {
				done := make(chan struct{})
				go func() {
					defer close(done)
					fn()
				}()
				<-done
			}
			run(func() { tt.run(f) })
			for _, c := range f.clean {
				run(c)
			}
			require.Contains(t, f.failed, tt.want)
		})
	}
}

func TestTimePassesFromTheEvent(t *testing.T) {
	t.Parallel()
	typ := &process.Type[struct{}]{
		Name:     "reminder",
		Commands: map[string]command.Command{"fail": bank.Fail{}},
		Routes: []process.Route[struct{}]{
			process.Start(func(e bank.Sent) string { return e.Transfer }, func(_ *struct{}, e bank.Sent) []command.Command {
				return []command.Command{process.After(time.Hour, fail("1", "b")), process.After(time.Minute, fail("1", "a")), process.At(processtest.Start, fail("1", "now"))}
			}),
		},
	}
	processtest.Given(t, typ, sent).
		After(0).Then(fail("1", "now")).
		After(time.Hour).Then(fail("1", "a"), fail("1", "b"))
}
