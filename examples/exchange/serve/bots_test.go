package serve

import (
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/exchange/book"
	"github.com/levada-go/levada/examples/exchange/orderbook"
)

// trade lets bots take n steps and returns the commands they sent, ids left out.
func (k *kit) trade(seed uint64, n int) []book.Command {
	ctx := context.Background()
	from, err := k.store.Head(ctx)
	require.NoError(k.t, err)
	b := newBots(k.x, seed, slog.New(slog.DiscardHandler))
	for i := range k.x.symbols {
		b.begin(ctx, &k.x.symbols[i])
	}
	for range n {
		b.step(ctx, b.choose())
	}
	var sent []book.Command
	for r, err := range k.store.ReadAll(ctx, eventstore.Filter{}, from) {
		require.NoError(k.t, err)
		c := r.Data.(orderbook.Decided).Command
		c.ID = 0
		sent = append(sent, c)
	}
	return sent
}

func TestBotsMakeAMarketThatIsBounded(t *testing.T) {
	t.Parallel()
	k := serve(t)
	const steps = 1500
	sent := k.trade(1, steps)
	require.LessOrEqual(t, len(sent), steps+len(k.x.symbols)*(2*makerLevels+warmUp), "one event a step")
	for i := range k.x.symbols {
		s := &k.x.symbols[i]
		k.x.view(s, func(m *market, _ eventstore.Position) {
			require.LessOrEqual(t, len(m.orders), 2*makerLevels+otherOrders+stopOrders+len(m.owners), s.Name)
			bids, asks := m.side(book.Buy), m.side(book.Sell)
			require.Greater(t, len(bids), 4, s.Name)
			require.Greater(t, len(asks), 4, s.Name)
			require.Less(t, bids[0].price, asks[0].price)
			require.Less(t, float64(asks[0].price-bids[0].price), 0.01*float64(s.start), "a believable spread")
			last := lastOf(m.trades, maxTrades)
			require.Greater(t, len(last), 40, s.Name)
			high, low := last[0].price, last[0].price
			for _, t := range last {
				high, low = max(high, t.price), min(low, t.price)
			}
			require.Greater(t, high, low, "the price moves")
			require.Less(t, float64(high-low), 0.1*float64(s.start), "and does not jump about")
			for owner := range m.owners {
				require.LessOrEqual(t, owner, uint64(lastOwner))
			}
		})
	}
}

func TestBotsWithTheSameSeedDoTheSame(t *testing.T) {
	t.Parallel()
	a, b, c := serve(t).trade(5, 200), serve(t).trade(5, 200), serve(t).trade(6, 200)
	require.Equal(t, a, b)
	require.NotEqual(t, a, c)
}

func TestBotsGoOnWithTheOrdersThatTheyFind(t *testing.T) {
	t.Parallel()
	k := serve(t)
	k.trade(1, 100)
	require.LessOrEqual(t, len(k.trade(2, 10)), 10, "no market is begun again")
}

func TestNobodyTradesInAMarketThatIsClosed(t *testing.T) {
	t.Parallel()
	k := serve(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	newBots(k.x, 1, slog.New(slog.NewTextHandler(k.log, nil))).run(ctx, func() bool { return true })
	head, err := k.store.Head(context.Background())
	require.NoError(t, err)
	require.Zero(t, head)
	require.Empty(t, k.log.String())
}

func TestBotsThatPanicLeaveTheExchangeOpen(t *testing.T) {
	t.Parallel()
	k := serve(t)
	var log lockedBuffer
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	newBots(k.x, 1, slog.New(slog.NewTextHandler(&log, nil))).run(ctx, func() bool { panic("nobody there") })
	require.Contains(t, log.String(), "nobody there")
	k.person().place(`{"symbol":"BTC-USD","side":"buy","quantity":"1","price":"10"}`)
}
