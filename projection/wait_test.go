package projection_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/projection"
)

func TestWaitLooksAtWhatWasHandledAndNotAtWhatIsDurable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m projection.Memory[Log]
		g := newGroup(s)
		require.NoError(t, g.Add(logged("log", &m)))
		start(t, g)
		synctest.Wait()
		before := time.Now()
		at := note(t, s, 3)
		require.NoError(t, g.Wait(t.Context(), at, "log"))
		require.Zero(t, time.Since(before), "filtered events advance the position at once")
		require.Zero(t, position(&m), "but it is not written yet")
	})
}

func TestWaitForThePastIsOverAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m projection.Memory[Log]
		g := newGroup(s)
		require.NoError(t, g.Add(logged("log", &m)))
		require.NoError(t, g.Wait(t.Context(), 0), "even if nothing runs")
		require.NoError(t, g.Wait(t.Context(), 0, "log"))
		stop := start(t, g)
		at := add(t, s, 1)
		require.NoError(t, g.Wait(t.Context(), at))
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		require.NoError(t, g.Wait(ended, at))
		require.NoError(t, stop())
	})
}

func TestWaitOfAnEmptyGroupWaitsForNothing(t *testing.T) {
	t.Parallel()
	require.NoError(t, newGroup(newStore(t)).Wait(t.Context(), 99))
}

func TestWaitWaitsForAllOrTheNamed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var quick, slow projection.Memory[Log]
		gate := make(chan struct{})
		held := failing(&slow, func(int) error { <-gate; return nil }, nil)
		held.Name = "slow"
		quickly := logged("quick", &quick)
		g := newGroup(s)
		require.NoError(t, g.Add(quickly, held))
		start(t, g)
		at := add(t, s, 1)
		require.NoError(t, g.Wait(t.Context(), at, "quick"))
		all := make(chan error, 2)
		go func() { all <- g.Wait(t.Context(), at) }()
		go func() { all <- g.Wait(t.Context(), at, "slow", "quick", "slow") }()
		synctest.Wait()
		require.Empty(t, all)
		close(gate)
		require.NoError(t, <-all)
		require.NoError(t, <-all)
		require.Equal(t, []int{1}, seen(&slow))
	})
}

func TestManyWaitAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m projection.Memory[Log]
		g := newGroup(s)
		require.NoError(t, g.Add(logged("log", &m)))
		start(t, g)
		var wg sync.WaitGroup
		for n := range 64 {
			wg.Go(func() {
				at := add(t, s, n)
				if err := g.Wait(t.Context(), at); err != nil {
					t.Error(err)
				}
				found := false
				for _, x := range seen(&m) {
					found = found || x == n
				}
				if !found {
					t.Errorf("%d is not there", n)
				}
			})
		}
		wg.Wait()
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		gate := make(chan struct{})
		defer close(gate)
		var m projection.Memory[Log]
		g := newGroup(s)
		require.NoError(t, g.Add(failing(&m, func(int) error { <-gate; return nil }, nil)))
		start(t, g)
		at := add(t, s, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		before := time.Now()
		err := g.Wait(ctx, at)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "waiting for log to reach 1, it is at 0")
		require.Equal(t, time.Minute, time.Since(before))
	})
}

func TestAGroupHasWhatWasAdded(t *testing.T) {
	t.Parallel()
	var g projection.Group
	require.False(t, g.Has("log"))
	g.Store = newStore(t)
	require.NoError(t, g.Add(logged("log", new(projection.Memory[Log]))))
	require.True(t, g.Has("log"))
	require.False(t, g.Has("lag"))
}

func TestWaitSaysWhatDoesNotRunHere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m projection.Memory[Log]
		g := newGroup(s)
		require.NoError(t, g.Add(logged("log", &m)))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := g.Wait(ctx, add(t, s, 1))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "it is at 0 and does not run in this process")
	})
}

func TestWaitForWhatWillNotBeHandledFailsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m, other projection.Memory[Log]
		g := newGroup(s)
		require.NoError(t, g.Add(failing(&m, failOn(1), func(projection.Failure) projection.Action { return projection.Stop() }), logged("other", &other)))
		start(t, g)
		require.NoError(t, g.Pause(t.Context(), "other"))
		at := add(t, s, 1)
		synctest.Wait()
		before := time.Now()
		for name, tt := range map[string]struct {
			names []string
			want  projection.StoppedError
		}{
			"unknown":           {[]string{"who"}, projection.StoppedError{Name: "who"}},
			"known and unknown": {[]string{"log", "who"}, projection.StoppedError{Name: "who"}},
			"paused":            {[]string{"other"}, projection.StoppedError{Name: "other", State: projection.Paused}},
			"stopped":           {[]string{"log"}, projection.StoppedError{Name: "log", State: projection.Stopped, Err: errBoom}},
			"all":               {nil, projection.StoppedError{Name: "log", State: projection.Stopped, Err: errBoom}},
		} {
			var stopped *projection.StoppedError
			require.ErrorAs(t, g.Wait(t.Context(), at, tt.names...), &stopped, name)
			require.Equal(t, tt.want, *stopped, name)
		}
		require.Zero(t, time.Since(before))
		require.NoError(t, g.Wait(t.Context(), at-1, "log", "other"), "what they have handled they have handled")
	})
}

