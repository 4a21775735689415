package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/eventstoretest"
	"github.com/levada-go/levada/eventstore/memstore"
)

// atomicOf returns s for appends to several streams.
func atomicOf(t testing.TB, s *eventstore.Store) *eventstore.AtomicStore {
	t.Helper()
	a, err := s.Atomic()
	require.NoError(t, err)
	return a
}

func part(stream eventstore.StreamName, expected eventstore.Expected, amounts ...int) eventstore.Part {
	events := deposits(amounts...)
	for i := range events {
		events[i].ID = eventstore.NewID()
	}
	return eventstore.Part{Stream: stream, Expected: expected, Events: events}
}

// direct is an engine that commits each append by itself.
type direct struct {
	driver.Store
	driver.Atomic
	driver.Conditional
	driver.Inliner
	driver.Deleter
}

func newDirect() driver.Store {
	e := memstore.NewDriver().(eventstoretest.Engine)
	return direct{e, e, e, e, e}
}

func TestAnAppendToSeveralStreamsIsMadeWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]driver.Store{"batched": memstore.NewDriver(), "direct": newDirect()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			s := open(t, d, nil)
			a := atomicOf(t, s)
			_, err := s.Append(ctx, "a-1", eventstore.NoStream, deposits(1)...)
			require.NoError(t, err)
			at, err := a.Append(ctx, part("b-1", eventstore.NoStream, 2, 3), part("a-1", eventstore.Exactly(1), 4), part("c-1", eventstore.Any, 5))
			require.NoError(t, err)
			require.Equal(t, []eventstore.Appended{{Version: 2, Position: 3}, {Version: 2, Position: 4}, {Version: 1, Position: 5}}, at)
			require.Equal(t, []int{1, 4}, amounts(t, s, "a-1"))
			require.Equal(t, []int{2, 3}, amounts(t, s, "b-1"))

			_, err = a.Append(ctx, part("a-1", eventstore.Exactly(2), 6), part("b-1", eventstore.Exactly(9), 7), part("c-1", eventstore.NoStream, 8))
			var conflict *eventstore.ConflictError
			require.ErrorAs(t, err, &conflict)
			require.ErrorIs(t, err, eventstore.ErrConflict)
			require.Equal(t, eventstore.ConflictError{Stream: "b-1", Expected: eventstore.Exactly(9), Actual: 2}, *conflict)
			head, err := s.Head(ctx)
			require.NoError(t, err)
			require.EqualValues(t, 5, head, "nothing was written")
		})
	}
}

