package projection_test

import (
	"context"
	"path/filepath"
	"strconv"
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

// benchRows is a history of b.N events for a table of b.N rows.
func benchRows(b *testing.B) (s *eventstore.Store, last eventstore.Position) {
	s, err := sqlitestore.Open(filepath.Join(b.TempDir(), "events.db"), &sqlitestore.Options{Synchronous: sqlitestore.Normal})
	require.NoError(b, err)
	b.Cleanup(func() { s.Close() })
	require.NoError(b, s.Types.Register("put", Put{}))
	const batch = 1000
	for n := 0; n < b.N; n += batch {
		ns := make([]int, min(batch, b.N-n))
		for i := range ns {
			ns[i] = n + i
		}
		last = put(b, s, strconv.Itoa(n/batch%64), ns...)
	}
	return s, last
}

const insertRow = "INSERT INTO rows(n, position) VALUES(?, ?)"

func insert(c *sqlite.Conn, n int, at eventstore.Position) error {
	st, err := c.Prepare(insertRow)
	if err != nil {
		return err
	}
	st.BindInt64(1, int64(n))
	st.BindInt64(2, int64(at))
	if _, err := st.Step(); err != nil {
		return err
	}
	return st.Reset()
}

// BenchmarkReplay fills a table from a history, one row an event; bare is SQL that writes the
// same rows into the same file in transactions of 512.
func BenchmarkReplay(b *testing.B) {
	rate := func(b *testing.B) { b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s") }
	b.Run("bare", func(b *testing.B) {
		s, _ := benchRows(b)
		m := openRows(b, s, sqlitestore.Target)
		b.ResetTimer()
		for n := 0; n < b.N; n += 512 {
			require.NoError(b, m.Update(b.Context(), "bare", eventstore.Position(n), eventstore.Position(n+512), func(c *sqlite.Conn) error {
				for i := n; i < min(n+512, b.N); i++ {
					if err := insert(c, i, eventstore.Position(i+1)); err != nil {
						return err
					}
				}
				return nil
			}))
		}
		rate(b)
	})
	for _, partitions := range []int{1, 8} {
		b.Run("partitions="+strconv.Itoa(partitions), func(b *testing.B) {
			s, last := benchRows(b)
			m := openRows(b, s, sqlitestore.Target)
			g := newGroup(s)
			require.NoError(b, g.Add(&projection.Projection[*sqlite.Conn]{
				Name: "rows", Target: m.ReadModel, Partitions: partitions,
				Handlers: []projection.Handler[*sqlite.Conn]{projection.On(func(_ context.Context, c *sqlite.Conn, e Put, r *eventstore.Recorded) error {
					return insert(c, e.N, r.Position)
				})},
			}))
			b.ReportAllocs()
			b.ResetTimer()
			start(b, g)
			require.NoError(b, g.Wait(b.Context(), last))
			rate(b)
		})
	}
}

// BenchmarkPartitions hands events to eight partitions of a model that lets all write at once.
func BenchmarkPartitions(b *testing.B) {
	s := newStore(b)
	require.NoError(b, s.Types.Register("put", Put{}))
	var last eventstore.Position
	for n := 0; n < b.N; n += 1000 {
		last = put(b, s, strconv.Itoa(n/1000%64), make([]int, min(1000, b.N-n))...)
	}
	g := newGroup(s)
	require.NoError(b, g.Add(&projection.Projection[*Shelf]{
		Name: "shelf", Target: &everybody{}, Partitions: 8,
		Handlers: []projection.Handler[*Shelf]{projection.On(func(context.Context, *Shelf, Put, *eventstore.Recorded) error { return nil })},
	}))
	b.ReportAllocs()
	b.ResetTimer()
	start(b, g)
	require.NoError(b, g.Wait(b.Context(), last))
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkInline is an append, with and without a row in a model in the same transaction.
func BenchmarkInline(b *testing.B) {
	for _, inline := range []bool{false, true} {
		b.Run("inline="+strconv.FormatBool(inline), func(b *testing.B) {
			s := openFile(b)
			if inline {
				require.NoError(b, newGroup(s).Add(openRows(b, s, sqlitestore.TargetIn).projection()))
			}
			n := 0
			for b.Loop() {
				n++
				put(b, s, "a", n)
			}
		})
	}
}
