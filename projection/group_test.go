package projection_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/projection"
)

func TestRunEndsWithItsContextAfterTheBatchUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		at := add(t, s, 1, 2, 3)
		var m projection.Memory[Log]
		gate, begun := make(chan struct{}), make(chan struct{}, 3)
		g := newGroup(s)
		require.NoError(t, g.Add(&projection.Projection[*Log]{
			Name: "log", Target: &m,
			Handlers: []projection.Handler[*Log]{projection.On(func(ctx context.Context, l *Log, e Added, r *eventstore.Recorded) error {
				begun <- struct{}{}
				<-gate
				if err := ctx.Err(); err != nil {
					return err
				}
				return added(ctx, l, e, r)
			})},
		}))
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() { result <- g.Run(ctx) }()
		<-begun
		cancel()
		synctest.Wait()
		require.Empty(t, result, "the batch is not finished")
		add(t, s, 4)
		close(gate)
		require.NoError(t, <-result)
		require.Equal(t, []int{1, 2, 3}, seen(&m))
		require.Equal(t, at, position(&m))
		_, err := s.Append(t.Context(), "sum-1", eventstore.Any, eventstore.Event{Data: Added{5}})
		require.NoError(t, err, "the store belongs to whoever opened it")
	})
}

func TestRunDoesNotWaitForAPauseBetweenAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		add(t, s, 1, 2)
		var m projection.Memory[Log]
		g := newGroup(s)
		require.NoError(t, g.Add(failing(&m, failOn(2), func(projection.Failure) projection.Action { return projection.RetryAfter(time.Hour) })))
		stop := start(t, g)
		synctest.Wait()
		before := time.Now()
		require.NoError(t, stop())
		require.Zero(t, time.Since(before))
		require.Equal(t, []int{1}, seen(&m))
	})
}

func TestAStoreThatIsClosedEndsRunWithAnError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var a, b projection.Memory[Log]
		g := newGroup(s)
		two := logged("two", &b)
		require.NoError(t, g.Add(logged("log", &a), two))
		result := make(chan error, 1)
		go func() { result <- g.Run(context.Background()) }()
		at := add(t, s, 1)
		require.NoError(t, g.Wait(t.Context(), at))
		require.NoError(t, s.Close())
		require.ErrorIs(t, <-result, eventstore.ErrClosed)
		_, err := g.Status(t.Context())
		require.ErrorIs(t, err, eventstore.ErrClosed)
	})
}

func TestAnEmptyGroupRunsUntilItsContextEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(newStore(t))
		stop := start(t, g)
		synctest.Wait()
		require.NoError(t, stop())
	})
}

func TestAGroupRunsOnceAtATimeAndAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m, late projection.Memory[Log]
		g := newGroup(s)
		require.NoError(t, g.Add(logged("log", &m)))
		stop := start(t, g)
		synctest.Wait()
		require.ErrorContains(t, g.Run(t.Context()), "runs already")
		require.ErrorContains(t, g.Add(logged("late", &late)), "while the Group runs")
		require.NoError(t, g.Wait(t.Context(), add(t, s, 1)))
		require.NoError(t, stop())
		require.Equal(t, projection.StandBy, status(t, g, "log").State)
		require.NoError(t, g.Add(logged("late", &late)))
		at := add(t, s, 2)
		start(t, g)
		require.NoError(t, g.Wait(t.Context(), at))
		require.Equal(t, []int{1, 2}, seen(&m))
		require.Equal(t, []int{1, 2}, seen(&late))
	})
}