func TestPartsThatCannotBeAppendedAreRefusedAndNothingIsWritten(t *testing.T) {
	t.Parallel()
	e := memstore.NewDriver().(eventstoretest.Engine)
	s := open(t, limitedEngine{e}, nil)
	a := atomicOf(t, s)
	require.NoError(t, s.Purge(t.Context(), "gone-1"))
	large := func(n int) eventstore.Event {
		return eventstore.Event{Data: Noted{[]string{strings.Repeat("x", n)}}}
	}
	twice := part("b-1", eventstore.Any, 2)
	twice.Events[0].ID = eventstore.NewID()
	again := part("a-1", eventstore.Any, 1)
	again.Events[0].ID = twice.Events[0].ID
	good := part("a-1", eventstore.NoStream, 1)
	for _, c := range []struct {
		name  string
		parts []eventstore.Part
		is    error
	}{
		{"no parts", nil, eventstore.ErrNoEvents},
		{"a part without events", []eventstore.Part{good, {Stream: "b-1"}}, eventstore.ErrNoEvents},
		{"a stream in two parts", []eventstore.Part{good, part("b-1", eventstore.Any, 1), part("a-1", eventstore.Any, 2)}, eventstore.ErrInvalid},
		{"a reserved name", []eventstore.Part{good, part("$b-1", eventstore.Any, 1)}, eventstore.ErrInvalid},
		{"an empty name", []eventstore.Part{good, part("", eventstore.Any, 1)}, eventstore.ErrInvalid},
		{"an unregistered type", []eventstore.Part{good, {Stream: "b-1", Events: []eventstore.Event{{Data: Unknown{}}}}}, eventstore.ErrUnregistered},
		{"an id in two parts", []eventstore.Part{again, twice}, eventstore.ErrDuplicate},
		{"too many events together", []eventstore.Part{part("a-1", eventstore.Any, 1, 2, 3), part("b-1", eventstore.Any, 1, 2)}, eventstore.ErrTooLarge},
		{"a large event", []eventstore.Part{good, {Stream: "b-1", Events: []eventstore.Event{large(2000)}}}, eventstore.ErrTooLarge},
		{"too many bytes together", []eventstore.Part{{Stream: "b-1", Events: []eventstore.Event{large(1500), large(1500)}}, {Stream: "c-1", Events: []eventstore.Event{large(1500)}}}, eventstore.ErrTooLarge},
		{"a purged stream", []eventstore.Part{good, part("gone-1", eventstore.Any, 1)}, eventstore.ErrStreamDeleted},
		{"a stream that must exist", []eventstore.Part{good, part("b-1", eventstore.StreamExists, 1)}, eventstore.ErrConflict},
	} {
		_, err := a.Append(t.Context(), c.parts...)
		require.ErrorIs(t, err, c.is, c.name)
		head, err := s.Head(t.Context())
		require.NoError(t, err)
		require.Zero(t, head, c.name)
	}
	_, err := open(t, plainDriver{memstore.NewDriver()}, nil).Atomic()
	require.ErrorIs(t, err, eventstore.ErrUnsupported)

	tags, err := s.Tags()
	require.NoError(t, err)
	var list []eventstore.To
	for i := range 3 {
		list = append(list, eventstore.To{Stream: eventstore.Stream("a", fmt.Sprint(i)), Event: large(1500)})
	}
	_, err = tags.Append(t.Context(), nil, 0, list...)
	require.ErrorIs(t, err, eventstore.ErrTooLarge, "a conditional append is one append as well")
}

type limitedEngine struct{ eventstoretest.Engine }

func (limitedEngine) Limits() driver.Limits {
	return driver.Limits{AppendEvents: 4, AppendBytes: 4000, EventBytes: 2000}
}

