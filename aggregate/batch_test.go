package aggregate_test

import (
	"context"
	"errors"
	"maps"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/stretchr/testify/require"
)

// A ledger is an account with references; a cloning one says how to copy itself.
type ledger struct{ Balances map[string]int }

type booked struct{ Amount int }

func (e booked) Apply(l *ledger) {
	if l.Balances == nil {
		l.Balances = map[string]int{}
	}
	l.Balances["x"] += e.Amount
}

type book struct {
	ID     string
	Amount int
}

func (c book) AggregateID() string { return c.ID }

func (c book) Execute(l ledger) ([]aggregate.Event[ledger], error) {
	if l.Balances["x"]+c.Amount < 0 {
		return nil, errPoor
	}
	return []aggregate.Event[ledger]{booked{c.Amount}}, nil
}

type cloning struct{ Balances map[string]int }

func (c cloning) Clone() cloning { return cloning{maps.Clone(c.Balances)} }

type bookedC struct{ Amount int }

func (e bookedC) Apply(l *cloning) {
	if l.Balances == nil {
		l.Balances = map[string]int{}
	}
	l.Balances["x"] += e.Amount
}

type bookC struct {
	ID     string
	Amount int
}

func (c bookC) AggregateID() string { return c.ID }

func (c bookC) Execute(cloning) ([]aggregate.Event[cloning], error) {
	return []aggregate.Event[cloning]{bookedC{c.Amount}}, nil
}

func TestFailedAppendThrowsTheStateAway(t *testing.T) {
	t.Parallel()
	t.Run("no references", func(t *testing.T) {
		t.Parallel()
		f := newFaulty()
		r := open(t, eventstore.New(f, nil), accounts())
		failOnce(t, f, func(n int) error { _, err := r.Execute(t.Context(), deposit{"a", n}); return err })
		_, reads := f.counts()
		require.Zero(t, reads, "the state is restored by assignment")
		sum, v := balance(t, r, "a")
		require.Equal(t, 5, sum)
		require.Equal(t, eventstore.Version(1), v)
	})
	t.Run("Clone", func(t *testing.T) {
		t.Parallel()
		f := newFaulty()
		r, err := aggregate.New(eventstore.New(f, nil), &aggregate.Type[cloning]{Name: "c", Events: aggregate.Events[cloning]{"booked": bookedC{}}})
		require.NoError(t, err)
		failOnce(t, f, func(n int) error { _, err := r.Execute(t.Context(), bookC{"a", n}); return err })
		_, reads := f.counts()
		require.Zero(t, reads, "the state is the clone")
		require.NoError(t, r.View(t.Context(), "a", func(s *cloning, v eventstore.Version) {
			require.Equal(t, 5, s.Balances["x"])
			require.Equal(t, eventstore.Version(1), v)
		}))
	})
	t.Run("rebuilt", func(t *testing.T) {
		t.Parallel()
		f := newFaulty()
		r, err := aggregate.New(eventstore.New(f, nil), &aggregate.Type[ledger]{Name: "l", Events: aggregate.Events[ledger]{"booked": booked{}}})
		require.NoError(t, err)
		failOnce(t, f, func(n int) error { _, err := r.Execute(t.Context(), book{"a", n}); return err })
		_, reads := f.counts()
		require.Zero(t, reads, "the state is read again when it is needed")
		require.NoError(t, r.View(t.Context(), "a", func(s *ledger, v eventstore.Version) {
			require.Equal(t, 5, s.Balances["x"])
			require.Equal(t, eventstore.Version(1), v)
		}))
		_, reads = f.counts()
		require.NotZero(t, reads)
	})
}

// failOnce lets 5 succeed, and 7 fail.
func failOnce(t *testing.T, f *faulty, do func(int) error) {
	t.Helper()
	require.NoError(t, do(5))
	failing(f, 1, errDisk)
	f.counts()
	require.ErrorIs(t, do(7), errDisk)
}

