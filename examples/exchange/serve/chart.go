package serve

import (
	"strconv"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/exchange/book"
	"github.com/levada-go/levada/live"
)

// What the page pushes to the hook "Candles". Prices are in ticks and volumes in lots: the hook knows how
// many decimals they have, and small numbers are short.

// A chartInit is the push "candles:init", which draws another chart, or the same anew after the page was
// disconnected.
type chartInit struct {
	Symbol   string `json:"symbol"`
	Interval string `json:"interval"`
	Price    int    `json:"price"`    // decimals
	Quantity int    `json:"quantity"` // decimals
	Bars     []bar  `json:"bars"`
	Marks    []mark `json:"marks"`
}

// A bar is a candle: start in Unix seconds, open, high, low, close, volume.
type bar [6]int64

// A chartBar is the push "candle": a candle that changed, or a new one.
type chartBar struct {
	Symbol   string `json:"symbol"`
	Interval string `json:"interval"`
	Bar      bar    `json:"bar"`
}

// A chartMarks is the push "candles:marks".
type chartMarks struct {
	Symbol string `json:"symbol"`
	Marks  []mark `json:"marks"`
}

// A mark is a trade of the owner: Unix seconds, 1 for bought and -1 for sold, price, quantity.
type mark [4]int64

// young says which candles a market shows while it has not enough of longer ones.
var young = []struct {
	interval string
	candles  int
}{{"1m", 40}, {"5s", 10}, {"1s", 0}}

// chart draws the chart anew, with the candles that were chosen.
func (d *desk) chart(ctx *live.Ctx) {
	var bars []bar
	d.s.exchange.view(d.Market, func(m *market, _ eventstore.Position) {
		i, chosen := intervalNamed(d.Chosen)
		for n := 0; !chosen && n < len(young); n++ {
			i, _ = intervalNamed(young[n].interval)
			chosen = len(m.candles[i].candles) >= young[n].candles
		}
		d.interval = i
		bars = barsOf(lastOf(m.candles[i].candles, maxCandles))
	})
	d.bar = 0
	if n := len(bars); n > 0 {
		d.bar = bars[n-1][0]
	}
	ctx.Push("candles:init", chartInit{d.Market.Name, intervals[d.interval].name, d.Market.PriceDecimals, d.Market.QtyDecimals, bars, d.marks()})
}

// candles pushes the candles that may have changed since the last was pushed. One that waits for a slow page is
// replaced by what the same candle has become; others wait beside it, since no later one tells of them.
func (d *desk) candles(ctx *live.Ctx) {
	var bars []bar
	d.s.exchange.view(d.Market, func(m *market, _ eventstore.Position) {
		all := lastOf(m.candles[d.interval].candles, maxCandles)
		n := len(all)
		for n > 0 && all[n-1].start/1000 >= d.bar {
			n--
		}
		bars = barsOf(all[n:])
	})
	name := intervals[d.interval].name
	for _, b := range bars {
		d.bar = b[0]
		ctx.Push("candle", chartBar{d.Market.Name, name, b}, live.Latest(d.Market.Name+" "+name+" "+strconv.FormatInt(b[0], 10)))
	}
}

func barsOf(candles []candle) []bar {
	bars := make([]bar, len(candles))
	for i, c := range candles {
		bars[i] = bar{c.start / 1000, c.open, c.high, c.low, c.close, c.volume}
	}
	return bars
}

// marks returns the owner's trades, the oldest first.
func (d *desk) marks() []mark {
	marks := make([]mark, 0, len(d.filled))
	for i := len(d.filled) - 1; i >= 0; i-- {
		f := &d.filled[i]
		m := mark{f.ms / 1000, 1, f.price, f.qty}
		if f.side == book.Sell {
			m[1] = -1
		}
		marks = append(marks, m)
	}
	return marks
}
