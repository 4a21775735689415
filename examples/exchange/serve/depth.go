package serve

import (
	"strconv"

	"github.com/levada-go/levada/examples/exchange/book"
)

// A depth is the depth chart: how much rests up to which price, on both sides of the middle.
type depth struct {
	Bids, Asks     string // paths of SVG in a box of plotSize to plotSize
	Low, Mid, High string // prices at the left, in the middle and at the right
	Most           string // what rests up to an edge at most
}

const (
	plotSize   = 1000
	depthRungs = 20  // that the chart is wide enough for
	depthPart  = 100 // of the price: the chart is never wider to either side
)

// depth draws the book around the middle of the spread.
func (s *Symbol) depth(m *market) depth {
	bids, asks := m.side(book.Buy), m.side(book.Sell)
	d := depth{Low: none, Mid: none, High: none}
	if len(bids) == 0 || len(asks) == 0 {
		return d // there is no middle
	}
	mid := (bids[0].price + asks[0].price) / 2
	span := max(mid-bids[min(depthRungs, len(bids))-1].price, asks[min(depthRungs, len(asks))-1].price-mid)
	span = max(min(span, mid/depthPart), 1)
	d.Low, d.Mid, d.High = s.shownPrice(max(mid-span, 0)), s.shownPrice(mid), s.shownPrice(mid+span)

	within := func(levels []levelChange) []levelChange {
		for i, l := range levels {
			if l.price < mid-span || l.price > mid+span {
				return levels[:i]
			}
		}
		return levels
	}
	bids, asks = within(bids), within(asks)
	most := max(sum(bids), sum(asks))
	in := plot{mid - span, 2 * span, most}
	d.Bids, d.Asks = in.area(bids, 0), in.area(asks, plotSize)
	d.Most = s.Qty(most) + " " + s.Base
	return d
}

// A plot is the scale of a depth chart: its left price, its width in ticks and its height in lots.
type plot struct{ left, width, height int64 }

// area draws what rests up to each price, from the best level to the edge of the chart.
func (p plot) area(levels []levelChange, edge int64) string {
	if len(levels) == 0 {
		return ""
	}
	x := func(price int64) int64 { return (price - p.left) * plotSize / p.width }
	y := func(lots int64) int64 { return plotSize - int64(plotSize*float64(lots)/float64(p.height)) }
	path := append([]byte("M"), strconv.FormatInt(x(levels[0].price), 10)...)
	path = strconv.AppendInt(append(path, ' '), plotSize, 10)
	total := int64(0)
	for _, l := range levels {
		total += l.qty
		path = strconv.AppendInt(append(path, 'H'), x(l.price), 10)
		path = strconv.AppendInt(append(path, 'V'), y(total), 10)
	}
	path = strconv.AppendInt(append(path, 'H'), edge, 10)
	path = strconv.AppendInt(append(path, 'V'), plotSize, 10)
	return string(append(path, 'Z'))
}