func TestFailedAppendFailsEveryCommandWithEventsAndRedecidesTheOthers(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	r := open(t, eventstore.New(f, nil), accounts())
	g := gated(f)
	first := r.Submit(t.Context(), deposit{"a", 1})
	<-g.arrived
	big := r.Submit(t.Context(), deposit{"a", 10})
	// On the speculative state of 11 this could be afforded twice; in truth never.
	refusedLater := r.Submit(t.Context(), custom{"a", func(a account) ([]event, error) {
		if a.Balance >= 10 {
			return nil, errors.New("rich")
		}
		return nil, errPoor
	}})
	none := r.Submit(t.Context(), deposit{"a", 0})
	g.pass <- nil
	<-g.arrived
	g.pass <- errDisk
	_, err := first.Wait(t.Context())
	require.NoError(t, err)
	_, err = big.Wait(t.Context())
	require.ErrorIs(t, err, errDisk)
	_, err = refusedLater.Wait(t.Context())
	require.ErrorIs(t, err, errPoor, "decided on what did not happen, so decided again")
	res, err := none.Wait(t.Context())
	require.NoError(t, err)
	require.Equal(t, eventstore.Version(1), res.Version)
	require.Zero(t, res.Position)
	sum, _ := balance(t, r, "a")
	require.Equal(t, 1, sum)
}

func TestUnknownOutcomeIsToldAndTheNextCommandSeesWhatHappened(t *testing.T) {
	t.Parallel()
	for _, written := range []bool{true, false} {
		t.Run(map[bool]string{true: "written", false: "not written"}[written], func(t *testing.T) {
			t.Parallel()
			f := newFaulty()
			r := open(t, eventstore.New(f, nil), accounts())
			_, err := r.Execute(t.Context(), deposit{"a", 1})
			require.NoError(t, err)
			if written {
				f.set(func(f *faulty) {
					f.after = func(driver.Append, driver.Result) driver.Result {
						return driver.Result{Err: driver.ErrOutcomeUnknown}
					}
				})
			} else {
				failing(f, 1, driver.ErrOutcomeUnknown)
			}
			_, err = r.Execute(t.Context(), deposit{"a", 2}, command.Once("k"))
			require.ErrorIs(t, err, command.ErrOutcomeUnknown)
			f.set(func(f *faulty) { f.after = nil })
			// The same command again happens once in either case.
			res, err := r.Execute(t.Context(), deposit{"a", 2}, command.Once("k"))
			require.NoError(t, err)
			require.Equal(t, written, res.Repeated)
			require.Equal(t, eventstore.Version(2), res.Version)
			sum, v := balance(t, r, "a")
			require.Equal(t, 3, sum)
			require.Equal(t, eventstore.Version(2), v)
		})
	}
}

func TestConflictOnceIsDecidedAgainOnTheNewState(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	f.shared = true
	r := open(t, eventstore.New(f, nil), accounts())
	_, err := r.Execute(t.Context(), deposit{"a", 10})
	require.NoError(t, err)
	interfering(f, 1)
	var seen []account
	res, err := r.Execute(t.Context(), custom{"a", func(a account) ([]event, error) {
		seen = append(seen, a)
		return []event{withdrawn{4}}, nil
	}})
	require.NoError(t, err)
	require.Equal(t, []account{{10, 1}, {11, 2}}, seen, "discarded events are not in the state")
	require.Equal(t, eventstore.Version(3), res.Version)
	sum, v := balance(t, r, "a")
	require.Equal(t, 7, sum)
	require.Equal(t, eventstore.Version(3), v)
}

func TestConflictOnAnAggregateWithReferencesIsDecidedAgainOnTheNewState(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	f.shared = true
	r, err := aggregate.New(eventstore.New(f, nil), &aggregate.Type[ledger]{Name: "l", Events: aggregate.Events[ledger]{"booked": booked{}}})
	require.NoError(t, err)
	_, err = r.Execute(t.Context(), book{"a", 1})
	require.NoError(t, err)
	failing(f, 1, &driver.ConflictError{Actual: 2})
	_, err = r.Execute(t.Context(), book{"a", 2})
	require.NoError(t, err)
	require.NoError(t, r.View(t.Context(), "a", func(l *ledger, v eventstore.Version) {
		require.Equal(t, 3, l.Balances["x"])
	}))
}

