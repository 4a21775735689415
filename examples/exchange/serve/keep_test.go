package serve

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
	"github.com/levada-go/levada/examples/exchange/book"
	"github.com/levada-go/levada/projection"
)

// same reports what two models show differently.
func requireSame(t require.TestingT, a, b *Markets) {
	require.JSONEq(t, string(sorted(a)), string(sorted(b)))
	for symbol, m := range a.by {
		n := b.by[symbol]
		require.NotNil(t, n)
		require.Equal(t, m.levels, n.levels)
		require.Len(t, n.owners, len(m.owners))
		for owner := range m.owners {
			require.Equal(t, m.own(owner), n.own(owner))
		}
	}
}

// sorted is save with the orders, which come out of a map, in order.
func sorted(m *Markets) []byte {
	var all map[string]*savedMarket
	if err := json.Unmarshal(m.save(), &all); err != nil {
		panic(err)
	}
	for _, s := range all {
		byID := map[uint64]savedOrder{}
		for _, o := range s.Orders {
			byID[o.ID] = o
		}
		s.Orders = nil
		for id := uint64(0); len(byID) > 0; id++ {
			if o, ok := byID[id]; ok {
				s.Orders = append(s.Orders, o)
				delete(byID, id)
			}
		}
	}
	return encode(all)
}

func TestASavedModelGoesOnAsIfItHadNeverBeenSaved(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var b book.Book
		var whole, parts Markets
		for i := range rapid.IntRange(1, 60).Draw(t, "n") {
			c := drawCommand(t, uint64(i+1))
			var e book.Event
			b.Do(c, &e)
			if e.Reason == 0 {
				d := decision{eventstore.Version(i + 1), eventstore.Position(10 * (i + 1)), time.UnixMilli(int64(700 * i)), &e.Command, e.Effects}
				whole.open("X").apply(&d)
				parts.open("X").apply(&d)
			}
			if rapid.IntRange(0, 9).Draw(t, "save") == 0 {
				var again Markets
				require.NoError(t, again.restore(parts.save()))
				parts = again
			}
		}
		requireSame(t, &whole, &parts)
	})
}

// reopen opens the exchange on a file, lets fn use it, and returns how many events
// its read model was given.
func reopen(t *testing.T, file string, fn func(k *kit)) (handled uint64) {
	t.Run("open", func(t *testing.T) {
		store, err := sqlitestore.Open(file, nil)
		require.NoError(t, err)
		k := serveStore(t, store)
		fn(k)
		require.NoError(t, k.x.Ready(context.Background()))
		status, err := k.x.app.Status(context.Background())
		require.NoError(t, err)
		handled = status[0].Handled
	})
	return handled
}

