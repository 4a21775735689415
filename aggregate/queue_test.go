package aggregate_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/stretchr/testify/require"
)

// numbered returns a command that records its number.
func numbered(id string, n int) custom {
	return custom{id, func(account) ([]event, error) { return []event{deposited{n}}, nil }}
}

// amounts returns the amounts deposited to an account, in order.
func amounts(t testing.TB, s *eventstore.Store, id string) (out []int) {
	t.Helper()
	for r, err := range s.ReadStream(t.Context(), eventstore.Stream("account", id), 0) {
		require.NoError(t, err)
		if d, ok := r.Data.(deposited); ok {
			out = append(out, d.Amount)
		}
	}
	return out
}

func TestCommandsAreDecidedInTheOrderInWhichTheyQueued(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	s := eventstore.New(f, nil)
	r := open(t, s, accounts())
	g := gated(f)
	var pending []*command.Pending
	var want []int
	for i := range 100 {
		pending = append(pending, r.Submit(t.Context(), numbered("a", i)))
		want = append(want, i)
	}
	g.open(f)
	for i, p := range pending {
		res, err := p.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, eventstore.Version(i+1), res.Version)
	}
	require.Equal(t, want, amounts(t, s, "a"))
}

func TestAllThatQueuedMeanwhileGoesIntoOneAppendAtTheLastDurableVersion(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	r := open(t, eventstore.New(f, nil), accounts())
	g := gated(f)
	first := r.Submit(t.Context(), deposit{"a", 1})
	a := <-g.arrived
	require.Equal(t, driver.NoStream, a.Expected)
	var rest []*command.Pending
	for range 50 {
		rest = append(rest, r.Submit(t.Context(), deposit{"a", 1}))
	}
	g.pass <- nil
	a = <-g.arrived
	require.Equal(t, int64(1), a.Expected)
	require.Len(t, a.Events, 50)
	_, err := first.Wait(t.Context())
	require.NoError(t, err)
	for _, p := range rest {
		select {
		case <-p.Done():
			t.Fatal("a command was answered before its events were durable")
		default:
		}
	}
	g.pass <- nil
	for i, p := range rest {
		res, err := p.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, eventstore.Version(i+2), res.Version)
		require.Equal(t, eventstore.Position(51), res.Position, "the last position of the batch")
		require.Equal(t, []any{deposited{1}}, res.Events)
		require.False(t, res.Repeated)
		require.Equal(t, eventstore.StreamName("account-a"), res.Stream)
	}
}

func TestBatchTakesWhatFitsOneAppendAndNeverSplitsACommand(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	f.limits = func(l *driver.Limits) { l.AppendEvents = 4 }
	r := open(t, eventstore.New(f, nil), accounts())
	g := gated(f)
	many := func(n int) custom {
		return custom{"a", func(account) ([]event, error) {
			out := make([]event, n)
			for i := range out {
				out[i] = deposited{1}
			}
			return out, nil
		}}
	}
	pending := []*command.Pending{r.Submit(t.Context(), many(1))}
	<-g.arrived
	for _, n := range []int{3, 3, 1, 5, 2, 2, 1} {
		pending = append(pending, r.Submit(t.Context(), many(n)))
	}
	g.open(f)
	for i, p := range pending {
		_, err := p.Wait(t.Context())
		if i == 4 {
			require.ErrorIs(t, err, eventstore.ErrTooLarge, "five events never fit")
			continue
		}
		require.NoError(t, err)
	}
	require.Equal(t, []int{1, 3, 4, 4, 1}, f.sizes())
}

func TestCommandWhoseEventIsTooLargeFailsAlone(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	f.limits = func(l *driver.Limits) { l.EventBytes = 1000; l.AppendBytes = 4000 }
	r, err := aggregate.New(eventstore.New(f, nil), notes())
	require.NoError(t, err)
	g := gated(f)
	pending := []*command.Pending{r.Submit(t.Context(), write{"n", 1})}
	<-g.arrived
	for i := range 100 {
		n := 300 // a few of them fit one append
		if i == 57 {
			n = 1500
		}
		pending = append(pending, r.Submit(t.Context(), write{"n", n}))
	}
	g.open(f)
	total := 0
	for i, p := range pending {
		_, err := p.Wait(t.Context())
		if i == 58 {
			require.ErrorIs(t, err, eventstore.ErrTooLarge)
			continue
		}
		require.NoError(t, err)
		total++
	}
	require.NoError(t, r.View(t.Context(), "n", func(n *notebook, v eventstore.Version) {
		require.Equal(t, eventstore.Version(total), v)
		require.Len(t, n.Sizes, total)
	}))
}

func TestCommandWhoseEventCannotBeEncodedFailsAlone(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	r, err := aggregate.New(eventstore.New(f, nil), notes())
	require.NoError(t, err)
	g := gated(f)
	pending := []*command.Pending{r.Submit(t.Context(), write{"n", 1})}
	<-g.arrived
	for i := range 9 {
		pending = append(pending, r.Submit(t.Context(), write{"n", map[bool]int{true: -1, false: 1}[i == 4]}))
	}
	g.open(f)
	for i, p := range pending {
		_, err := p.Wait(t.Context())
		if i == 5 {
			require.ErrorIs(t, err, eventstore.ErrCodec)
			continue
		}
		require.NoError(t, err)
	}
}