func TestConflictRedecidesABatchInTheSameOrderWithNewArrivalsBehind(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	f.shared = true
	s := eventstore.New(f, nil)
	r := open(t, s, accounts())
	g := gated(f)
	pending := []*command.Pending{r.Submit(t.Context(), numbered("a", 100))}
	<-g.arrived
	for i := 101; i < 104; i++ {
		pending = append(pending, r.Submit(t.Context(), numbered("a", i)))
	}
	g.pass <- nil
	<-g.arrived
	for i := 104; i < 107; i++ {
		pending = append(pending, r.Submit(t.Context(), numbered("a", i)))
	}
	require.NoError(t, f.foreign("account-a"))
	g.open(f)
	for _, p := range pending {
		_, err := p.Wait(t.Context())
		require.NoError(t, err)
	}
	require.Equal(t, []int{100, 1, 101, 102, 103, 104, 105, 106}, amounts(t, s, "a"))
}

func TestCommandGivesUpAfterEightAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFaulty()
		f.shared = true
		r := open(t, eventstore.New(f, nil), accounts())
		interfering(f, 8)
		decided := 0
		start := time.Now()
		_, err := r.Execute(t.Context(), custom{"a", func(account) ([]event, error) {
			decided++
			return []event{deposited{1}}, nil
		}})
		require.ErrorIs(t, err, eventstore.ErrConflict)
		conflict, ok := errors.AsType[*eventstore.ConflictError](err)
		require.True(t, ok)
		require.Equal(t, eventstore.StreamName("account-a"), conflict.Stream)
		require.Equal(t, 8, decided)
		require.Less(t, time.Since(start), time.Second)
		sum, _ := balance(t, r, "a")
		require.Equal(t, 8, sum, "the deposits of the other")
		_, err = r.Execute(t.Context(), deposit{"a", 1})
		require.NoError(t, err)
	})
}

func TestSevenConflictsAreWorthAnotherAttemptAfterRandomPauses(t *testing.T) {
	t.Parallel()
	took := map[time.Duration]bool{}
	for range 4 {
		synctest.Test(t, func(t *testing.T) {
			f := newFaulty()
			f.shared = true
			r := open(t, eventstore.New(f, nil), accounts())
			interfering(f, 7)
			start := time.Now()
			_, err := r.Execute(t.Context(), deposit{"a", 1})
			require.NoError(t, err)
			took[time.Since(start)] = true
		})
	}
	require.Greater(t, len(took), 1, "full jitter")
}

func TestAttemptsCountForEachCommandByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFaulty()
		f.shared = true
		r := open(t, eventstore.New(f, nil), accounts())
		interfering(f, 8)
		g := f.before
		late := make(chan *command.Pending, 1)
		n := 0
		f.set(func(f *faulty) {
			f.before = func(a driver.Append) error {
				if n++; n == 4 {
					late <- r.Submit(context.Background(), deposit{"a", 5})
				}
				return g(a)
			}
		})
		_, err := r.Execute(t.Context(), deposit{"a", 1})
		require.ErrorIs(t, err, eventstore.ErrConflict)
		_, err = (<-late).Wait(t.Context())
		require.NoError(t, err, "it took part in five attempts only")
	})
}

