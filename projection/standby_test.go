package projection_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/projection"
)

// twins returns two groups that run the same projection on one target.
func twins(t *testing.T, s *eventstore.Store, m *projection.Memory[Log]) (a, b *projection.Group) {
	a, b = newGroup(s), newGroup(s)
	require.NoError(t, a.Add(logged("log", m)))
	require.NoError(t, b.Add(logged("log", m)))
	return a, b
}

func states(t *testing.T, gs ...*projection.Group) (list []projection.State) {
	for _, g := range gs {
		list = append(list, status(t, g, "log").State)
	}
	return list
}

func TestOneOfTwoThatRunTheSameProjectionStandsBy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m projection.Memory[Log]
		a, b := twins(t, s, &m)
		start(t, a)
		start(t, b)
		synctest.Wait()
		add(t, s, 1)
		synctest.Wait()
		require.ElementsMatch(t, []projection.State{projection.Running, projection.StandBy}, states(t, a, b))
		var want []int
		var last eventstore.Position
		for n := range 100 {
			last = add(t, s, n+2)
			time.Sleep(100 * time.Millisecond)
			want = append(want, n+2)
		}
		require.NoError(t, a.Wait(t.Context(), last))
		require.NoError(t, b.Wait(t.Context(), last))
		require.Equal(t, append([]int{1}, want...), seen(&m), "every event counts once")
		require.ElementsMatch(t, []projection.State{projection.Running, projection.StandBy}, states(t, a, b))
	})
}

func TestWhoStandsByTakesOverWhenTheOtherNoLongerGetsOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m projection.Memory[Log]
		a, b := twins(t, s, &m)
		stop := start(t, a)
		synctest.Wait()
		start(t, b)
		synctest.Wait()
		add(t, s, 1)
		synctest.Wait()
		if status(t, a, "log").State != projection.Running {
			a, b = b, a
			require.NoError(t, a.Pause(t.Context(), "log"))
		} else {
			require.NoError(t, stop())
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, projection.StandBy, status(t, b, "log").State, "there is nothing to do")
		before := time.Now()
		at := add(t, s, 2)
		require.NoError(t, b.Wait(t.Context(), at))
		require.LessOrEqual(t, time.Since(before), 5*time.Second)
		require.Equal(t, projection.Running, status(t, b, "log").State)
		require.Equal(t, []int{1, 2}, seen(&m))
	})
}

func TestWhoStandsByLeavesAloneOneThatOnlyMovesOverFilteredEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m projection.Memory[Log]
		a, b := twins(t, s, &m)
		start(t, a)
		start(t, b)
		synctest.Wait()
		add(t, s, 1)
		synctest.Wait()
		before := states(t, a, b)
		for range 200 {
			note(t, s, 1)
			time.Sleep(137 * time.Millisecond)
		}
		require.Equal(t, before, states(t, a, b))
	})
}

func TestWhoStandsByEndsWithItsGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m projection.Memory[Log]
		a, b := twins(t, s, &m)
		stops := []func() error{start(t, a), start(t, b)}
		synctest.Wait()
		add(t, s, 1)
		synctest.Wait()
		before := time.Now()
		for _, stop := range stops {
			require.NoError(t, stop())
		}
		require.Zero(t, time.Since(before))
	})
}

func TestWhoStandsByNoticesAClosedStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m projection.Memory[Log]
		a, b := twins(t, s, &m)
		results := make(chan error, 2)
		go func() { results <- a.Run(context.Background()) }()
		go func() { results <- b.Run(context.Background()) }()
		synctest.Wait()
		add(t, s, 1)
		synctest.Wait()
		require.NoError(t, s.Close())
		require.ErrorIs(t, <-results, eventstore.ErrClosed)
		require.ErrorIs(t, <-results, eventstore.ErrClosed)
	})
}

func TestAResetElsewhereStartsTheProjectionOverHere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m projection.Memory[Log]
		a, b := twins(t, s, &m) // b does not run
		start(t, a)
		require.NoError(t, a.Wait(t.Context(), add(t, s, 1, 2)))
		require.NoError(t, b.Reset(t.Context(), "log"))
		require.Empty(t, seen(&m))
		at := add(t, s, 3)
		time.Sleep(time.Second)
		require.Equal(t, []int{1, 2, 3}, seen(&m), "as soon as it writes it knows")
		require.NoError(t, b.Wait(t.Context(), at))
		require.Equal(t, projection.Running, status(t, a, "log").State)
	})
}

func TestACommitWhoseAnswerWasLostCountsOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		add(t, s, 1, 2)
		var m projection.Memory[Log]
		lost := 0
		target := &tap[*Log]{Target: &m, after: func(eventstore.Position) error {
			if lost++; lost%2 == 1 {
				return errBoom
			}
			return nil
		}}
		g := newGroup(s)
		require.NoError(t, g.Add(failing(target, failOn(), func(f projection.Failure) projection.Action {
			t.Errorf("blamed %+v", f)
			return projection.Skip()
		})))
		start(t, g)
		before := time.Now()
		var at eventstore.Position
		for n := range 9 {
			at = add(t, s, n+3)
			require.NoError(t, g.Wait(t.Context(), at))
		}
		require.Less(t, time.Since(before), time.Second, "it does not stand by for itself")
		require.Equal(t, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, seen(&m))
	})
}

func TestATargetThatIsAlwaysMovedIsNotTriedWithoutPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		at := add(t, s, 1)
		var m projection.Memory[Log]
		tries := 0
		began := time.Now()
		g := newGroup(s)
		require.NoError(t, g.Add(logged("log", &tap[*Log]{Target: &m, before: func(eventstore.Position) error {
			if tries++; time.Since(began) < time.Minute {
				return projection.ErrMoved
			}
			return nil
		}})))
		start(t, g)
		require.NoError(t, g.Wait(t.Context(), at))
		require.Less(t, tries, 20)
	})
}