func TestAnExchangeThatWasClosedDoesNotReadItsPast(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "exchange.db")
	var before, after Markets
	copyOf := func(k *kit, to *Markets) {
		require.NoError(t, k.x.Ready(context.Background()))
		k.x.markets.view(func(m *Markets, _ eventstore.Position) { require.NoError(t, to.restore(m.save())) })
	}
	require.EqualValues(t, 300, reopen(t, file, func(k *kit) {
		k.load(1, 300)
		copyOf(k, &before)
	}))
	require.Zero(t, reopen(t, file, func(k *kit) { copyOf(k, &after) }))
	require.Equal(t, len(before.by["BTC-USD"].orders), len(after.by["BTC-USD"].orders))
	require.Equal(t, before.by["BTC-USD"].levels, after.by["BTC-USD"].levels)
	require.Equal(t, before.by["BTC-USD"].candles, after.by["BTC-USD"].candles)
	var last Markets
	require.EqualValues(t, 40, reopen(t, file, func(k *kit) {
		k.load(2, 40)
		copyOf(k, &last)
	}))

	// A snapshot that cannot be used costs reading everything, no more.
	for _, bad := range []eventstore.Snapshot{
		{Schema: keptSchema, Data: []byte(`{"BTC-USD":null}`)},
		{Schema: keptSchema, Data: []byte(`[]`)},
		{Schema: keptSchema, Data: []byte(`not JSON`)},
		{Schema: keptSchema, Data: []byte(`{"BTC-USD":{"Orders":[{"ID":1}]}}`)},
		{Schema: keptSchema, Data: []byte(`{"BTC-USD":{"Trades":[{}]}}`)},
		{Schema: keptSchema, Data: []byte(`{"BTC-USD":{"Fills":[{}]}}`)},
		{Schema: keptSchema - 1, Data: []byte(`{}`)},
		{Schema: keptSchema + 1, Data: []byte(`{}`)},
	} {
		require.EqualValues(t, 340, reopen2(t, file, bad), "%s", bad.Data)
	}
	var rebuilt Markets
	reopen(t, file, func(k *kit) { copyOf(k, &rebuilt) })
	want, got := last.by["BTC-USD"], rebuilt.by["BTC-USD"]
	require.Equal(t, want.version, got.version)
	require.Equal(t, want.orders, got.orders)
	require.Equal(t, want.levels, got.levels)
	require.Equal(t, want.trades, got.trades)
	require.Equal(t, want.candles, got.candles)
}

// reopen2 is reopen after a snapshot was put into the file.
func reopen2(t *testing.T, file string, snap eventstore.Snapshot) uint64 {
	store, err := sqlitestore.Open(file, nil)
	require.NoError(t, err)
	snap.Version = 1 << 40
	require.NoError(t, store.SaveSnapshot(context.Background(), keptStream, snap))
	x, err := Open(store, Symbols(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = x.app.Run(ctx) }) // nothing is saved
	require.NoError(t, x.Ready(ctx))
	status, err := x.app.Status(ctx)
	require.NoError(t, err)
	cancel()
	running.Wait()
	require.NoError(t, store.Close())
	return status[0].Handled
}

func TestTheModelIsSavedNowAndThen(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	store := memstore.Open(nil)
	defer store.Close()
	k := &kept{store: store, log: slog.New(slog.DiscardHandler)}
	at, err := k.Load(ctx, "")
	require.NoError(t, err)
	require.Zero(t, at)
	ok := func(*Markets) error { return nil }
	require.NoError(t, k.Update(ctx, "", 0, keepEvery-1, ok))
	snap, err := store.LoadSnapshot(ctx, keptStream)
	require.NoError(t, err)
	require.Zero(t, snap.Version)
	require.NoError(t, k.Update(ctx, "", keepEvery-1, keepEvery+5, ok))
	snap, err = store.LoadSnapshot(ctx, keptStream)
	require.NoError(t, err)
	require.EqualValues(t, keepEvery+5, snap.Version)

	// The contract of a Target.
	require.ErrorIs(t, k.Update(ctx, "", 7, 8, ok), projection.ErrMoved)
	broken := errors.New("broken")
	require.ErrorIs(t, k.Update(ctx, "", keepEvery+5, keepEvery+6, func(m *Markets) error { m.open("X"); return broken }), broken)
	k.view(func(m *Markets, at eventstore.Position) {
		require.Empty(t, m.by, "what it did is gone")
		require.Zero(t, at)
	})
	require.ErrorIs(t, k.Update(ctx, "", keepEvery+5, keepEvery+6, ok), projection.ErrMoved)
	at, err = k.Load(ctx, "")
	require.NoError(t, err)
	require.EqualValues(t, keepEvery+5, at)
	require.NoError(t, k.Reset(ctx, ""))
	again := &kept{store: store, log: slog.New(slog.DiscardHandler)}
	at, err = again.Load(ctx, "")
	require.NoError(t, err)
	require.Zero(t, at, "what was reset is not found again")
	require.NoError(t, store.Close())
	k.saved = 0
	k.at, k.ready = 9, true
	k.save(ctx) // a store that refuses is no harm
}