func TestCommandWithAtIsCheckedAgainAfterAConflictAndGetsItsOwnConflict(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	f.shared = true
	r := open(t, eventstore.New(f, nil), accounts())
	_, err := r.Execute(t.Context(), deposit{"a", 1})
	require.NoError(t, err)
	g := gated(f)
	first := r.Submit(t.Context(), deposit{"a", 1})
	<-g.arrived
	before := r.Submit(t.Context(), deposit{"a", 1})
	at := r.Submit(t.Context(), deposit{"a", 1}, command.At(eventstore.Exactly(3)))
	after := r.Submit(t.Context(), deposit{"a", 1})
	g.pass <- nil
	<-g.arrived
	require.NoError(t, f.foreign("account-a"))
	g.open(f)
	for _, p := range []*command.Pending{first, before, after} {
		_, err := p.Wait(t.Context())
		require.NoError(t, err)
	}
	_, err = at.Wait(t.Context())
	conflict, ok := errors.AsType[*eventstore.ConflictError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, eventstore.ConflictError{Stream: "account-a", Expected: eventstore.Exactly(3), Actual: 4}, *conflict)
	sum, _ := balance(t, r, "a")
	require.Equal(t, 5, sum)
}

func TestAtIsCheckedOnTheSpeculativeVersion(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		at   eventstore.Expected
		ok   bool
	}{
		{"any", eventstore.Any, true},
		{"the version the one before leads to", eventstore.Exactly(2), true},
		{"the durable version", eventstore.Exactly(1), false},
		{"no stream", eventstore.NoStream, false},
		{"stream exists", eventstore.StreamExists, true},
		{"later", eventstore.Exactly(3), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFaulty()
			r := open(t, eventstore.New(f, nil), accounts())
			g := gated(f)
			a := r.Submit(t.Context(), deposit{"a", 1})
			<-g.arrived
			b := r.Submit(t.Context(), deposit{"a", 1})
			c := r.Submit(t.Context(), deposit{"a", 1}, command.At(tt.at))
			g.open(f)
			for _, p := range []*command.Pending{a, b} {
				_, err := p.Wait(t.Context())
				require.NoError(t, err)
			}
			_, err := c.Wait(t.Context())
			if tt.ok {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, eventstore.ErrConflict)
			}
		})
	}
}

func TestAtAfterADeletedStreamBeganAnewSeesItsTrueVersion(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	s := eventstore.New(f, nil)
	r := open(t, s, accounts())
	for range 5 {
		_, err := r.Execute(t.Context(), deposit{"a", 1})
		require.NoError(t, err)
	}
	require.NoError(t, s.Delete(t.Context(), "account-a", eventstore.Any))
	g := gated(f)
	hold := r.Submit(t.Context(), deposit{"b", 1})
	<-g.arrived
	a := r.Submit(t.Context(), deposit{"a", 1}, command.At(eventstore.NoStream))
	b := r.Submit(t.Context(), deposit{"a", 1}, command.At(eventstore.Exactly(6)))
	g.open(f)
	for i, p := range []*command.Pending{hold, a, b} {
		res, err := p.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, []eventstore.Version{1, 6, 7}[i], res.Version)
	}
	sum, v := balance(t, r, "a")
	require.Equal(t, 2, sum)
	require.Equal(t, eventstore.Version(7), v)
}

func TestPanicInExecuteIsReturnedToItsCallerAlone(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	r := open(t, eventstore.New(f, nil), accounts())
	g := gated(f)
	held := r.Submit(t.Context(), deposit{"a", 1})
	<-g.arrived
	before := r.Submit(t.Context(), deposit{"a", 2})
	panics := r.Submit(t.Context(), custom{"a", func(account) ([]event, error) { panic(errPoor) }})
	after := r.Submit(t.Context(), deposit{"a", 3})
	g.open(f)
	for _, p := range []*command.Pending{held, before, after} {
		_, err := p.Wait(t.Context())
		require.NoError(t, err)
	}
	_, err := panics.Wait(t.Context())
	p, ok := errors.AsType[*command.PanicError](err)
	require.True(t, ok)
	require.Equal(t, errPoor, p.Value)
	require.ErrorIs(t, err, errPoor)
	require.Contains(t, string(p.Stack), "batch_test.go")
	sum, _ := balance(t, r, "a")
	require.Equal(t, 6, sum)
}