func TestAPositionMovedByFilteredEventsIsWrittenInTime(t *testing.T) {
	t.Parallel()
	setup := func(t *testing.T) (*eventstore.Store, *tap[*Log], func() error) {
		s := newStore(t)
		target := &tap[*Log]{Target: &projection.Memory[Log]{}}
		g := newGroup(s)
		require.NoError(t, g.Add(logged("log", target)))
		stop := start(t, g)
		synctest.Wait()
		return s, target, stop
	}
	t.Run("after a second", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s, target, _ := setup(t)
			note(t, s, 1)
			time.Sleep(600 * time.Millisecond)
			at := note(t, s, 1)
			time.Sleep(399 * time.Millisecond)
			synctest.Wait()
			require.Empty(t, target.written())
			time.Sleep(time.Millisecond)
			synctest.Wait()
			require.Equal(t, []update{{0, at}}, target.written())
			time.Sleep(time.Hour)
			require.Len(t, target.written(), 1, "and not again")
		})
	})
	t.Run("after 10,000 positions", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s, target, _ := setup(t)
			note(t, s, 9_999)
			synctest.Wait()
			require.Empty(t, target.written())
			at := note(t, s, 1)
			synctest.Wait()
			require.Equal(t, []update{{0, at}}, target.written())
		})
	})
	t.Run("at the end", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s, target, stop := setup(t)
			at := note(t, s, 1)
			synctest.Wait()
			require.NoError(t, stop())
			require.Equal(t, []update{{0, at}}, target.written())
		})
	})
	t.Run("with the next batch", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s, target, _ := setup(t)
			note(t, s, 1)
			synctest.Wait()
			at := add(t, s, 1)
			synctest.Wait()
			require.Equal(t, []update{{0, at}}, target.written())
		})
	})
	t.Run("when the target can again", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s, target, _ := setup(t)
			failures := 0
			target.before = func(eventstore.Position) error {
				if failures++; failures < 5 {
					return errBoom
				}
				return nil
			}
			at := note(t, s, 1)
			time.Sleep(4 * time.Second)
			synctest.Wait()
			require.Empty(t, target.written())
			time.Sleep(time.Second)
			synctest.Wait()
			require.Equal(t, []update{{0, at}}, target.written())
		})
	})
	t.Run("though the store is closed", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s, target, stop := setup(t)
			at := note(t, s, 1)
			synctest.Wait()
			require.NoError(t, s.Close())
			synctest.Wait()
			require.Equal(t, []update{{0, at}}, target.written())
			require.ErrorIs(t, stop(), eventstore.ErrClosed)
		})
	})
}

func TestPauseRestsAfterTheBatchUntilResume(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m projection.Memory[Log]
		gate := make(chan struct{}, 9)
		g := newGroup(s)
		require.NoError(t, g.Add(failing(&m, func(int) error { <-gate; return nil }, nil)))
		stop := start(t, g)
		add(t, s, 1)
		synctest.Wait()

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, g.Pause(ctx, "log"), context.DeadlineExceeded, "its batch takes longer")
		paused := make(chan error, 1)
		go func() { paused <- g.Pause(context.Background(), "log") }()
		synctest.Wait()
		require.Empty(t, paused)
		gate <- struct{}{}
		require.NoError(t, <-paused)
		require.Equal(t, []int{1}, seen(&m))
		require.Equal(t, projection.Paused, status(t, g, "log").State)

		gate <- struct{}{}
		at := add(t, s, 2)
		synctest.Wait()
		require.Equal(t, []int{1}, seen(&m))
		require.NoError(t, g.Pause(t.Context(), "log"), "twice is once")
		require.NoError(t, g.Resume("log"))
		require.NoError(t, g.Resume("log"))
		require.NoError(t, g.Wait(t.Context(), at))
		require.Equal(t, []int{1, 2}, seen(&m))

		require.NoError(t, g.Pause(t.Context(), "log"))
		require.NoError(t, stop())
		require.Equal(t, projection.Paused, status(t, g, "log").State, "also after Run")
		require.NoError(t, g.Resume("log"))
		require.Equal(t, projection.StandBy, status(t, g, "log").State, "nothing runs it")
	})
}

func TestAPauseThatIsTakenBackIsNone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m projection.Memory[Log]
		gate := make(chan struct{}, 9)
		g := newGroup(s)
		require.NoError(t, g.Add(failing(&m, func(int) error { <-gate; return nil }, nil)))
		start(t, g)
		add(t, s, 1)
		synctest.Wait()
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, g.Pause(ended, "log"), context.Canceled)
		require.NoError(t, g.Resume("log"))
		at := add(t, s, 2)
		gate <- struct{}{}
		gate <- struct{}{}
		require.NoError(t, g.Wait(t.Context(), at))
		require.Equal(t, []int{1, 2}, seen(&m))
	})
}