func TestStoppedErrorsReadWell(t *testing.T) {
	t.Parallel()
	require.EqualError(t, &projection.StoppedError{Name: "p"}, `projection: there is no "p"`)
	require.EqualError(t, &projection.StoppedError{Name: "p", State: projection.Paused}, "projection: p is paused")
	err := &projection.StoppedError{Name: "p", State: projection.Stopped, Err: errBoom}
	require.EqualError(t, err, "projection: p is stopped: boom")
	require.ErrorIs(t, err, errBoom)
}

func TestThoseWhoWaitAreToldWhenItStops(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(g *projection.Group, s *eventstore.Store){
		"by a failure": func(*projection.Group, *eventstore.Store) {},
		"by a pause":   func(g *projection.Group, _ *eventstore.Store) { g.Pause(context.Background(), "log") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore(t)
				var m projection.Memory[Log]
				g := newGroup(s)
				require.NoError(t, g.Add(failing(&m, failOn(1), func(f projection.Failure) projection.Action {
					if name == "by a failure" && f.Attempt == 2 {
						return projection.Stop()
					}
					return projection.RetryAfter(time.Minute)
				})))
				start(t, g)
				at := add(t, s, 1)
				result := make(chan error, 1)
				go func() { result <- g.Wait(context.Background(), at) }()
				synctest.Wait()
				require.Empty(t, result)
				end(g, s)
				var stopped *projection.StoppedError
				require.ErrorAs(t, <-result, &stopped)
			})
		})
	}
}

func TestWaitLeavesOutTheProjectionWhoseHandlerCallsIt(t *testing.T) {
	t.Parallel()
	for name, names := range map[string][]string{"all": nil, "itself": {"log"}, "itself and another": {"log", "other"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore(t)
				var m, other projection.Memory[Log]
				g := newGroup(s)
				var waited []error
				require.NoError(t, g.Add(logged("other", &other), &projection.Projection[*Log]{
					Name: "log", Target: &m,
					Handlers: []projection.Handler[*Log]{projection.On(func(ctx context.Context, l *Log, e Added, r *eventstore.Recorded) error {
						waited = append(waited, g.Wait(ctx, r.Position, names...))
						return added(ctx, l, e, r)
					})},
				}))
				start(t, g)
				at := add(t, s, 1)
				require.NoError(t, g.Wait(t.Context(), at))
				require.Equal(t, []error{nil}, waited)
				require.Equal(t, []int{1}, seen(&m))
			})
		})
	}
}

func TestWaitOfAHandlerSeesThroughOtherGroupsOfItsStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var a, b projection.Memory[Log]
		one, two := newGroup(s), newGroup(s)
		waits := func(m *projection.Memory[Log], other *projection.Group) *projection.Projection[*Log] {
			return &projection.Projection[*Log]{Name: "log", Target: m,
				Handlers: []projection.Handler[*Log]{projection.On(func(ctx context.Context, _ *Log, _ Added, r *eventstore.Recorded) error {
					return other.Wait(ctx, r.Position)
				})},
			}
		}
		require.NoError(t, one.Add(waits(&a, two)))
		require.NoError(t, two.Add(waits(&b, one)))
		start(t, one)
		start(t, two)
		at := add(t, s, 1)
		require.NoError(t, one.Wait(t.Context(), at))
		require.NoError(t, two.Wait(t.Context(), at))
	})
}

func TestWaitElsewherePollsTheDurablePosition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m projection.Memory[Log]
		g := newGroup(newStore(t)) // does not run
		var looked []time.Duration
		began := time.Now()
		require.NoError(t, g.Add(logged("log", &tap[*Log]{Target: &m, load: func() error {
			looked = append(looked, time.Since(began))
			return nil
		}})))
		result := make(chan error, 1)
		go func() { result <- g.Wait(context.Background(), 7, "log") }()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.Empty(t, result)
		require.NoError(t, m.Update(t.Context(), "log", 0, 7, func(*Log) error { return nil }))
		require.NoError(t, <-result)
		want := []time.Duration{0, 10, 30, 70, 150, 310, 630, 1270, 2270, 3270, 4270, 5270}
		for i := range want {
			want[i] *= time.Millisecond
		}
		require.Equal(t, want, looked)
	})
}

