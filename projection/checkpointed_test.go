package projection_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/eventstoretest"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/projection"
)

// A sink has no transactions.
type sink struct {
	mu   sync.Mutex
	seen []int
}

func (s *sink) list() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

func (s *sink) projection(store *eventstore.Store, bad *poison) *projection.Projection[struct{}] {
	return &projection.Projection[struct{}]{
		Name: "sink", Target: projection.Checkpointed(store), OnError: projection.ParkAfter(1),
		Handlers: []projection.Handler[struct{}]{projection.On(func(_ context.Context, _ struct{}, e Put, _ *eventstore.Recorded) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.seen = append(s.seen, e.N)
			if bad.in(e.N) {
				return errBoom
			}
			return nil
		})},
	}
}

func TestASinkGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := shelfStore(t)
		out, bad := &sink{}, &poison{}
		run := func() (*projection.Group, func() error) {
			g := newGroup(s)
			require.NoError(t, g.Add(out.projection(s, bad)))
			return g, start(t, g)
		}
		g, stop := run()
		wait(t, g, put(t, s, "a", 1, 2))
		require.NoError(t, stop())
		at := put(t, s, "a", 3)
		g, _ = run()
		wait(t, g, at)
		require.Equal(t, []int{1, 2, 3}, out.list())
		bad.put(4)
		wait(t, g, put(t, s, "a", 4, 5))
		require.Equal(t, []int{1, 2, 3, 4}, out.list(), "what failed is not undone")
		require.Equal(t, 1, status(t, g, "sink").Parked)
		require.NoError(t, g.Discard(t.Context(), "sink", "shelf-a"))
		require.NoError(t, g.Reset(t.Context(), "sink"))
		bad.cure()
		wait(t, g, at)
		synctest.Wait()
		require.Equal(t, []int{1, 2, 3, 4, 1, 2, 3, 4, 5}, out.list())
	})
}

func TestASinkGetsEventsAgainWhenThePositionIsNotWritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, faults := eventstoretest.Faulty(t, memstore.NewDriver())
		s := eventstore.New(d, &eventstore.Options{Logger: quiet})
		t.Cleanup(func() { s.Close() })
		require.NoError(t, s.Types.Register("put", Put{}))
		out := &sink{}
		g := newGroup(s)
		require.NoError(t, g.Add(out.projection(s, &poison{})))
		start(t, g)
		faults.Before(eventstoretest.OpSaveCheckpoint, 1, errBoom)
		wait(t, g, put(t, s, "a", 1))
		require.Equal(t, []int{1, 1}, out.list())
		faults.After(eventstoretest.OpSaveCheckpoint, 1, errBoom)
		wait(t, g, put(t, s, "a", 2))
		require.Equal(t, []int{1, 1, 2}, out.list(), "it was written")
	})
}

func TestASinkNeedsCheckpoints(t *testing.T) {
	t.Parallel()
	s := eventstore.New(struct{ driver.Store }{memstore.NewDriver()}, &eventstore.Options{Logger: quiet})
	t.Cleanup(func() { s.Close() })
	_, err := projection.Checkpointed(s).Load(t.Context(), "sink")
	require.ErrorIs(t, err, eventstore.ErrUnsupported)
	require.ErrorIs(t, projection.Checkpointed(s).Reset(t.Context(), "sink"), eventstore.ErrUnsupported)
}
