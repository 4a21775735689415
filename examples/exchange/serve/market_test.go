package serve

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/exchange/book"
)

// drawCommand draws a command to a book with few prices, so that much happens.
func drawCommand(t *rapid.T, id uint64) book.Command {
	c := book.Command{
		Op:       rapid.SampledFrom([]book.Op{book.Place, book.Place, book.Place, book.Cancel, book.Modify}).Draw(t, "op"),
		Side:     rapid.SampledFrom([]book.Side{book.Buy, book.Sell}).Draw(t, "side"),
		Type:     rapid.SampledFrom([]book.Type{book.Limit, book.Limit, book.Market, book.Stop, book.StopLimit, book.TakeProfit, book.TakeProfitLimit}).Draw(t, "type"),
		TIF:      rapid.SampledFrom([]book.TIF{book.GTC, book.GTC, book.IOC, book.FOK}).Draw(t, "tif"),
		STP:      book.STP(rapid.IntRange(0, 4).Draw(t, "stp")),
		PostOnly: rapid.IntRange(0, 4).Draw(t, "post") == 0,
		Fields:   book.Fields(rapid.IntRange(0, 7).Draw(t, "fields")),
		ID:       id,
		Owner:    rapid.SampledFrom([]uint64{1, 2, firstOwner}).Draw(t, "owner"),
		Qty:      int64(rapid.IntRange(1, 9).Draw(t, "qty")),
	}
	price := int64(rapid.IntRange(1, 12).Draw(t, "price"))
	if c.Type == book.Limit || c.Type == book.StopLimit || c.Type == book.TakeProfitLimit || c.Op == book.Modify {
		c.Price = price
	}
	if c.Type >= book.Stop || c.Op == book.Modify {
		c.Stop = int64(rapid.IntRange(1, 12).Draw(t, "stop"))
	}
	if c.Op != book.Place {
		c.ID = uint64(rapid.IntRange(1, int(id)).Draw(t, "target"))
	}
	return c
}

func levelsOf(b *book.Book, s book.Side) map[int64]int64 {
	levels := map[int64]int64{}
	for l := range b.Levels(s) {
		levels[l.Price] = l.Qty
	}
	return levels
}

