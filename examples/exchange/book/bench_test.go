package book

import (
	"math/rand/v2"
	"testing"
)

// workload returns n commands: 60 % limit orders near the touch, 25 % cancels of
// orders that are live, 15 % market orders, while the price walks at random.
func workload(n int) []Command {
	r := rand.New(rand.NewPCG(1, 2))
	var b Book
	var e Event
	var live []uint64
	mid := int64(100_000)
	cs := make([]Command, 0, n)
	for id := uint64(1); len(cs) < n; id++ {
		if r.IntN(8) == 0 {
			mid += int64(r.IntN(3)) - 1
		}
		c := Command{Op: Place, ID: id, Side: Buy, Qty: 1 + r.Int64N(100)}
		if r.IntN(2) == 0 {
			c.Side = Sell
		}
		switch k := r.IntN(100); {
		case k < 60:
			away := int64(r.ExpFloat64() * 30)
			if r.IntN(10) == 0 {
				away = -1 - away/4
			}
			c.Price = mid - 1 - away
			if c.Side == Sell {
				c.Price = mid + 1 + away
			}
			live = append(live, id)
		case k < 85:
			var ok bool
			for len(live) > 0 && !ok {
				i := r.IntN(len(live))
				if r.IntN(4) != 0 { // mostly young ones
					i = len(live) - 1 - r.IntN(min(len(live), 2000))
				}
				c = Command{Op: Cancel, ID: live[i]}
				live[i] = live[len(live)-1]
				live = live[:len(live)-1]
				_, ok = b.Order(c.ID)
			}
			if !ok {
				continue
			}
		default:
			c.Type = Market
		}
		b.Do(c, &e)
		if c.Op == Place && len(live) > 0 && live[len(live)-1] == id {
			if _, ok := b.Order(id); !ok {
				live = live[:len(live)-1]
			}
		}
		cs = append(cs, c)
	}
	return cs
}

func BenchmarkBook(b *testing.B) {
	const n = 1_000_000
	cs := workload(n)
	var bk Book
	var e Event
	var trades, limits, cancels, peak int
	for _, c := range cs {
		bk.Do(c, &e)
		peak = max(peak, bk.Len())
		switch {
		case c.Op == Cancel:
			cancels++
		case c.Type == Limit:
			limits++
		}
		for _, f := range e.Effects {
			if f.Kind == Trade {
				trades++
			}
		}
	}
	b.Logf("%d limit orders, %d cancels, %d market orders; %d trades, at most %d orders live", limits, cancels, n-limits-cancels, trades, peak)

	run := func(name string, step func(c Command)) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			bk.Reset()
			i := 0
			for b.Loop() {
				if i == n {
					bk.Reset()
					i = 0
				}
				step(cs[i])
				i++
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
		})
	}
	run("do", func(c Command) { bk.Do(c, &e) })
	run("decide+fold a copy", func(c Command) {
		bk.Decide(c, &e)
		ev := Event{Command: e.Command, Reason: e.Reason, Effects: append([]Effect(nil), e.Effects...)}
		bk.Apply(&ev)
	})
}
