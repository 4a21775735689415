package projection_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/projection"
)

// partitioned is a shelf in partitions.
func partitioned(target projection.Target[*Shelf], bad *poison, n int) *projection.Projection[*Shelf] {
	p := shelved(target, bad)
	p.Partitions, p.OnError = n, nil
	return p
}

// keyIn returns a key whose stream is in a partition of n.
func keyIn(partition, n int) string {
	for i := 0; ; i++ {
		if key := fmt.Sprint("k", i); eventstore.PartitionOf("shelf-"+key, n) == partition {
			return key
		}
	}
}

func TestAPartitionThatFailsHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, bad := shelfStore(t), &poison{}
		var m projection.Memory[Shelf]
		g := newGroup(s)
		require.NoError(t, g.Add(partitioned(&m, bad, 2)))
		a, b := keyIn(0, 2), keyIn(1, 2)
		bad.put(1)
		start(t, g)
		before := put(t, s, b, 10)
		wait(t, g, before)
		time.Sleep(2 * time.Second) // by when all partitions have written it
		put(t, s, a, 1, 2)
		want := []int{10}
		for n := 11; n < 41; n++ { // more than wait in a queue
			put(t, s, b, n)
			time.Sleep(time.Second)
			want = append(want, n)
		}
		last := put(t, s, a, 3)
		time.Sleep(5 * time.Second)
		require.Equal(t, Shelf{b: want}, shelf(&m))
		require.Equal(t, before, position(&m), "that of the last one")
		st := status(t, g, "shelf")
		require.Equal(t, before, st.Position)
		require.ErrorIs(t, st.LastError, errBoom)
		require.Equal(t, projection.Running, st.State)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, g.Wait(ctx, before+1), context.DeadlineExceeded)
		bad.cure()
		wait(t, g, last)
		require.Equal(t, Shelf{a: {1, 2, 3}, b: want}, shelf(&m))
		require.Equal(t, last, position(&m))
		require.NoError(t, status(t, g, "shelf").LastError)
		require.EqualValues(t, 34, status(t, g, "shelf").Handled)
	})
}

func TestPartitionsWorkAtTheSameTimeAndInOrderByKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := shelfStore(t)
		var m everybody
		p := &projection.Projection[*Shelf]{
			Name: "shelf", Target: &m, Partitions: 4,
			Key: func(r *eventstore.Recorded) string { return fmt.Sprint(r.Data.(Put).N % 8) },
			Handlers: []projection.Handler[*Shelf]{projection.On(func(_ context.Context, _ *Shelf, e Put, _ *eventstore.Recorded) error {
				time.Sleep(time.Second)
				return nil
			})},
		}
		g := newGroup(s)
		require.NoError(t, g.Add(p))
		per := make([]int, 4)
		for n := range 40 {
			put(t, s, "a", n)
			per[eventstore.PartitionOf(fmt.Sprint(n%8), 4)]++
		}
		begin := time.Now()
		start(t, g)
		wait(t, g, 40)
		most := 0
		for _, n := range per {
			most = max(most, n)
		}
		require.InDelta(t, most, time.Since(begin).Seconds(), 0.1, "as long as the longest of %v", per)
	})
}

// everybody is a target that lets all write at the same time. It keeps positions only.
type everybody struct {
	positions projection.Memory[struct{}]
}

func (e *everybody) Load(ctx context.Context, name string) (eventstore.Position, error) {
	return e.positions.Load(ctx, name)
}

func (e *everybody) Update(ctx context.Context, name string, from, to eventstore.Position, fn func(*Shelf) error) error {
	if err := fn(nil); err != nil {
		return err
	}
	return e.positions.Update(ctx, name, from, to, func(*struct{}) error { return nil })
}

func (e *everybody) Reset(ctx context.Context, name string) error {
	return e.positions.Reset(ctx, name)
}

func TestTheNumberOfPartitionsIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := shelfStore(t)
		put(t, s, "a", 1)
		last := put(t, s, "b", 2)
		var m projection.Memory[Shelf]
		target := lasting[*Shelf]{&m}
		run := func(n int) (*projection.Group, func() error) {
			g := newGroup(s)
			require.NoError(t, g.Add(partitioned(target, &poison{}, n)))
			stop := start(t, g)
			synctest.Wait()
			return g, stop
		}
		refused := func(n int) {
			g, stop := run(n)
			defer stop()
			st := status(t, g, "shelf")
			require.Equal(t, projection.Stopped, st.State, "%d partitions", n)
			require.ErrorIs(t, st.LastError, projection.ErrPartitions)
		}
		g, stop := run(3)
		wait(t, g, last)
		require.NoError(t, stop())
		refused(2)
		refused(1)
		g, stop = run(3)
		wait(t, g, put(t, s, "a", 3))
		require.Equal(t, Shelf{"a": {1, 3}, "b": {2}}, shelf(&m))
		require.NoError(t, stop())

		g, stop = run(1)
		require.NoError(t, g.Reset(t.Context(), "shelf"))
		wait(t, g, last+1)
		require.Equal(t, Shelf{"a": {1, 3}, "b": {2}}, shelf(&m))
		require.NoError(t, stop())
		refused(3)
	})
}

// counting counts what it decodes.
type counting struct {
	eventstore.Codec
	decoded atomic.Int64
}

func (c *counting) Unmarshal(data []byte, v any) error {
	c.decoded.Add(1)
	return c.Codec.Unmarshal(data, v)
}

func TestPartitionsDecodeAnEventOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		codec := &counting{Codec: eventstore.JSON}
		s := newStoreWith(t, eventstore.Options{Codecs: []eventstore.Codec{codec}})
		require.NoError(t, s.Types.Register("put", Put{}))
		for n := range 5000 {
			put(t, s, fmt.Sprint(n%100), n)
		}
		codec.decoded.Store(0)
		var m projection.Memory[Shelf]
		g := newGroup(s)
		require.NoError(t, g.Add(partitioned(&m, &poison{}, 8)))
		start(t, g)
		wait(t, g, 5000)
		require.EqualValues(t, 5000, codec.decoded.Load())
		require.Len(t, shelf(&m), 100)
	})
}

func TestNamesOfPartitionsAreRefused(t *testing.T) {
	t.Parallel()
	g := newGroup(shelfStore(t))
	a, b := partitioned(&projection.Memory[Shelf]{}, &poison{}, 2), partitioned(&projection.Memory[Shelf]{}, &poison{}, 2)
	b.Name = "shelf/1"
	require.Error(t, g.Add(a, b))
	require.NoError(t, g.Add(a))
	require.Error(t, g.Add(b))
	b.Name = "shelf/one"
	require.NoError(t, g.Add(b))
	for _, n := range []int{-1, 257} {
		require.Error(t, newGroup(shelfStore(t)).Add(partitioned(&projection.Memory[Shelf]{}, &poison{}, n)))
	}
}