// A bomb is an event that may panic when it is applied.
type bomb struct{ Live bool }

func (e bomb) Apply(a *account) {
	a.Balance += 1000
	if e.Live {
		panic("boom")
	}
}

func TestPanicInApplyFailsThatCommandOnlyAndTheOthersAreRedecided(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	typ := accounts()
	typ.Events["bomb"] = bomb{}
	s := eventstore.New(f, nil)
	r := open(t, s, typ)
	g := gated(f)
	held := r.Submit(t.Context(), numbered("a", 1))
	<-g.arrived
	pending := []*command.Pending{held, r.Submit(t.Context(), numbered("a", 2)), r.Submit(t.Context(), numbered("a", 3))}
	panics := r.Submit(t.Context(), custom{"a", func(account) ([]event, error) { return []event{deposited{9}, bomb{true}}, nil }})
	pending = append(pending, r.Submit(t.Context(), numbered("a", 4)))
	g.open(f)
	for _, p := range pending {
		_, err := p.Wait(t.Context())
		require.NoError(t, err)
	}
	_, err := panics.Wait(t.Context())
	_, ok := errors.AsType[*command.PanicError](err)
	require.True(t, ok)
	require.Equal(t, []int{1, 2, 3, 4}, amounts(t, s, "a"))
	sum, _ := balance(t, r, "a")
	require.Equal(t, 10, sum)
}

func TestCommandThatEndsItsGoroutineFailsAlone(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	r := open(t, eventstore.New(f, nil), accounts())
	g := gated(f)
	held := r.Submit(t.Context(), deposit{"a", 1})
	<-g.arrived
	before := r.Submit(t.Context(), deposit{"a", 2})
	exits := r.Submit(t.Context(), custom{"a", func(account) ([]event, error) { runtime.Goexit(); return nil, nil }})
	after := r.Submit(t.Context(), deposit{"a", 3})
	g.open(f)
	for _, p := range []*command.Pending{held, before, after} {
		_, err := p.Wait(t.Context())
		require.NoError(t, err)
	}
	_, err := exits.Wait(t.Context())
	_, ok := errors.AsType[*command.PanicError](err)
	require.True(t, ok)
	sum, _ := balance(t, r, "a")
	require.Equal(t, 6, sum)
}

func TestNilEventIsRefused(t *testing.T) {
	t.Parallel()
	r := open(t, eventstore.New(newFaulty(), nil), accounts())
	_, err := r.Execute(t.Context(), custom{"a", func(account) ([]event, error) { return []event{nil}, nil }})
	require.ErrorIs(t, err, eventstore.ErrInvalid)
	sum, _ := balance(t, r, "a")
	require.Zero(t, sum)
}

func TestRefusalReachesTheCallerUntouchedAndChangesNothing(t *testing.T) {
	t.Parallel()
	r := open(t, eventstore.New(newFaulty(), nil), accounts())
	_, err := r.Execute(t.Context(), deposit{"a", 1})
	require.NoError(t, err)
	res, err := r.Execute(t.Context(), withdraw{"a", 2})
	require.True(t, err == errPoor, "the very error")
	require.Equal(t, command.Result{Stream: "account-a", Version: 1, Refused: true}, res)
	res, err = r.Execute(t.Context(), deposit{"a", 0})
	require.NoError(t, err)
	require.Equal(t, command.Result{Stream: "account-a", Version: 1}, res)
}