func TestARepeatedAppendToSeveralStreamsReturnsTheOriginal(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := open(t, memstore.NewDriver(), &eventstore.Options{Verify: true, PageSize: 3})
	a := atomicOf(t, s)
	_, err := s.Append(ctx, "a-1", eventstore.Any, deposits(1, 2)...)
	require.NoError(t, err)
	_, err = s.Append(ctx, "d-1", eventstore.Any, deposits(1, 2)...)
	require.NoError(t, err)
	require.NoError(t, s.Delete(ctx, "d-1", eventstore.Any))
	exact, none, deleted := part("a-1", eventstore.Exactly(2), 3, 4), part("b-1", eventstore.NoStream, 5), part("d-1", eventstore.NoStream, 6)
	before, between, after := part("e-1", eventstore.Any, 7, 8), part("f-1", eventstore.Any, 9), part("a-2", eventstore.Any, 10)
	parts := []eventstore.Part{before, exact, none, between, deleted, after}
	first, err := a.Append(ctx, parts...)
	require.NoError(t, err)
	require.EqualValues(t, 3, first[4].Version)
	for _, stream := range []eventstore.StreamName{"a-1", "b-1", "d-1", "e-1", "f-1", "a-2"} {
		_, err := s.Append(ctx, stream, eventstore.Any, deposits(1, 2, 3, 4, 5)...)
		require.NoError(t, err)
	}
	apart := part("g-1", eventstore.Any, 11, 12)
	_, err = s.Append(ctx, "g-1", eventstore.Any, apart.Events[0], deposits(1)[0], apart.Events[1])
	require.NoError(t, err)
	head, err := s.Head(ctx)
	require.NoError(t, err)
	for range 2 {
		again, err := a.Append(ctx, parts...)
		require.NoError(t, err)
		require.Equal(t, first, again)
	}

	other := func(p eventstore.Part) eventstore.Part { return part(p.Stream, p.Expected, 1) }
	swapped := exact
	swapped.Events = []eventstore.Event{exact.Events[1], exact.Events[0]}
	longer := exact
	longer.Events = append(longer.Events[:2:2], part("x", eventstore.Any, 1).Events...)
	for _, c := range []struct {
		name  string
		parts []eventstore.Part
		is    error
	}{
		{"other events", []eventstore.Part{other(exact), other(none)}, eventstore.ErrConflict},
		{"other events and those of a part without a place", []eventstore.Part{other(exact), before}, eventstore.ErrConflict},
		{"the same of one part", []eventstore.Part{exact, other(none)}, eventstore.ErrDuplicate},
		{"the same of the last part", []eventstore.Part{other(exact), none}, eventstore.ErrDuplicate},
		{"some of one part", []eventstore.Part{longer, none}, eventstore.ErrDuplicate},
		{"some of the only part", []eventstore.Part{longer}, eventstore.ErrDuplicate},
		{"the same but not one after the other", []eventstore.Part{exact, apart}, eventstore.ErrDuplicate},
		{"the same in another order", []eventstore.Part{swapped, none}, eventstore.ErrDuplicate},
		{"the same but for a part without a place", []eventstore.Part{exact, other(before)}, eventstore.ErrDuplicate},
		{"a part without a place that was made before", []eventstore.Part{exact, before}, eventstore.ErrDuplicate},
		{"the same but for a stream that is not there", []eventstore.Part{exact, part("new-1", eventstore.NoStream, 1)}, eventstore.ErrDuplicate},
		{"a stream that is behind", []eventstore.Part{part("a-1", eventstore.Exactly(100), 1), none}, eventstore.ErrConflict},
		{"a stream that must exist", []eventstore.Part{part("new-1", eventstore.StreamExists, 1), exact}, eventstore.ErrConflict},
	} {
		_, err := a.Append(ctx, c.parts...)
		require.ErrorIs(t, err, c.is, c.name)
	}
	fewer, err := a.Append(ctx, exact, after)
	require.NoError(t, err, "the suite of parts is not stored, only their events")
	require.Equal(t, []eventstore.Appended{first[1], first[5]}, fewer)
	now, err := s.Head(ctx)
	require.NoError(t, err)
	require.Equal(t, head, now)
}

func TestAnAppendToSeveralStreamsWhoseAnswerIsLostCanBeMadeAgain(t *testing.T) {
	t.Parallel()
	ctx, cut := t.Context(), errors.New("the line is cut")
	d, faults := eventstoretest.Faulty(t, memstore.NewDriver())
	s := open(t, d, nil)
	a := atomicOf(t, s)
	parts := []eventstore.Part{part("a-1", eventstore.NoStream, 1, 2), part("b-1", eventstore.Any, 3)}
	faults.After(eventstoretest.OpAppend, 1, fmt.Errorf("%w: %w", eventstore.ErrOutcomeUnknown, cut))
	_, err := a.Append(ctx, parts...)
	require.ErrorIs(t, err, eventstore.ErrOutcomeUnknown)
	for _, op := range []eventstoretest.Op{eventstoretest.OpStream, eventstoretest.OpReadStream} {
		faults.Before(op, 1, cut)
		_, err = a.Append(ctx, parts...)
		require.ErrorIs(t, err, eventstore.ErrOutcomeUnknown, op)
		require.ErrorIs(t, err, cut)
		require.NotErrorIs(t, err, eventstore.ErrConflict)
	}
	at, err := a.Append(ctx, parts...)
	require.NoError(t, err)
	require.Equal(t, []eventstore.Appended{{Version: 2, Position: 2}, {Version: 1, Position: 3}}, at)
	require.NoError(t, s.Purge(ctx, "b-1"))
	_, err = a.Append(ctx, parts...)
	require.ErrorIs(t, err, eventstore.ErrStreamDeleted)
	faults.Before(eventstoretest.OpAppend, 1, cut)
	_, err = a.Append(ctx, parts...)
	require.ErrorIs(t, err, cut)
}