// What is shown is the book: the engine's own is the model.
func TestTheMarketIsWhatTheBookIs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var b book.Book
		m := newMarket()
		own := map[uint64]*ownOrder{} // followed by changes alone, as a client does
		var ladder [3]map[int64]int64 // likewise
		ladder[book.Buy], ladder[book.Sell] = map[int64]int64{}, map[int64]int64{}
		seen := eventstore.Version(0)
		traded := int64(0)
		var fills []ownFill // of the owner who is a person
		for i := range rapid.IntRange(1, 80).Draw(t, "n") {
			c := drawCommand(t, uint64(i+1))
			var e book.Event
			b.Do(c, &e)
			if e.Reason != 0 {
				continue
			}
			d := decision{eventstore.Version(i + 1), eventstore.Position(10 * (i + 1)), time.UnixMilli(int64(700 * i)), &e.Command, e.Effects}
			m.apply(&d)
			for _, t := range d.trades() {
				traded += t.qty
			}
			fills = append(fills, d.own(firstOwner).fills...)
			if d.concerns(2) {
				for _, o := range d.own(2).orders {
					k := own[o.id]
					if k == nil {
						k = &ownOrder{}
						own[o.id] = k
					}
					k.open = o.open
					if o.status != "" {
						k.status = o.status
					}
					if o.placed != nil {
						k.price = o.placed.Price
					}
					if o.moved {
						k.price = o.price
					}
					if o.status == statusFilled || o.status == statusCancelled {
						delete(own, o.id)
					}
				}
			}
			if rapid.Bool().Draw(t, "read") {
				changes, known := m.since(seen, (*change).beforeBook)
				if !known {
					t.Fatal("changes are missing")
				}
				for _, c := range changes {
					for _, l := range c.levels {
						ladder[l.side][l.price] = l.qty
						if l.qty == 0 {
							delete(ladder[l.side], l.price)
						}
					}
				}
				seen = m.lastBook
				require.Equal(t, levelsOf(&b, book.Buy), ladder[book.Buy])
				require.Equal(t, levelsOf(&b, book.Sell), ladder[book.Sell])
			}
		}
		for _, s := range []book.Side{book.Buy, book.Sell} {
			require.Equal(t, levelsOf(&b, s), m.levels[s])
			shown := m.side(s)
			i := 0
			for l := range b.Levels(s) {
				require.Equal(t, levelChange{s, l.Price, l.Qty}, shown[i])
				i++
			}
			require.Len(t, shown, i)
		}
		require.Len(t, m.orders, b.Len())
		for _, o := range m.orders {
			want, ok := b.Order(o.id)
			require.True(t, ok)
			got := book.Order{ID: o.id, Owner: o.owner, Side: o.side, Type: o.typ, TIF: o.tif, PostOnly: o.post,
				Waiting: !o.resting, Qty: o.open, Price: o.price, Stop: o.stop, STP: want.STP}
			require.Equal(t, want, got)
			require.Same(t, o, m.owners[o.owner][o.id])
			if o.owner == 2 {
				status := statusWaiting
				if o.resting {
					status = statusOpen
				}
				require.NotNil(t, own[o.id])
				require.Equal(t, ownOrder{status: status, open: o.open, price: o.price}, ownOrder{status: own[o.id].status, open: own[o.id].open, price: own[o.id].price})
				delete(own, o.id)
			}
		}
		require.Empty(t, own)
		shown := m.filled(firstOwner, 1000)
		require.Len(t, shown, len(fills))
		for i, f := range fills {
			s := shown[len(shown)-1-i]
			require.Equal(t, [...]any{f.id, f.role == "maker", f.side, f.price, f.qty}, [...]any{s.order, s.maker, s.side, s.price, s.qty})
		}
		require.LessOrEqual(t, len(m.filled(firstOwner, 1)), 1)
		require.Empty(t, m.filled(1, 1000), "the demonstration's own fills are not kept")
		for i := range m.candles {
			sum := int64(0)
			for _, c := range m.candles[i].candles {
				sum += c.volume
				require.LessOrEqual(t, c.low, min(c.open, c.close))
				require.GreaterOrEqual(t, c.high, max(c.open, c.close))
				require.Zero(t, c.start%m.candles[i].every)
			}
			require.Equal(t, traded, sum)
		}
	})
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	t.Parallel()
	m := newMarket()
	var b book.Book
	for i := range 4000 {
		side := book.Side(1 + i%2)
		var e book.Event
		b.Do(book.Command{Op: book.Place, Side: side, ID: uint64(i + 1), Qty: 1, Price: int64(100 + i%7)}, &e)
		if e.Reason != 0 {
			continue
		}
		m.apply(&decision{eventstore.Version(i + 1), eventstore.Position(i + 1), time.UnixMilli(int64(i) * 5000), &e.Command, e.Effects})
	}
	require.LessOrEqual(t, len(m.changes), 2*maxChanges)
	require.LessOrEqual(t, len(m.trades), 2*maxTrades)
	for i := range m.candles {
		require.LessOrEqual(t, len(m.candles[i].candles), 2*maxCandles)
	}
	// Who is further back than is kept is told so.
	_, known := m.since(1, (*change).beforeBook)
	require.False(t, known)
	_, known = m.since(m.version-maxChanges+1, (*change).beforeBook)
	require.True(t, known)
	changes, known := m.since(m.version, (*change).beforeBook)
	require.True(t, known)
	require.Empty(t, changes)
}

func TestChangesThatAreNotAskedForDoNotMakeOneTooLate(t *testing.T) {
	t.Parallel()
	m := newMarket()
	apply := func(i int, c book.Command, b *book.Book) {
		var e book.Event
		b.Do(c, &e)
		require.NoError(t, e.Err())
		m.apply(&decision{eventstore.Version(i), eventstore.Position(i), time.UnixMilli(int64(i)), &e.Command, e.Effects})
	}
	var b book.Book
	apply(1, book.Command{Op: book.Place, Side: book.Buy, ID: 1, Qty: 1, Price: 5}, &b)
	apply(2, book.Command{Op: book.Place, Side: book.Sell, ID: 2, Qty: 1, Price: 5}, &b)
	for i := 3; i < 3000; i++ { // none of them trades
		apply(i, book.Command{Op: book.Place, Side: book.Buy, ID: uint64(i), Qty: 1, Price: 4}, &b)
	}
	_, known := m.since(2, (*change).beforeTape)
	require.True(t, known, "the trades are all known")
	_, known = m.since(2, (*change).beforeBook)
	require.False(t, known)
}

func TestACandleIsNeverReopened(t *testing.T) {
	t.Parallel()
	s := series{every: 1000}
	s.add(1500, 10, 1)
	s.add(2500, 12, 1)
	s.add(1700, 11, 1) // the clock went back
	require.Equal(t, []candle{{1000, 10, 10, 10, 10, 1}, {2000, 12, 12, 11, 11, 2}}, s.candles)
}