func TestNodeThatCachesIsNotFooledByADepositElsewhere(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	f.shared = true
	a := open(t, eventstore.New(f, nil), accounts())
	b := open(t, eventstore.New(f, nil), accounts())
	_, err := a.Execute(t.Context(), deposit{"x", 10})
	require.NoError(t, err)

	t.Log("node A caches; node B deposits; A's withdrawal must not be refused")
	_, err = b.Execute(t.Context(), deposit{"x", 90})
	require.NoError(t, err)
	_, err = a.Execute(t.Context(), withdraw{"x", 100})
	require.NoError(t, err)

	t.Log("the same for View, At and a command without events")
	_, err = b.Execute(t.Context(), deposit{"x", 7})
	require.NoError(t, err)
	sum, v := balance(t, a, "x")
	require.Equal(t, 7, sum)
	require.Equal(t, eventstore.Version(4), v)

	_, err = b.Execute(t.Context(), deposit{"x", 1})
	require.NoError(t, err)
	_, err = a.Execute(t.Context(), deposit{"x", 1}, command.At(eventstore.Exactly(5)))
	require.NoError(t, err)

	_, err = b.Execute(t.Context(), deposit{"x", 1})
	require.NoError(t, err)
	res, err := a.Execute(t.Context(), deposit{"x", 0})
	require.NoError(t, err)
	require.Equal(t, eventstore.Version(7), res.Version)
}

func TestRefusalsCostOneReadOfTheVersionABatchAndOnlyWhereOthersWrite(t *testing.T) {
	t.Parallel()
	for _, shared := range []bool{false, true} {
		t.Run(map[bool]string{false: "exclusive", true: "shared"}[shared], func(t *testing.T) {
			t.Parallel()
			f := newFaulty()
			f.shared = shared
			r := open(t, eventstore.New(f, nil), accounts())
			g := gated(f)
			first := r.Submit(t.Context(), deposit{"a", 1})
			<-g.arrived
			var refused []*command.Pending
			for range 20 {
				refused = append(refused, r.Submit(t.Context(), withdraw{"a", 100}))
			}
			f.counts()
			g.open(f)
			_, err := first.Wait(t.Context())
			require.NoError(t, err)
			for _, p := range refused {
				_, err := p.Wait(t.Context())
				require.ErrorIs(t, err, errPoor)
			}
			streams, reads := f.counts()
			require.Zero(t, reads)
			require.Equal(t, map[bool]int{false: 0, true: 1}[shared], streams)
		})
	}
}

func TestRefusalIsNotAnsweredWhenTheVersionCannotBeRead(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	f.shared = true
	broken := &brokenStream{faulty: f}
	r := open(t, eventstore.New(broken, nil), accounts())
	_, err := r.Execute(t.Context(), deposit{"a", 1})
	require.NoError(t, err)
	broken.err = errDisk
	_, err = r.Execute(t.Context(), withdraw{"a", 5})
	require.ErrorIs(t, err, errDisk)
	require.ErrorIs(t, r.View(t.Context(), "a", func(*account, eventstore.Version) { t.Error("called") }), errDisk)
}

type brokenStream struct {
	*faulty
	err error
}

func (b *brokenStream) Stream(ctx context.Context, stream string) (driver.StreamInfo, error) {
	if b.err != nil {
		return driver.StreamInfo{}, b.err
	}
	return b.faulty.Stream(ctx, stream)
}

func TestAppendBehindTheRepositorysBackIsSeenByTheNextDecision(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	s := eventstore.New(f, nil)
	r := open(t, s, accounts())
	_, err := r.Execute(t.Context(), deposit{"a", 1})
	require.NoError(t, err)
	_, err = s.Append(t.Context(), "account-a", eventstore.Any, eventstore.Event{Data: deposited{5}})
	require.NoError(t, err)
	n := len(f.sizes())
	_, err = r.Execute(t.Context(), withdraw{"a", 6})
	require.NoError(t, err)
	require.Len(t, f.sizes(), n+1, "without a conflict")
}

func TestTwoRepositoriesOnOneStoreAgree(t *testing.T) {
	t.Parallel()
	s := eventstore.New(newFaulty(), nil)
	a, b := open(t, s, accounts()), open(t, s, accounts())
	for range 10 {
		_, err := a.Execute(t.Context(), deposit{"x", 1})
		require.NoError(t, err)
		_, err = b.Execute(t.Context(), withdraw{"x", 1})
		require.NoError(t, err)
	}
	_, err := b.Execute(t.Context(), withdraw{"x", 1})
	require.ErrorIs(t, err, errPoor)
}

