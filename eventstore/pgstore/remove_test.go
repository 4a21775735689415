package pgstore

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/internal/postgrestest"
	"github.com/levada-go/levada/projection"
)

var _ projection.Remover = (*ReadModel)(nil)

func TestRemoveLeavesNothingOfTheModel(t *testing.T) {
	inEveryHome(t, func(t *testing.T, _ *pgxpool.Pool, open func(Model) (*ReadModel, error)) {
		ctx := t.Context()
		m, err := open(countModel)
		require.NoError(t, err)
		other, err := open(Model{Tables: []string{"other"}, Schema: "CREATE TABLE other(x int)"})
		require.NoError(t, err)
		require.NoError(t, other.Update(ctx, "other", 0, 3, func(pgx.Tx) error { return nil }))
		require.NoError(t, m.Update(ctx, "p", 0, 5, count(ctx, "a")))
		require.NoError(t, m.Remove(ctx, "p"))
		require.NoError(t, m.Remove(ctx, "p"), "again")
		at, err := m.Load(ctx, "p")
		require.NoError(t, err)
		require.Zero(t, at)
		err = m.Read(ctx, func(tx pgx.Tx) error { _, err := tx.Exec(ctx, "SELECT * FROM counts"); return err })
		gone, ok := errors.AsType[*pgconn.PgError](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, "42P01", gone.Code)
		at, err = other.Load(ctx, "other")
		require.NoError(t, err)
		require.Equal(t, eventstore.Position(3), at)
		require.NoError(t, m.Reset(ctx, "p"))
		require.Equal(t, map[string]int{"start": 0}, counts(t, m))
	})
}

// Two inline versions that keep one rule: whatever is appended, to several streams at once too, while one takes over from the other,
// the rule is never broken.
func TestAnInlineModelIsReplacedWithoutALeak(t *testing.T) {
	t.Parallel()
	s := openStore(t, newPool(t, postgrestest.URL(t), 10))
	open := func(name string) *shelf {
		m, err := Target(t.Context(), s, Model{In: name, Tables: []string{"rows"}, Schema: rowsSchema + "; CREATE UNIQUE INDEX ON rows(n);"})
		require.NoError(t, err)
		return &shelf{ReadModel: m, bad: map[int]bool{}}
	}
	v1, v2 := open("v1"), open("v2")
	p1, p2 := v1.projection(), v2.projection()
	p1.Name, p2.Name, p2.Replaces = "rows-1", "rows-2", "rows-1"
	p1.Inline, p2.Inline = true, true
	g := &projection.Group{Store: s, Logger: discard}
	require.NoError(t, g.Add(p1, p2))
	startGroup(t, g)
	atomic, err := s.Atomic()
	require.NoError(t, err)
	var writers sync.WaitGroup
	end := make(chan struct{})
	for w := range 2 {
		writers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-end:
					return
				default:
				}
				one, two := eventstore.Event{Data: Put{"k", 2 * n}}, eventstore.Event{Data: Put{"k", 2*n + 1}}
				if w == 0 {
					_, _ = atomic.Append(t.Context(), eventstore.Part{Stream: "shelf-x", Expected: eventstore.Any, Events: []eventstore.Event{one}},
						eventstore.Part{Stream: "shelf-y", Expected: eventstore.Any, Events: []eventstore.Event{two}})
				} else {
					_, _ = s.Append(t.Context(), eventstore.Stream("shelf", fmt.Sprint(w)), eventstore.Any, one, two)
				}
			}
		})
	}
	require.Eventually(t, func() bool {
		name, err := g.Current(t.Context(), "rows-1")
		return err == nil && name == "rows-2"
	}, time.Minute, 10*time.Millisecond)
	close(end)
	writers.Wait()
	at := put(t, s, "z", 1_000_000)
	waitFor(t, g, at, "rows-2")
	var want []int
	seen := map[int]bool{}
	for r, err := range s.ReadAll(t.Context(), eventstore.Filter{Types: []string{"put"}}, 0) {
		require.NoError(t, err)
		n := r.Data.(Put).N
		require.False(t, seen[n], "%d was put twice", n)
		seen[n] = true
		want = append(want, n)
	}
	require.Equal(t, want, v2.list(t))
	require.NoError(t, g.Remove(t.Context(), "rows-1"))
	put(t, s, "z", 1_000_001)
	require.Equal(t, append(want, 1_000_001), v2.list(t), "it has the event when the append returns")
}