func TestOneOfThoseWhoWaitElsewhereLooksForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m projection.Memory[Log]
		var loads atomic.Int64
		target := &tap[*Log]{Target: &m, load: func() error { loads.Add(1); return nil }}
		g := newGroup(s) // does not run
		require.NoError(t, g.Add(logged("log", target)))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		first := make(chan error, 1)
		go func() { first <- g.Wait(ctx, 5) }()
		synctest.Wait()
		results := make(chan error, 32)
		for range cap(results) {
			go func() { results <- g.Wait(context.Background(), 5) }()
		}
		time.Sleep(10 * time.Second)
		require.LessOrEqual(t, loads.Load(), int64(20))
		cancel() // the one who looks leaves
		require.ErrorIs(t, <-first, context.Canceled)
		loads.Store(0)
		require.NoError(t, m.Update(t.Context(), "log", 0, 5, func(*Log) error { return nil }))
		for range cap(results) {
			require.NoError(t, <-results)
		}
		require.LessOrEqual(t, loads.Load(), int64(20))
	})
}

func TestAWaitElsewhereOutlivesATargetThatFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m projection.Memory[Log]
		var loads int
		target := &tap[*Log]{Target: &m, load: func() error {
			if loads++; loads < 5 {
				return errBoom
			}
			return nil
		}}
		g := newGroup(newStore(t))
		require.NoError(t, g.Add(logged("log", target)))
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		err := g.Wait(ctx, 5)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, errBoom, "why it could not be known is said too")
		require.NoError(t, m.Update(t.Context(), "log", 0, 5, func(*Log) error { return nil }))
		require.NoError(t, g.Wait(t.Context(), 5))
	})
}

func TestAWaiterElsewhereHasFilteredPositionsWrittenAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m projection.Memory[Log]
		here, there := newGroup(s), newGroup(s)
		require.NoError(t, here.Add(logged("log", &m)))
		require.NoError(t, there.Add(logged("log", &m)))
		start(t, here)
		synctest.Wait()

		// Someone who has waited for a while is known.
		before := time.Now()
		result := make(chan error, 1)
		go func() { result <- there.Wait(context.Background(), 4) }()
		time.Sleep(500 * time.Millisecond)
		at := note(t, s, 3)
		synctest.Wait()
		require.Equal(t, at, position(&m), "written at once")
		require.Less(t, time.Since(before), time.Second)
		at = note(t, s, 1)
		require.NoError(t, <-result)
		require.Equal(t, at, position(&m))

		// Someone who comes later is found before the second is over.
		synctest.Wait()
		at = note(t, s, 1)
		before = time.Now()
		require.NoError(t, there.Wait(t.Context(), at))
		require.Less(t, time.Since(before), 400*time.Millisecond)

		// And when nobody waits any longer, nothing is written at once.
		leases, err := s.Leases()
		require.NoError(t, err)
		held, err := leases.Leases(t.Context(), "$wait-")
		require.NoError(t, err)
		require.Empty(t, held)
		time.Sleep(time.Second)
		note(t, s, 1)
		synctest.Wait()
		require.Equal(t, at, position(&m))
	})
}

func TestAWaiterOfAnotherProjectionChangesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		leases, err := s.Leases()
		require.NoError(t, err)
		_, ok, err := leases.Acquire(t.Context(), "$wait-logs/me", "me", time.Hour)
		require.NoError(t, err)
		require.True(t, ok)
		var m projection.Memory[Log]
		g := newGroup(s)
		require.NoError(t, g.Add(logged("log", &m)))
		start(t, g)
		note(t, s, 1)
		time.Sleep(999 * time.Millisecond)
		synctest.Wait()
		require.Zero(t, position(&m))
	})
}

func TestAWaitThatIsLongElsewhereKeepsItsLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m projection.Memory[Log]
		g := newGroup(s)
		require.NoError(t, g.Add(logged("log", &m)))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		result := make(chan error, 1)
		go func() { result <- g.Wait(ctx, 1) }()
		leases, err := s.Leases()
		require.NoError(t, err)
		for range 29 {
			time.Sleep(2 * time.Second)
			held, err := leases.Leases(t.Context(), "$wait-log/")
			require.NoError(t, err)
			require.Len(t, held, 1)
		}
		require.ErrorIs(t, <-result, context.DeadlineExceeded)
		held, err := leases.Leases(t.Context(), "$wait-")
		require.NoError(t, err)
		require.Empty(t, held)
	})
}