func TestViewInABatchWhoseAppendFailsShowsTheStateBefore(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	r := open(t, eventstore.New(f, nil), accounts())
	g := gated(f)
	first := r.Submit(t.Context(), deposit{"a", 1})
	<-g.arrived
	second := r.Submit(t.Context(), deposit{"a", 5})
	views := make(chan int, 1)
	go func() {
		sum := -1
		_ = r.View(context.Background(), "a", func(a *account, _ eventstore.Version) { sum = a.Balance })
		views <- sum
	}()
	for aggregate.QueueLen(r, "a") != 2 {
		runtime.Gosched()
	}
	g.pass <- nil
	_, err := first.Wait(t.Context())
	require.NoError(t, err)
	<-g.arrived
	g.pass <- errDisk
	_, err = second.Wait(t.Context())
	require.ErrorIs(t, err, errDisk)
	require.Equal(t, 1, <-views)
	g.open(f)
}

func TestCommandWithoutEventsBeforeTheFirstEventHasTheVersionBefore(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	s := eventstore.New(f, nil)
	r := open(t, s, accounts())
	for range 5 {
		_, err := r.Execute(t.Context(), deposit{"a", 1})
		require.NoError(t, err)
	}
	require.NoError(t, s.Delete(t.Context(), "account-a", eventstore.Any))
	g := gated(f)
	hold := r.Submit(t.Context(), custom{"a", func(account) ([]event, error) { return []event{deposited{1}}, nil }})
	<-g.arrived
	g.pass <- errDisk // so that the batch below begins on nothing
	_, err := hold.Wait(t.Context())
	require.ErrorIs(t, err, errDisk)
	hold = r.Submit(t.Context(), deposit{"a", 1})
	<-g.arrived
	none := r.Submit(t.Context(), deposit{"a", 0})
	some := r.Submit(t.Context(), deposit{"a", 1})
	g.pass <- errDisk
	g.open(f)
	_, err = hold.Wait(t.Context())
	require.ErrorIs(t, err, errDisk)
	res, err := none.Wait(t.Context())
	require.NoError(t, err)
	require.Zero(t, res.Version, "there was no stream")
	res, err = some.Wait(t.Context())
	require.NoError(t, err)
	require.Equal(t, eventstore.Version(6), res.Version)
}

func TestCommandWhoseCallerHasLeftIsNotDecidedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFaulty()
		f.shared = true
		r := open(t, eventstore.New(f, nil), accounts())
		g := gated(f)
		ctx, cancel := context.WithCancel(t.Context())
		decided := 0
		p := r.Submit(ctx, custom{"a", func(account) ([]event, error) {
			decided++
			return []event{deposited{1}}, nil
		}})
		<-g.arrived
		cancel()
		synctest.Wait() // it cannot leave any more
		require.NoError(t, f.foreign("account-a"))
		g.open(f)
		_, err := p.Wait(t.Context())
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, command.ErrOutcomeUnknown, "it is known that nothing was written")
		require.Equal(t, 1, decided)
		sum, _ := balance(t, r, "a")
		require.Equal(t, 1, sum)
	})
}

func TestQueueIsClearedOfThoseWhoLeft(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	typ := accounts()
	typ.Queue = 10
	r := open(t, eventstore.New(f, nil), typ)
	g := gated(f)
	held := r.Submit(t.Context(), deposit{"a", 1})
	<-g.arrived
	stays := r.Submit(t.Context(), deposit{"a", 1})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 1000 {
		_, err := r.Execute(ended, deposit{"a", 1})
		require.ErrorIs(t, err, context.Canceled)
	}
	require.Less(t, aggregate.QueueLen(r, "a"), 100)
	g.open(f)
	for _, p := range []*command.Pending{held, stays} {
		_, err := p.Wait(t.Context())
		require.NoError(t, err)
	}
	sum, _ := balance(t, r, "a")
	require.Equal(t, 2, sum)
}
