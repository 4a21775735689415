package projection_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/projection"
)

var errBoom = errors.New("boom")

// Sum holds no references, so that assignment copies it.
type Sum struct {
	N    int
	Last time.Time
	Name string
}

// Bag holds references and cannot be cloned.
type Bag struct{ N map[int]int }

func TestWhatAFailedUpdateDidToAMemoryIsUndone(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	t.Run("by assignment", func(t *testing.T) {
		t.Parallel()
		var m projection.Memory[Sum]
		require.NoError(t, m.Update(ctx, "p", 0, 3, func(s *Sum) error { s.N = 1; return nil }))
		require.ErrorIs(t, m.Update(ctx, "p", 3, 4, func(s *Sum) error { s.N = 2; return errBoom }), errBoom)
		require.Panics(t, func() { m.Update(ctx, "p", 3, 4, func(s *Sum) error { s.N = 2; panic("x") }) })
		m.View(func(s *Sum, at eventstore.Position) {
			require.Equal(t, Sum{N: 1}, *s)
			require.EqualValues(t, 3, at)
		})
	})
	t.Run("by a clone", func(t *testing.T) {
		t.Parallel()
		var m projection.Memory[Log]
		require.NoError(t, m.Update(ctx, "p", 0, 3, func(l *Log) error { l.Seen = []int{1}; return nil }))
		require.ErrorIs(t, m.Update(ctx, "p", 3, 4, func(l *Log) error { l.Seen[0] = 2; return errBoom }), errBoom)
		require.Equal(t, []int{1}, seen(&m))
		require.EqualValues(t, 3, position(&m))
	})
	t.Run("by starting over", func(t *testing.T) {
		t.Parallel()
		var m projection.Memory[Bag]
		require.NoError(t, m.Update(ctx, "p", 0, 3, func(b *Bag) error { b.N = map[int]int{1: 1}; return nil }))
		require.ErrorIs(t, m.Update(ctx, "p", 3, 4, func(b *Bag) error { b.N[1] = 2; return errBoom }), errBoom)
		m.View(func(b *Bag, at eventstore.Position) {
			require.Empty(t, b.N)
			require.Zero(t, at)
		})
	})
}

func TestMemoryIsMovedOnlyFromWhereItStands(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	var m projection.Memory[Sum]
	one := func(s *Sum) error { s.N++; return nil }
	require.NoError(t, m.Update(ctx, "p", 0, 3, one))
	require.ErrorIs(t, m.Update(ctx, "p", 0, 4, one), projection.ErrMoved)
	at, err := m.Load(ctx, "p")
	require.NoError(t, err)
	require.EqualValues(t, 3, at)
	m.View(func(s *Sum, _ eventstore.Position) { require.Equal(t, 1, s.N) })
	require.NoError(t, m.Reset(ctx, "p"))
	m.View(func(s *Sum, at eventstore.Position) {
		require.Zero(t, *s)
		require.Zero(t, at)
	})
}

func TestAMemoryIsForOneProjection(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	var m projection.Memory[Sum]
	_, err := m.Load(ctx, "p")
	require.NoError(t, err)
	_, err = m.Load(ctx, "q")
	require.ErrorContains(t, err, "belongs to the projection p")
	require.ErrorContains(t, m.Update(ctx, "q", 0, 1, func(*Sum) error { return nil }), "belongs to the projection p")
	require.ErrorContains(t, m.Reset(ctx, "q"), "belongs to the projection p")
}

func TestErrMovedIsTheStores(t *testing.T) {
	t.Parallel()
	require.Same(t, eventstore.ErrMoved, projection.ErrMoved)
}