func TestResetHandlesEveryEventAnew(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(t *testing.T, g *projection.Group){
		"while it runs":   func(*testing.T, *projection.Group) {},
		"while it rests":  func(t *testing.T, g *projection.Group) { require.NoError(t, g.Pause(t.Context(), "log")) },
		"before Run runs": func(*testing.T, *projection.Group) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore(t)
				at := add(t, s, 1, 2)
				var m projection.Memory[Log]
				factor := 1
				g := newGroup(s)
				require.NoError(t, g.Add(&projection.Projection[*Log]{
					Name: "log", Target: &m,
					Handlers: []projection.Handler[*Log]{projection.On(func(_ context.Context, l *Log, e Added, _ *eventstore.Recorded) error {
						l.Seen = append(l.Seen, e.N*factor)
						return nil
					})},
				}))
				stop := start(t, g)
				require.NoError(t, g.Wait(t.Context(), at))
				prepare(t, g)
				if name == "before Run runs" {
					require.NoError(t, stop())
				}
				factor = 10
				require.NoError(t, g.Reset(t.Context(), "log"))
				if name == "before Run runs" {
					require.Empty(t, seen(&m))
					start(t, g)
				}
				require.NoError(t, g.Wait(t.Context(), at))
				require.Equal(t, []int{10, 20}, seen(&m))
				require.Equal(t, projection.Running, status(t, g, "log").State)
			})
		})
	}
}

func TestResetRestartsWhatWasStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		at := add(t, s, 1, 2)
		var m projection.Memory[Log]
		broken := true
		g := newGroup(s)
		require.NoError(t, g.Add(failing(&m, func(int) error {
			if broken {
				return errBoom
			}
			return nil
		}, func(projection.Failure) projection.Action { return projection.Stop() })))
		start(t, g)
		require.Error(t, g.Wait(t.Context(), at))
		broken = false
		require.NoError(t, g.Reset(t.Context(), "log"))
		require.NoError(t, g.Wait(t.Context(), at))
		require.Equal(t, []int{1, 2}, seen(&m))
	})
}

func TestWhatWasSkippedIsTriedAgainAfterReset(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		at := add(t, s, 1, 2)
		var m projection.Memory[Log]
		broken := true
		g := newGroup(s)
		require.NoError(t, g.Add(failing(&m, func(n int) error {
			if n == 1 && broken {
				return errBoom
			}
			return nil
		}, func(projection.Failure) projection.Action { return projection.Skip() })))
		start(t, g)
		require.NoError(t, g.Wait(t.Context(), at))
		require.Equal(t, []int{2}, seen(&m))
		broken = false
		require.NoError(t, g.Reset(t.Context(), "log"))
		require.NoError(t, g.Wait(t.Context(), at))
		require.Equal(t, []int{1, 2}, seen(&m))
	})
}

func TestAResetThatFailsLeavesTheProjectionAtWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m projection.Memory[Log]
		fail := func() error { return errBoom }
		g := newGroup(s)
		require.NoError(t, g.Add(logged("log", &tap[*Log]{Target: &m, reset: func() error { return fail() }})))
		start(t, g)
		require.NoError(t, g.Wait(t.Context(), add(t, s, 1)))
		require.ErrorIs(t, g.Reset(t.Context(), "log"), errBoom)
		fail = func() error { panic("reset") }
		require.ErrorContains(t, g.Reset(t.Context(), "log"), "panic: reset")
		require.NoError(t, g.Wait(t.Context(), add(t, s, 2)))
		require.Equal(t, []int{1, 2}, seen(&m))
	})
}

func TestAResetWaitsForTheBatchOrGoesAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m projection.Memory[Log]
		gate := make(chan struct{})
		g := newGroup(s)
		require.NoError(t, g.Add(failing(&m, func(int) error { <-gate; return nil }, nil)))
		start(t, g)
		at := add(t, s, 1)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, g.Reset(ctx, "log"), context.DeadlineExceeded)
		close(gate)
		require.NoError(t, g.Wait(t.Context(), at))
		require.Equal(t, []int{1}, seen(&m))
		require.NoError(t, g.Wait(t.Context(), add(t, s, 2)), "it runs again")
	})
}

