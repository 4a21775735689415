package serve

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/exchange/book"
)

// A ladder leaves nothing out that it has room for, and no rung promises a price that nobody offers.
func TestALadderSumsUpTheBook(t *testing.T) {
	t.Parallel()
	s := &Symbols()[0]
	parse := func(t *rapid.T, text string, parse func(string) (int64, error)) int64 {
		n, err := parse(strings.ReplaceAll(text, ",", ""))
		require.NoError(t, err)
		return n
	}
	rapid.Check(t, func(t *rapid.T) {
		m := newMarket()
		n := rapid.IntRange(0, 80).Draw(t, "levels")
		for range n {
			m.levels[book.Buy][int64(rapid.IntRange(1, 5000).Draw(t, "bid"))] = int64(rapid.IntRange(1, 1_000_000).Draw(t, "qty"))
			m.levels[book.Sell][int64(rapid.IntRange(5001, 9999).Draw(t, "ask"))] = int64(rapid.IntRange(1, 1_000_000).Draw(t, "qty"))
		}
		step := rapid.SampledFrom(groups).Draw(t, "step")
		l := s.ladder(m, step)
		asks := l.Asks
		for i, j := 0, len(asks)-1; i < j; i, j = i+1, j-1 {
			asks[i], asks[j] = asks[j], asks[i]
		}
		for side, rungs := range map[book.Side][]rung{book.Buy: l.Bids, book.Sell: asks} {
			want := map[int64]int64{} // by rung
			for _, lv := range m.side(side) {
				at := lv.price / step * step
				if side == book.Sell {
					at = (lv.price + step - 1) / step * step
				}
				want[at] += lv.qty
			}
			require.Len(t, rungs, min(len(want), ladderLength))
			total, before := int64(0), int64(0)
			for i, r := range rungs {
				price := int64(0)
				if r.Raw != "0.00" { // below the first step there is nothing to bid
					price = parse(t, r.Raw, s.ParsePrice)
				}
				require.Equal(t, s.Qty(want[price]), r.Size)
				require.Equal(t, thousands(r.Raw), r.Price)
				require.Equal(t, rungID(side, r.Raw), r.ID)
				total += want[price]
				require.Equal(t, s.Qty(total), r.Total)
				require.LessOrEqual(t, r.Depth, fullDepth)
				if i > 0 {
					require.Equal(t, side == book.Buy, price < before, "the best first")
				}
				before = price
				delete(want, price)
			}
			for price := range want {
				require.Equal(t, side == book.Buy, price < before, "what is left out is worse")
			}
		}
		deepest := 0
		for _, r := range append(l.Bids, l.Asks...) {
			deepest = max(deepest, r.Depth)
		}
		if n > 0 {
			require.GreaterOrEqual(t, deepest, fullDepth/2, "the scale is used")
		}
	})
}

func TestTheFiguresAreThoseOfOneDay(t *testing.T) {
	t.Parallel()
	s := &Symbols()[0]
	m := newMarket()
	require.Equal(t, figures{Last: none, Change: none, High: none, Low: none, Volume: none}, s.figures(m))
	trade := func(at time.Duration, side book.Side, price, qty int64) {
		m.trades = append(m.trades, trade{side: side, price: price, qty: qty})
		for i := range m.candles {
			m.candles[i].add(at.Milliseconds(), price, qty)
		}
	}
	trade(time.Hour, book.Buy, 500_00, 1) // more than a day before
	trade(2*time.Hour, book.Buy, 200_00, 10_000)
	trade(3*time.Hour, book.Buy, 1_300_00, 5_000)
	trade(25*time.Hour+20*time.Minute, book.Sell, 100_00, 20_000)
	require.Equal(t, figures{Last: "100.00", Tick: "down", Direction: "down", Change: "−100.00 (−50.00 %)",
		High: "1,300.00", Low: "100.00", Volume: "3.5000 BTC"}, s.figures(m))
	trade(25*time.Hour+21*time.Minute, book.Buy, 250_00, 1)
	f := s.figures(m)
	require.Equal(t, []string{"250.00", "up", "up", "+50.00 (+25.00 %)"}, []string{f.Last, f.Tick, f.Direction, f.Change})
}

func TestTheTapeIsTheLatestTradesFirst(t *testing.T) {
	t.Parallel()
	s := &Symbols()[0]
	m := newMarket()
	for i := range int64(2*maxTrades - 3) {
		m.trades = append(m.trades, trade{version: eventstore.Version(i), side: book.Sell, price: 1_234_00 + i, qty: 5, ms: 1767225600123})
	}
	rows := s.tape(m)
	require.Len(t, rows, tapeLength)
	require.Equal(t, tapeRow{"196.0", "sell", "1,235.96", "0.0005", 1767225600123}, rows[0])
	require.Equal(t, "2026-01-01T00:00:00Z", rows[0].Time.ISO())
	require.Equal(t, "00:00:00", rows[0].Time.Clock())
}

func TestThousandsAreSetApart(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"1": "1", "999": "999", "1000": "1,000", "12345.6789": "12,345.6789", "1234567.00": "1,234,567.00", "": ""} {
		require.Equal(t, want, thousands(text))
	}
}

func TestTheDepthChartIsTheBookAroundTheMiddle(t *testing.T) {
	t.Parallel()
	s := &Symbols()[0]
	m := newMarket()
	m.levels[book.Buy][100_00] = 10
	require.Equal(t, depth{Low: none, Mid: none, High: none}, s.depth(m), "without both sides there is no middle")
	m.levels[book.Sell][100_40] = 10
	m.levels[book.Sell][100_80] = 30
	m.levels[book.Buy][1] = 1_000_000 // far away, and not to be seen
	d := s.depth(m)
	require.Equal(t, []string{"99.20", "100.20", "101.20", "0.0040 BTC"}, []string{d.Low, d.Mid, d.High, d.Most}, "a hundredth to either side")
	require.Equal(t, "M400 1000H400V750H0V1000Z", d.Bids)
	require.Equal(t, "M600 1000H600V750H800V0H1000V1000Z", d.Asks)
	delete(m.levels[book.Buy], 1)
	d = s.depth(m)
	require.Equal(t, []string{"99.60", "100.80"}, []string{d.Low, d.High}, "as wide as what there is")
	require.Equal(t, "M333 1000H333V750H0V1000Z", d.Bids)
	clear(m.levels[book.Sell])
	m.levels[book.Sell][100_01] = 5 // the middle is that of whole ticks
	d = s.depth(m)
	require.Equal(t, "M500 1000H500V0H0V1000Z", d.Bids)
	require.Equal(t, "M1000 1000H1000V500H1000V1000Z", d.Asks)
}