func TestFullQueueBlocksUntilThereIsRoomHeedingTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFaulty()
		typ := accounts()
		typ.Queue = 2
		s := eventstore.New(f, nil)
		r := open(t, s, typ)
		g := gated(f)
		held := r.Submit(t.Context(), numbered("a", 0))
		<-g.arrived
		queued := []*command.Pending{r.Submit(t.Context(), numbered("a", 1)), r.Submit(t.Context(), numbered("a", 2))}

		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error)
		go func() {
			_, err := r.Submit(ctx, numbered("a", 3)).Wait(t.Context())
			gaveUp <- err
		}()
		blocked := make(chan *command.Pending)
		synctest.Wait()
		go func() { blocked <- r.Submit(t.Context(), numbered("a", 4)) }()
		synctest.Wait()
		select {
		case <-blocked:
			t.Fatal("a third command was queued")
		default:
		}
		cancel()
		require.ErrorIs(t, <-gaveUp, context.Canceled)

		// A place becomes free when a command leaves, as well as when it is taken.
		g.pass <- nil
		p := <-blocked
		<-g.arrived
		g.open(f)
		for _, p := range append(queued, held, p) {
			_, err := p.Wait(t.Context())
			require.NoError(t, err)
		}
		require.Equal(t, []int{0, 1, 2, 4}, amounts(t, s, "a"))
	})
}

func TestPlaceOfACommandThatLeavesGoesToTheFirstThatIsBlocked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFaulty()
		typ := accounts()
		typ.Queue = 1
		s := eventstore.New(f, nil)
		r := open(t, s, typ)
		g := gated(f)
		held := r.Submit(t.Context(), numbered("a", 0))
		<-g.arrived
		ctx, cancel := context.WithCancel(t.Context())
		leaves := r.Submit(ctx, numbered("a", 1))
		admitted := make(chan *command.Pending, 1)
		go func() { admitted <- r.Submit(t.Context(), numbered("a", 2)) }()
		synctest.Wait()
		require.Empty(t, admitted)
		cancel()
		p := <-admitted
		_, err := leaves.Wait(t.Context())
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, command.ErrOutcomeUnknown)
		g.open(f)
		for _, p := range []*command.Pending{held, p} {
			_, err := p.Wait(t.Context())
			require.NoError(t, err)
		}
		require.Equal(t, []int{0, 2}, amounts(t, s, "a"))
	})
}

func TestCallerWhoseContextEndsInTheQueueIsNotExecuted(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Execute", "Submit", "View"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFaulty()
				r := open(t, eventstore.New(f, nil), accounts())
				g := gated(f)
				held := r.Submit(t.Context(), deposit{"a", 1})
				<-g.arrived
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				executed := false
				c := custom{"a", func(account) ([]event, error) { executed = true; return nil, nil }}
				start := time.Now()
				var err error
				switch name {
				case "Execute":
					_, err = r.Execute(ctx, c)
				case "Submit":
					_, err = r.Submit(ctx, c).Wait(t.Context())
				case "View":
					err = r.View(ctx, "a", func(*account, eventstore.Version) { executed = true })
				}
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.NotErrorIs(t, err, command.ErrOutcomeUnknown)
				require.Equal(t, time.Second, time.Since(start), "it is told at once")
				g.open(f)
				_, err = held.Wait(t.Context())
				require.NoError(t, err)
				synctest.Wait()
				require.False(t, executed)
			})
		})
	}
}

func TestCallerWhoseContextEndsDuringTheAppendIsToldThatTheOutcomeIsUnknown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFaulty()
		r := open(t, eventstore.New(f, nil), accounts())
		g := gated(f)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := r.Execute(ctx, deposit{"a", 1}) // the holder itself
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, command.ErrOutcomeUnknown)
		<-g.arrived
		require.NoError(t, f.ctxs[0].Err(), "the append goes on")
		g.open(f)
		sum, _ := balance(t, r, "a")
		require.Equal(t, 1, sum)
	})
}

func TestSubmittedCommandWhoseContextEndsDuringTheAppendIsAnsweredTruly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFaulty()
		r := open(t, eventstore.New(f, nil), accounts())
		g := gated(f)
		ctx, cancel := context.WithCancel(t.Context())
		p := r.Submit(ctx, deposit{"a", 1})
		<-g.arrived
		cancel()
		synctest.Wait()
		waiting, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		_, err := p.Wait(waiting)
		require.ErrorIs(t, err, command.ErrOutcomeUnknown)
		g.open(f)
		res, err := p.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, eventstore.Version(1), res.Version)
	})
}

func TestCallerWhoseContextEndsDuringTheLoadIsNotExecuted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFaulty()
		slow := &slowReads{faulty: f, pass: make(chan struct{})}
		r := open(t, eventstore.New(slow, nil), accounts())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := r.Execute(ctx, deposit{"a", 1})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NotErrorIs(t, err, command.ErrOutcomeUnknown)
		close(slow.pass)
		synctest.Wait()
		require.Empty(t, f.sizes())
	})
}

