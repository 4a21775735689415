package serve

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
	"github.com/levada-go/levada/examples/exchange/book"
)

// fill sends n commands to a market from many callers.
func fill(b *testing.B, x *Exchange, n int) {
	var all sync.WaitGroup
	const callers = 256
	for w := range callers {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(w)))
			for range n / callers {
				c := book.Command{Op: book.Place, Side: book.Side(1 + rng.IntN(2)), ID: x.newID(), Owner: uint64(1 + w),
					Qty: int64(1 + rng.IntN(50)), Price: int64(9_000_000 + rng.IntN(200)), STP: book.STPCancelOldest}
				if _, err := x.execute(context.Background(), &x.symbols[0], &c); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// BenchmarkStart measures how long an exchange takes to open on 50,000 events:
// from the events alone, and from the snapshot that it left when it was closed.
func BenchmarkStart(b *testing.B) {
	const events = 50_000
	file := filepath.Join(b.TempDir(), "exchange.db")
	log := slog.New(slog.DiscardHandler)
	store, err := sqlitestore.Open(file, &sqlitestore.Options{Synchronous: sqlitestore.Normal})
	require.NoError(b, err)
	x, err := Open(store, Symbols(), log)
	require.NoError(b, err)
	fill(b, x, events)
	require.NoError(b, store.Close())
	open := func(run func(*Exchange, context.Context) error) {
		store, err := sqlitestore.Open(file, nil)
		require.NoError(b, err)
		x, err := Open(store, Symbols(), log)
		require.NoError(b, err)
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { _ = run(x, ctx) })
		require.NoError(b, x.Ready(ctx))
		cancel()
		running.Wait()
		require.NoError(b, store.Close())
	}
	b.Run("events", func(b *testing.B) {
		for b.Loop() {
			open(func(x *Exchange, ctx context.Context) error { return x.group.Run(ctx) }) // saves nothing
		}
		b.ReportMetric(events*float64(b.N)/b.Elapsed().Seconds(), "events/s")
	})
	open((*Exchange).Run)
	b.Run("snapshot", func(b *testing.B) {
		for b.Loop() {
			open((*Exchange).Run)
		}
	})
}

// BenchmarkFrames measures what it costs to make the frame of one event, which all
// who follow the book share.
func BenchmarkFrames(b *testing.B) {
	store := memstore.Open(nil)
	defer store.Close()
	x, err := Open(store, Symbols(), slog.New(slog.DiscardHandler))
	require.NoError(b, err)
	s := &x.symbols[0]
	m := newMarket()
	var bk book.Book
	var e book.Event
	n := 0
	for b.Loop() {
		n++
		bk.Do(book.Command{Op: book.Place, Side: book.Side(1 + n%2), ID: uint64(n), Qty: int64(1 + n%9), Price: int64(1000 + n%7)}, &e)
		d := decision{eventstore.Version(n), eventstore.Position(n), time.UnixMilli(int64(n)), &e.Command, e.Effects}
		before := m.lastBook
		m.apply(&d)
		changes, _ := m.since(before, (*change).beforeBook)
		f := dataFrame{Type: "update", Channel: channelBook, Symbol: s.Name, Prev: &before, Seq: m.lastBook}
		s.mergeLevels(&f, changes)
		_ = encode(f)
	}
}
