package projection_test

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
	"github.com/levada-go/levada/projection"
)

// BenchmarkLatency is the time from an append's return to the handler's call, and to the commit of the read model, one
// event at a time: of a model in memory beside a store in memory, and of one in SQLite beside a durable store.
func BenchmarkLatency(b *testing.B) {
	b.Run("memory", func(b *testing.B) {
		s := newStore(b)
		var m projection.Memory[Sum]
		latency(b, s, &m, func(m *Sum, n int) error {
			m.N += n
			return nil
		})
	})
	b.Run("sqlite", func(b *testing.B) {
		s, err := sqlitestore.Open(filepath.Join(b.TempDir(), "events.db"), nil)
		require.NoError(b, err)
		b.Cleanup(func() { s.Close() })
		register(b, s)
		model, err := sqlitestore.Target(s, sqlitestore.Model{Tables: []string{"sum"}, Schema: `CREATE TABLE sum(n INTEGER NOT NULL) STRICT; INSERT INTO sum VALUES(0)`})
		require.NoError(b, err)
		latency(b, s, model, func(c *sqlite.Conn, n int) error {
			return sqlitex.Execute(c, "UPDATE sum SET n = n + ?", &sqlitex.ExecOptions{Args: []any{n}})
		})
	})
}

func latency[T any](b *testing.B, s *eventstore.Store, target projection.Target[T], write func(tx T, n int) error) {
	handled, committed := make(chan time.Time, 1), make(chan time.Time, 1)
	g := newGroup(s)
	require.NoError(b, g.Add(&projection.Projection[T]{
		Name:   "sum",
		Target: &tap[T]{Target: target, after: func(eventstore.Position) error { committed <- time.Now(); return nil }},
		Handlers: []projection.Handler[T]{projection.On(func(_ context.Context, tx T, e Added, _ *eventstore.Recorded) error {
			handled <- time.Now()
			return write(tx, e.N)
		})},
	}))
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error)
	go func() { ended <- g.Run(ctx) }()
	var calls, commits []time.Duration
	b.ResetTimer()
	for range b.N {
		add(b, s, 1)
		returned := time.Now()
		calls = append(calls, max(0, (<-handled).Sub(returned))) // it may come before
		commits = append(commits, max(0, (<-committed).Sub(returned)))
	}
	b.StopTimer()
	cancel()
	require.NoError(b, <-ended)
	for what, took := range map[string][]time.Duration{"handled": calls, "committed": commits} {
		slices.Sort(took)
		for name, p := range map[string]float64{"-p50-µs": 0.5, "-p99-µs": 0.99} {
			b.ReportMetric(float64(took[int(p*float64(len(took)-1))].Nanoseconds())/1e3, what+name)
		}
	}
}