// A stopped engine has its appends by themselves announce themselves and wait.
type stopped struct {
	eventstoretest.Engine
	entered, release chan struct{}
}

func newStopped() *stopped {
	return &stopped{memstore.NewDriver().(eventstoretest.Engine), make(chan struct{}), make(chan struct{})}
}

func (d *stopped) AppendAtomic(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
	d.entered <- struct{}{}
	<-d.release
	return d.Engine.AppendAtomic(ctx, as, fn)
}

func (d *stopped) AppendIf(ctx context.Context, items []driver.QueryItem, after uint64, events []driver.StreamEvent, fn func(any, []driver.Recorded) error) driver.Result {
	d.entered <- struct{}{}
	<-d.release
	return d.Engine.AppendIf(ctx, items, after, events, fn)
}

// alone are the ways to append that are committed by themselves, each to two streams.
var alone = map[string]func(context.Context, testing.TB, *eventstore.Store) error{
	"several streams": func(ctx context.Context, t testing.TB, s *eventstore.Store) error {
		_, err := atomicOf(t, s).Append(ctx, part("a-1", eventstore.NoStream, 1), part("b-1", eventstore.Any, 2))
		return err
	},
	"conditional": func(ctx context.Context, t testing.TB, s *eventstore.Store) error {
		tags, err := s.Tags()
		require.NoError(t, err)
		_, err = tags.Append(ctx, nil, 0, eventstore.To{Stream: "a-1", Event: deposits(1)[0]}, eventstore.To{Stream: "b-1", Event: deposits(2)[0]})
		return err
	},
}

func TestAnAppendByItselfWhoseContextEnds(t *testing.T) {
	t.Parallel()
	for name, do := range alone {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newStopped()
			s := open(t, d, nil)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- do(ctx, t, s) }()
			<-d.entered
			cancel()
			err := <-done
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorIs(t, err, eventstore.ErrOutcomeUnknown, "it is in the driver")

			err = do(ctx, t, s)
			require.ErrorIs(t, err, context.Canceled)
			require.NotErrorIs(t, err, eventstore.ErrOutcomeUnknown, "it never began")

			closed := make(chan error, 1)
			go func() { closed <- s.Close() }()
			eventually(t, s.Closing)
			require.ErrorIs(t, do(t.Context(), t, s), eventstore.ErrClosed)
			select {
			case <-closed:
				t.Fatal("it was closed with an append under way")
			default:
			}
			head, err := d.Head(t.Context())
			require.NoError(t, err)
			require.Zero(t, head)
			d.release <- struct{}{}
			require.NoError(t, <-closed)
		})
	}
}

func TestAnAppendByItselfGoesOnWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	for name, do := range alone {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newStopped()
			s := open(t, d, nil)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- do(ctx, t, s) }()
			<-d.entered
			cancel()
			require.ErrorIs(t, <-done, eventstore.ErrOutcomeUnknown)
			d.release <- struct{}{}
			eventually(t, func() bool {
				head, err := s.Head(t.Context())
				return err == nil && head == 2
			})
		})
	}
}

func TestAnAppendByItselfIsUnknownWhenShutdownGivesUp(t *testing.T) {
	t.Parallel()
	for name, do := range alone {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newStopped()
			s := open(t, d, nil)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- do(ctx, t, s) }()
			<-d.entered
			over, give := context.WithCancel(t.Context())
			give()
			require.ErrorIs(t, s.Shutdown(over), context.Canceled)
			err := <-done
			require.ErrorIs(t, err, eventstore.ErrOutcomeUnknown)
			require.ErrorIs(t, err, eventstore.ErrClosed)
			d.release <- struct{}{}
			require.NoError(t, s.Close(), "it goes on, and the driver is closed after it")
		})
	}
}