func TestAHandlerCannotPauseOrResetItsOwnProjection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m projection.Memory[Log]
		var errs []error
		g := newGroup(s)
		require.NoError(t, g.Add(&projection.Projection[*Log]{
			Name: "log", Target: &m,
			Handlers: []projection.Handler[*Log]{projection.On(func(ctx context.Context, _ *Log, _ Added, _ *eventstore.Recorded) error {
				errs = append(errs, g.Pause(ctx, "log"), g.Reset(ctx, "log"))
				return nil
			})},
		}))
		start(t, g)
		require.NoError(t, g.Wait(t.Context(), add(t, s, 1)))
		require.Len(t, errs, 2)
		require.ErrorContains(t, errs[0], "called by its own handler")
		require.ErrorContains(t, errs[1], "called by its own handler")
	})
}

func TestWhatIsUnknownCannotBeHandled(t *testing.T) {
	t.Parallel()
	g := newGroup(newStore(t))
	for _, err := range []error{g.Pause(t.Context(), "who"), g.Resume("who"), g.Reset(t.Context(), "who")} {
		var stopped *projection.StoppedError
		require.ErrorAs(t, err, &stopped)
		require.Equal(t, projection.StoppedError{Name: "who"}, *stopped)
	}
	g.Moved("who", 7) // is nobody
}

func TestStatusTellsPositionHeadLagAndRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m, other projection.Memory[Log]
		gate := make(chan struct{}, 100)
		g := newGroup(s)
		require.NoError(t, g.Add(failing(&m, func(int) error { <-gate; return nil }, nil), logged("other", &other)))
		list, err := g.Status(t.Context())
		require.NoError(t, err)
		require.Equal(t, []projection.Status{
			{Name: "log", State: projection.StandBy},
			{Name: "other", State: projection.StandBy},
		}, list)

		start(t, g)
		first := add(t, s, 1)
		time.Sleep(time.Second)
		last := add(t, s, 2, 3)
		time.Sleep(time.Second)
		require.Equal(t, projection.Status{
			Name: "log", State: projection.Running, Head: last, Lag: 3, LagTime: 2 * time.Second,
		}, status(t, g, "log"))
		gate <- struct{}{}
		require.NoError(t, g.Wait(t.Context(), first, "log"))
		require.Equal(t, projection.Status{
			Name: "log", State: projection.Running, Position: first, Head: last, Lag: 2, LagTime: time.Second, Handled: 1, Rate: 0.1, ETA: 20 * time.Second,
		}, status(t, g, "log"))
		gate <- struct{}{}
		gate <- struct{}{}
		require.NoError(t, g.Wait(t.Context(), last, "log"))
		require.Equal(t, projection.Status{
			Name: "log", State: projection.Running, Position: last, Head: last, Handled: 3, Rate: 0.3,
		}, status(t, g, "log"))
		time.Sleep(10 * time.Second)
		require.Zero(t, status(t, g, "log").Rate)
	})
}

func TestStatusLooksUpWhatDoesNotRunHere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m projection.Memory[Log]
		fail := false
		g := newGroup(s)
		require.NoError(t, g.Add(logged("log", &tap[*Log]{Target: &m, load: func() error {
			if fail {
				return errBoom
			}
			return nil
		}})))
		at := add(t, s, 1, 2)
		require.NoError(t, m.Update(t.Context(), "log", 0, at-1, func(*Log) error { return nil }))
		st := status(t, g, "log")
		require.Equal(t, at-1, st.Position)
		require.EqualValues(t, 1, st.Lag)
		fail = true
		require.ErrorIs(t, status(t, g, "log").LastError, errBoom)
	})
}

// ticker is a Runner that is no Projection.
type ticker struct {
	run   func(ctx context.Context, g *projection.Group) error
	noneg bool
}

func (r ticker) Task(g *projection.Group) (projection.Task, error) {
	if r.noneg {
		return projection.Task{}, errBoom
	}
	return projection.Task{Name: "ticker", Run: func(ctx context.Context) error { return r.run(ctx, g) }}, nil
}

func TestOtherRunnersAreRunAndWaitedForToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(newStore(t))
		require.ErrorIs(t, g.Add(ticker{noneg: true}), errBoom)
		require.NoError(t, g.Add(ticker{run: func(ctx context.Context, g *projection.Group) error {
			for pos := eventstore.Position(1); ctx.Err() == nil; pos++ {
				g.Moved("ticker", pos)
				time.Sleep(time.Second)
			}
			return nil
		}}))
		start(t, g)
		before := time.Now()
		require.NoError(t, g.Wait(t.Context(), 5))
		require.Equal(t, 4*time.Second, time.Since(before))
		st := status(t, g, "ticker")
		require.Equal(t, st.Position, st.Head, "no position is beyond the head")
		require.Zero(t, st.Lag)
		require.ErrorIs(t, g.Reset(t.Context(), "ticker"), errors.ErrUnsupported)
		require.NoError(t, g.Pause(t.Context(), "ticker"))
		require.Equal(t, projection.Paused, status(t, g, "ticker").State)
	})
}

func TestARunnerThatEndsOrFailsIsStopped(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]func(context.Context, *projection.Group) error{
		"the task ended by itself": func(context.Context, *projection.Group) error { return nil },
		"boom":                     func(context.Context, *projection.Group) error { return errBoom },
		"panic: no":                func(context.Context, *projection.Group) error { panic("no") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newGroup(newStore(t))
				require.NoError(t, g.Add(ticker{run: run}))
				stop := start(t, g)
				synctest.Wait()
				st := status(t, g, "ticker")
				require.Equal(t, projection.Stopped, st.State)
				require.ErrorContains(t, st.LastError, name)
				require.ErrorContains(t, g.Wait(t.Context(), 1), name)
				require.NoError(t, stop())
			})
		})
	}
}

func TestTraceIsToldOfBatchesHandlersAndWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		type mark struct{}
		s := newStore(t)
		add(t, s, 1, 2)
		var m projection.Memory[Log]
		var told []any
		var inHandler []any
		g := newGroup(s)
		g.Trace = &projection.Trace{
			BatchStart: func(ctx context.Context, b projection.BatchInfo) context.Context {
				told = append(told, b)
				return context.WithValue(ctx, mark{}, "batch")
			},
			BatchEnd: func(ctx context.Context, err error) { told = append(told, ctx.Value(mark{}), err) },
			HandleStart: func(ctx context.Context, name string, r *eventstore.Recorded) context.Context {
				told = append(told, name, r.Version)
				require.Equal(t, "batch", ctx.Value(mark{}))
				return context.WithValue(ctx, mark{}, "handle")
			},
			HandleEnd: func(ctx context.Context, err error) { told = append(told, ctx.Value(mark{}), err) },
		}
		require.NoError(t, g.Add(&projection.Projection[*Log]{
			Name: "log", Target: &m,
			OnError: func(projection.Failure) projection.Action { return projection.Skip() },
			Handlers: []projection.Handler[*Log]{projection.On(func(ctx context.Context, _ *Log, e Added, _ *eventstore.Recorded) error {
				inHandler = append(inHandler, ctx.Value(mark{}))
				return failOn(2)(e.N)
			})},
		}))
		stop := start(t, g)
		synctest.Wait()
		require.NoError(t, stop())
		v := func(n int) eventstore.Version { return eventstore.Version(n) }
		require.Equal(t, []any{
			projection.BatchInfo{Projection: "log", Events: 2, From: 0, To: 2},
			"log", v(1), "handle", nil, "log", v(2), "handle", errBoom, "batch", errBoom,
			projection.BatchInfo{Projection: "log", Events: 1, From: 0, To: 2},
			"log", v(1), "handle", nil, "batch", nil,
		}, told)
		require.Equal(t, []any{"handle", "handle", "handle"}, inHandler)

		var waited []any
		g.Trace = &projection.Trace{
			WaitStart: func(ctx context.Context, w projection.WaitInfo) context.Context {
				waited = append(waited, w)
				return ctx
			},
			WaitEnd: func(_ context.Context, err error) { waited = append(waited, err) },
		}
		require.NoError(t, g.Wait(t.Context(), 2, "log"))
		require.Equal(t, []any{projection.WaitInfo{Position: 2, Names: []string{"log"}}, nil}, waited)
	})
}
