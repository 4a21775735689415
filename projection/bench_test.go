package projection_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
	"github.com/levada-go/levada/projection"
)

// BenchmarkCatchUp handles a history that is there already, per event: the bare
// Follow is what no projection can be quicker than.
func BenchmarkCatchUp(b *testing.B) {
	fill := func(b *testing.B, s *eventstore.Store) (at eventstore.Position) {
		batch := make([]int, 500)
		for n := 0; n < b.N; n += len(batch) {
			at = add(b, s, batch[:min(len(batch), b.N-n)]...)
		}
		b.ReportAllocs()
		b.ResetTimer()
		return at
	}
	b.Run("follow", func(b *testing.B) {
		s := newStore(b)
		last := fill(b, s)
		for batch, err := range s.Follow(b.Context(), eventstore.Filter{Types: []string{"added"}}, 0) {
			require.NoError(b, err)
			if batch.Position >= last {
				break
			}
		}
	})
	b.Run("memory", func(b *testing.B) {
		s := newStore(b)
		last := fill(b, s)
		var m projection.Memory[Sum]
		g := newGroup(s)
		require.NoError(b, g.Add(&projection.Projection[*Sum]{Name: "sum", Target: &m,
			Handlers: []projection.Handler[*Sum]{projection.On(func(_ context.Context, s *Sum, e Added, _ *eventstore.Recorded) error {
				s.N += e.N
				return nil
			})},
		}))
		start(b, g)
		require.NoError(b, g.Wait(b.Context(), last))
	})
	b.Run("sqlite", func(b *testing.B) {
		s, err := sqlitestore.Open(filepath.Join(b.TempDir(), "events.db"), nil)
		require.NoError(b, err)
		b.Cleanup(func() { s.Close() })
		register(b, s)
		last := fill(b, s)
		model, err := sqlitestore.Target(s, sqlitestore.Model{Tables: []string{"sum"}, Schema: `CREATE TABLE sum(n INTEGER NOT NULL) STRICT; INSERT INTO sum VALUES(0)`})
		require.NoError(b, err)
		g := newGroup(s)
		require.NoError(b, g.Add(&projection.Projection[*sqlite.Conn]{Name: "sum", Target: model,
			Handlers: []projection.Handler[*sqlite.Conn]{projection.On(func(_ context.Context, c *sqlite.Conn, e Added, _ *eventstore.Recorded) error {
				return sqlitex.Execute(c, "UPDATE sum SET n = n + ?", &sqlitex.ExecOptions{Args: []any{e.N}})
			})},
		}))
		start(b, g)
		require.NoError(b, g.Wait(b.Context(), last))
	})
}

// BenchmarkWait is an append and the wait until a model in memory has it.
func BenchmarkWait(b *testing.B) {
	s := newStore(b)
	var m projection.Memory[Sum]
	g := newGroup(s)
	require.NoError(b, g.Add(&projection.Projection[*Sum]{Name: "sum", Target: &m,
		Handlers: []projection.Handler[*Sum]{projection.On(func(_ context.Context, s *Sum, e Added, _ *eventstore.Recorded) error {
			s.N += e.N
			return nil
		})},
	}))
	start(b, g)
	b.ReportAllocs()
	for b.Loop() {
		at := add(b, s, 1)
		if err := g.Wait(b.Context(), at); err != nil {
			b.Fatal(err)
		}
	}
}