// slowReads holds up reads of streams.
type slowReads struct {
	*faulty
	pass chan struct{}
}

func (s *slowReads) ReadStream(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
	<-s.pass
	return s.faulty.ReadStream(ctx, stream, from, dir, limit)
}

func TestNoCallerServesOthersForMoreThanOneBatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFaulty()
		r := open(t, eventstore.New(f, nil), accounts())
		g := gated(f)
		ctx := context.Background() // callers work themselves
		answered := make(chan int, 3)
		for i := range 3 {
			go func() {
				if _, err := r.Execute(ctx, deposit{"a", 1}); err != nil {
					t.Error(err)
				}
				answered <- i
			}()
			synctest.Wait()
		}
		g.pass <- nil
		require.Equal(t, 0, <-answered, "while the batch of the others is being appended")
		synctest.Wait()
		require.Len(t, g.arrived, 2)
		g.open(f)
		<-answered
		<-answered
	})
}

func TestAggregateNobodyAsksForCostsNoGoroutine(t *testing.T) {
	t.Parallel()
	// A bubble fails if any goroutine is left in it.
	synctest.Test(t, func(t *testing.T) {
		typ := accounts()
		typ.Idle = time.Hour
		r := open(t, memstore.Open(nil), typ)
		for i := range 100 {
			_, err := r.Submit(t.Context(), deposit{fmt.Sprint(i), 1}).Wait(t.Context())
			require.NoError(t, err)
		}
	})
}

func TestViewWaitsForTheAppendUnderWayAndNeverShowsSpeculativeState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFaulty()
		r := open(t, eventstore.New(f, nil), accounts())
		_, err := r.Execute(t.Context(), deposit{"a", 5})
		require.NoError(t, err)
		g := gated(f)
		p := r.Submit(t.Context(), deposit{"a", 7})
		<-g.arrived
		type seen struct {
			balance int
			version eventstore.Version
		}
		views := make(chan seen, 2)
		for range 2 {
			go func() {
				b, v := balance(t, r, "a")
				views <- seen{b, v}
			}()
		}
		synctest.Wait()
		require.Empty(t, views)
		g.pass <- errDisk
		_, err = p.Wait(t.Context())
		require.ErrorIs(t, err, errDisk)
		require.Equal(t, seen{5, 1}, <-views)
		require.Equal(t, seen{5, 1}, <-views)
		g.open(f)
	})
}

func TestViewsShareTheAggregateAndHoldUpItsCommands(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFaulty()
		r := open(t, eventstore.New(f, nil), accounts())
		g := gated(f)
		held := r.Submit(t.Context(), deposit{"a", 1})
		<-g.arrived
		inside, leave := make(chan struct{}, 2), make(chan struct{})
		for range 2 {
			go func() {
				_ = r.View(context.Background(), "a", func(*account, eventstore.Version) {
					inside <- struct{}{}
					<-leave
				})
			}()
		}
		synctest.Wait()
		g.open(f)
		<-inside
		<-inside // both at once
		p := r.Submit(t.Context(), deposit{"a", 1})
		synctest.Wait()
		require.NotNil(t, p)
		select {
		case <-p.Done():
			t.Fatal("the state changed under a view")
		default:
		}
		close(leave)
		for _, p := range []*command.Pending{held, p} {
			_, err := p.Wait(t.Context())
			require.NoError(t, err)
		}
	})
}

func TestPanicInAViewLetsGoOfTheAggregate(t *testing.T) {
	t.Parallel()
	r := open(t, memstore.Open(nil), accounts())
	require.Panics(t, func() {
		_ = r.View(t.Context(), "a", func(*account, eventstore.Version) { panic("oh") })
	})
	_, err := r.Execute(t.Context(), deposit{"a", 1})
	require.NoError(t, err)
}

func TestViewOfAnAggregateWithoutEventsIsTheZeroState(t *testing.T) {
	t.Parallel()
	r := open(t, memstore.Open(nil), accounts())
	sum, v := balance(t, r, "nobody")
	require.Zero(t, sum)
	require.Zero(t, v)
}

func TestCommandWhoseEventCannotBeSealedFailsAlone(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	r := open(t, eventstore.New(f, &eventstore.Options{Seal: &picky{}}), accounts())
	g := gated(f)
	pending := []*command.Pending{r.Submit(t.Context(), numbered("a", 0))}
	<-g.arrived
	for i := 1; i < 20; i++ {
		pending = append(pending, r.Submit(t.Context(), numbered("a", i)))
	}
	g.open(f)
	for i, p := range pending {
		_, err := p.Wait(t.Context())
		if i == 13 {
			require.ErrorIs(t, err, errDisk)
			continue
		}
		require.NoError(t, err)
	}
}

// picky is a Sealer without the key for one amount.
type picky struct{ sealer }

func (*picky) Seal(_ context.Context, e *eventstore.Event, data []byte) ([]byte, error) {
	if e.Data.(deposited).Amount == 13 {
		return nil, errDisk
	}
	return data, nil
}