func TestNewsOfAnAppendToSeveralStreamsIsSpread(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := open(t, memstore.NewDriver(), nil)
	sub, err := eventstore.Subscribe(ctx, s, eventstore.Transient[string]{Map: func(r *eventstore.Recorded) string {
		return fmt.Sprintf("%s@%d:%d=%d", r.Stream, r.Version, r.Position, r.Data.(Deposited).Amount)
	}})
	require.NoError(t, err)
	defer sub.Close()
	var mu sync.Mutex
	var heard []string
	for _, category := range []string{"a", "b"} {
		defer s.Watch(category, func(stream eventstore.StreamName, v eventstore.Version) {
			mu.Lock()
			defer mu.Unlock()
			heard = append(heard, fmt.Sprintf("%s@%d", stream, v))
		})()
	}
	_, err = s.Append(ctx, "b-1", eventstore.Any, deposits(1)...)
	require.NoError(t, err)
	_, err = atomicOf(t, s).Append(ctx, part("a-1", eventstore.NoStream, 2, 3), part("b-1", eventstore.Exactly(1), 4), part("c-1", eventstore.Any, 5))
	require.NoError(t, err)
	mu.Lock()
	require.Equal(t, []string{"b-1@1", "a-1@2", "b-1@2"}, heard)
	mu.Unlock()
	var got []string
	for len(got) < 5 {
		got = append(got, (<-sub.C).Events...)
	}
	require.Equal(t, []string{"b-1@1:1=1", "a-1@1:2=2", "a-1@2:3=3", "b-1@2:4=4", "c-1@1:5=5"}, got)
}

func TestInlineFuncsTakePartInAppendsToSeveralStreams(t *testing.T) {
	t.Parallel()
	for name, do := range alone {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			s := open(t, memstore.NewDriver(), nil)
			refused := errors.New("refused")
			var outcome error
			var calls [][]string
			for range 2 {
				stop, err := s.Inline(func(_ context.Context, tx any, events []*eventstore.Recorded) error {
					var call []string
					for _, r := range events {
						call = append(call, fmt.Sprintf("%s@%d:%d=%d", r.Stream, r.Version, r.Position, r.Data.(Deposited).Amount))
					}
					calls = append(calls, call)
					if outcome == nil {
						return nil
					}
					panic(outcome)
				})
				require.NoError(t, err)
				defer stop()
			}
			outcome = refused
			require.ErrorContains(t, do(ctx, t, s), "refused")
			require.Len(t, calls, 1)
			head, err := s.Head(ctx)
			require.NoError(t, err)
			require.Zero(t, head)
			outcome, calls = nil, nil
			require.NoError(t, do(ctx, t, s))
			want := []string{"a-1@1:1=1", "b-1@1:2=2"}
			require.Equal(t, [][]string{want, want}, calls, "each func once")
		})
	}
}

func TestTransfersAtOnceKeepTheSum(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := open(t, memstore.NewDriver(), nil)
	a := atomicOf(t, s)
	const accounts, callers, each = 4, 6, 25
	name := func(i int) eventstore.StreamName { return eventstore.Stream("account", fmt.Sprint(i%accounts)) }
	for i := range accounts {
		_, err := s.Append(ctx, name(i), eventstore.NoStream, deposits(100)...)
		require.NoError(t, err)
	}
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			for n := range each {
				for {
					from, to := name(caller+n), name(caller+n+1+n%3)
					x, err := s.Stream(ctx, from)
					require.NoError(t, err)
					y, err := s.Stream(ctx, to)
					require.NoError(t, err)
					_, err = a.Append(ctx, part(from, eventstore.Exactly(x.Version), -n), part(to, eventstore.Exactly(y.Version), n))
					if err == nil {
						break
					}
					require.ErrorIs(t, err, eventstore.ErrConflict)
				}
			}
		})
		all.Go(func() { // appends to one of the streams do not stand in its way for good
			for range each {
				_, err := s.Append(ctx, name(caller), eventstore.Any, deposits(0)...)
				require.NoError(t, err)
			}
		})
	}
	all.Wait()
	sum, last := 0, 0
	for r, err := range s.ReadAll(ctx, eventstore.Filter{}, 0) {
		require.NoError(t, err)
		n := r.Data.(Deposited).Amount
		if n > 0 && r.Version > 1 {
			require.Equal(t, -n, last, "the two events of a transfer lie beside each other")
		}
		sum, last = sum+n, n
	}
	require.Equal(t, 100*accounts, sum)
}