func TestAWaitThatBeganElsewhereGoesOnHereAndBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m projection.Memory[Log]
		g := newGroup(s)
		require.NoError(t, g.Add(logged("log", &m)))
		result := make(chan error, 2)
		go func() { result <- g.Wait(context.Background(), 2) }()
		time.Sleep(time.Minute)
		stop := start(t, g)
		add(t, s, 1)
		synctest.Wait()
		require.NoError(t, stop())
		go func() { result <- g.Wait(context.Background(), 2) }()
		time.Sleep(time.Minute)
		require.Empty(t, result)
		start(t, g)
		add(t, s, 2)
		require.NoError(t, errors.Join(<-result, <-result))
		require.Equal(t, []int{1, 2}, seen(&m))
	})
}

func TestHandlersThatWaitForOneAnotherDoNotWaitForEver(t *testing.T) {
	t.Parallel()
	for name, waits := range map[string]map[string][]string{
		"two for all":        {"a": nil, "b": nil},
		"two for each other": {"a": {"b"}, "b": {"a"}},
		"three in a ring":    {"a": {"b"}, "b": {"c"}, "c": {"a"}},
		"three for all":      {"a": nil, "b": nil, "c": nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore(t)
				g := newGroup(s)
				models := map[string]*projection.Memory[Log]{}
				for name, others := range waits {
					m := &projection.Memory[Log]{}
					models[name] = m
					require.NoError(t, g.Add(&projection.Projection[*Log]{
						Name: name, Target: m,
						Handlers: []projection.Handler[*Log]{projection.On(func(ctx context.Context, l *Log, e Added, r *eventstore.Recorded) error {
							// All are in their handlers when the first begins to wait.
							time.Sleep(time.Second)
							if e.N < 10 {
								at, err := s.Append(ctx, eventstore.StreamName("from-"+name), eventstore.Any, eventstore.Event{Data: Added{e.N + 10}})
								if err != nil {
									return err
								}
								if err := g.Wait(ctx, at.Position, others...); err != nil {
									return err
								}
							}
							return added(ctx, l, e, r)
						})},
					}))
				}
				start(t, g)
				add(t, s, 1, 2)
				time.Sleep(time.Minute)
				head, err := s.Head(t.Context())
				require.NoError(t, err)
				require.NoError(t, g.Wait(t.Context(), head))
				for _, m := range models {
					require.Len(t, seen(m), 2+2*len(waits))
				}
			})
		})
	}
}

func TestAHandlerThatWaitsDoesNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m, other projection.Memory[Log]
		g := newGroup(s)
		var waited error
		require.NoError(t, g.Add(
			failing(&other, failOn(1), func(projection.Failure) projection.Action { return projection.RetryAfter(time.Hour) }),
			&projection.Projection[*Log]{
				Name: "waits", Target: &m,
				Handlers: []projection.Handler[*Log]{projection.On(func(ctx context.Context, l *Log, e Added, r *eventstore.Recorded) error {
					waited = g.Wait(ctx, r.Position, "log")
					return waited
				})},
				OnError: func(f projection.Failure) projection.Action {
					t.Errorf("blamed %+v for the end", f)
					return projection.Skip()
				},
			}))
		stop := start(t, g)
		add(t, s, 1)
		synctest.Wait()
		before := time.Now()
		require.NoError(t, stop())
		require.Zero(t, time.Since(before))
		require.ErrorIs(t, waited, context.Canceled)
		require.Zero(t, position(&m))
	})
}

// late answers its first Load when the gate opens, with what it then no longer is.
type late struct {
	*projection.Memory[Log]
	gate  chan struct{}
	asked atomic.Bool
}

func (l *late) Load(ctx context.Context, name string) (eventstore.Position, error) {
	if l.asked.CompareAndSwap(false, true) {
		<-l.gate
		return 0, nil
	}
	return l.Memory.Load(ctx, name)
}

func TestALateAnswerFromTheTargetDoesNotHideWhatWasHandledSince(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		m := &late{Memory: &projection.Memory[Log]{}, gate: make(chan struct{})}
		g := newGroup(s)
		require.NoError(t, g.Add(logged("log", m)))
		at := add(t, s, 1)
		result := make(chan error, 1)
		go func() { result <- g.Wait(context.Background(), at) }()
		synctest.Wait()
		start(t, g)
		require.NoError(t, g.Wait(t.Context(), at))
		close(m.gate)
		require.NoError(t, <-result)
		require.NoError(t, g.Wait(t.Context(), at))
	})
}
