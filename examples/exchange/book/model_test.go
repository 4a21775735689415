package book

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// A model is a book written to be obviously right: a bag of orders that is
// searched and sorted anew at every step.
type model struct {
	live map[uint64]*modelOrder
	last int64
	seq  int // arrivals so far
	hits []uint64
	out  []string
}

type modelOrder struct {
	Order
	seq int
}

func newModel() *model { return &model{live: map[uint64]*modelOrder{}} }

func (m *model) say(format string, args ...any) { m.out = append(m.out, fmt.Sprintf(format, args...)) }

// do executes a command and returns what it reports.
func (m *model) do(c Command) []string {
	m.out = nil
	if r := m.command(c); r != 0 {
		return []string{"refused: " + r.Error()}
	}
	for len(m.hits) > 0 {
		o := m.live[m.hits[0]]
		m.hits = m.hits[1:]
		delete(m.live, o.ID)
		m.trade(&o.Order)
	}
	return m.out
}

func (m *model) command(c Command) Reason {
	switch c.Op {
	case Place:
		if r := c.check(); r != 0 {
			return r
		}
		if m.live[c.ID] != nil {
			return ErrDuplicate
		}
		return m.arrive(Order{ID: c.ID, Owner: c.Owner, Side: c.Side, Type: c.Type, TIF: c.TIF, STP: c.STP,
			PostOnly: c.PostOnly, Qty: c.Qty, Price: c.Price, Stop: c.Stop, Waiting: c.Type >= Stop})
	case Cancel, Modify:
		o := m.live[c.ID]
		if o == nil || c.Owner != 0 && c.Owner != o.Owner {
			return ErrUnknownOrder
		}
		if c.Op == Cancel {
			delete(m.live, c.ID)
			m.say("%d cancelled", c.ID)
			return 0
		}
		if c.Fields == 0 {
			return ErrNothingToModify
		}
		n := o.Order
		if c.Fields&FieldQty != 0 {
			if n.Qty = c.Qty; n.Qty <= 0 {
				return ErrQty
			} else if n.Qty > MaxQty {
				return ErrQtyTooLarge
			}
		}
		if c.Fields&FieldPrice != 0 {
			if n.Type == Stop || n.Type == TakeProfit {
				return ErrPriceGiven
			}
			if n.Price = c.Price; n.Price <= 0 {
				return ErrPrice
			} else if n.Price > MaxPrice {
				return ErrPriceTooLarge
			}
		}
		if c.Fields&FieldStop != 0 {
			if !n.Waiting {
				return ErrStopGiven
			}
			if n.Stop = c.Stop; n.Stop <= 0 {
				return ErrStop
			} else if n.Stop > MaxPrice {
				return ErrStopTooLarge
			}
		}
		if n.Price == o.Price && n.Stop == o.Stop && n.Qty <= o.Qty {
			o.Qty = n.Qty
			m.say("%d open", n.ID)
			return 0
		}
		delete(m.live, c.ID)
		r := m.arrive(n)
		if r != 0 {
			m.live[c.ID] = o
		}
		return r
	}
	return ErrUnknownOp
}

func (m *model) arrive(o Order) Reason {
	if o.Waiting {
		if m.last == 0 || !modelReached(&o, m.last) {
			m.rest(o)
			return 0
		}
	} else if o.PostOnly {
		if best := m.best(o.Side.Opposite()); best != nil && modelAgrees(&o, best.Price) {
			return ErrPostOnlyTrades
		}
	}
	m.trade(&o)
	return 0
}

func (m *model) rest(o Order) {
	m.seq++
	m.live[o.ID] = &modelOrder{o, m.seq}
	m.say("%d open", o.ID)
}

// trade executes an order that is not in the book, and reports whether it lost
// lots without trading them.
func (m *model) trade(o *Order) (lost bool) {
	o.Waiting = false
	if best := m.best(o.Side.Opposite()); o.PostOnly && best != nil && modelAgrees(o, best.Price) {
		m.say("%d cancelled", o.ID)
		return false
	}
	if o.TIF == FOK {
		probe, copied := m.clone(), *o
		copied.TIF = IOC
		probe.out = nil
		if probe.trade(&copied) || probe.out[len(probe.out)-1] != fmt.Sprintf("%d filled", o.ID) {
			m.say("%d cancelled", o.ID)
			return false
		}
	}
	own := false
	for o.Qty > 0 {
		best := m.best(o.Side.Opposite())
		if best == nil || !modelAgrees(o, best.Price) {
			break
		}
		own = o.Owner != 0 && o.Owner == best.Owner && o.STP != STPNone
		if !own {
			q := min(o.Qty, best.Qty)
			o.Qty -= q
			best.Qty -= q
			m.say("trade %d %d %d %d", best.ID, o.ID, best.Price, q)
			if best.Qty == 0 {
				delete(m.live, best.ID)
				m.say("%d filled", best.ID)
			}
			m.print(best.Price)
			continue
		}
		switch o.STP {
		case STPCancelOldest, STPCancelBoth:
			delete(m.live, best.ID)
			m.say("%d cancelled", best.ID)
		case STPDecrement:
			q := min(o.Qty, best.Qty)
			o.Qty -= q
			best.Qty -= q
			lost = true
			if best.Qty == 0 {
				delete(m.live, best.ID)
				m.say("%d cancelled", best.ID)
			}
		}
		if o.STP == STPCancelNewest || o.STP == STPCancelBoth {
			m.say("%d cancelled", o.ID)
			return true
		}
	}
	switch {
	case o.Qty == 0 && own:
		m.say("%d cancelled", o.ID)
	case o.Qty == 0:
		m.say("%d filled", o.ID)
	case (o.Type == Limit || o.Type == StopLimit || o.Type == TakeProfitLimit) && o.TIF == GTC:
		m.rest(*o)
	default:
		m.say("%d cancelled", o.ID)
	}
	return lost
}

// print notes which orders a trade triggers.
func (m *model) print(price int64) {
	m.last = price
	var hit []*modelOrder
	for _, o := range m.live {
		if o.Waiting && modelReached(&o.Order, price) && !slices.Contains(m.hits, o.ID) {
			hit = append(hit, o)
		}
	}
	sort.Slice(hit, func(i, j int) bool {
		a, b := hit[i], hit[j]
		if modelRises(&a.Order) != modelRises(&b.Order) {
			return modelRises(&a.Order)
		}
		if a.Stop != b.Stop {
			return modelRises(&a.Order) == (a.Stop < b.Stop)
		}
		return a.seq < b.seq
	})
	for _, o := range hit {
		m.hits = append(m.hits, o.ID)
	}
}

func (m *model) clone() *model {
	c := *m
	c.live = map[uint64]*modelOrder{}
	for id, o := range m.live {
		copied := *o
		c.live[id] = &copied
	}
	c.hits = slices.Clone(m.hits)
	return &c
}

func (m *model) best(s Side) *modelOrder {
	if list := m.resting(s); len(list) > 0 {
		return list[0]
	}
	return nil
}

// resting returns the orders that rest on a side in the order in which they trade.
func (m *model) resting(s Side) []*modelOrder {
	var list []*modelOrder
	for _, o := range m.live {
		if o.Side == s && !o.Waiting {
			list = append(list, o)
		}
	}
	sort.Slice(list, func(i, j int) bool {
		if list[i].Price != list[j].Price {
			return (s == Buy) == (list[i].Price > list[j].Price)
		}
		return list[i].seq < list[j].seq
	})
	return list
}

func modelRises(o *Order) bool {
	if o.Type == Stop || o.Type == StopLimit {
		return o.Side == Buy
	}
	return o.Side == Sell
}

func modelReached(o *Order, last int64) bool {
	return last == o.Stop || (last > o.Stop) == modelRises(o)
}

// modelAgrees reports whether o trades at a price.
func modelAgrees(o *Order, price int64) bool {
	if o.Type == Market || o.Type == Stop || o.Type == TakeProfit {
		return true
	}
	return price == o.Price || (price < o.Price) == (o.Side == Buy)
}

// reports puts an event in the model's words.
func reports(e *Event) []string {
	if e.Reason != 0 {
		return []string{"refused: " + e.Reason.Error()}
	}
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, f := range e.Effects {
		switch f.Kind {
		case Rest, Wait, Amend:
			say("%d open", f.ID)
		case Fill:
			say("%d filled", f.ID)
		case Drop:
			say("%d cancelled", f.ID)
		case Trade:
			say("trade %d %d %d %d", f.Maker, f.ID, f.Price, f.Qty)
			if f.Left == 0 {
				say("%d filled", f.Maker)
			}
		case Decrement:
			if f.Left == 0 {
				say("%d cancelled", f.Maker)
			}
		}
	}
	return out
}

// draw makes up a command for a market so small that ids, owners and prices
// collide all the time. pick returns a number below its argument.
func draw(pick func(n int) int) Command {
	c := Command{Op: Place, ID: uint64(pick(40)), Owner: uint64(max(0, pick(6)-2))}
	odd := pick(10) == 0 // anything goes
	price := func() int64 {
		if odd {
			return []int64{-1, 0, 95, 100, 105, MaxPrice, MaxPrice + 1}[pick(7)]
		}
		return int64(95 + pick(11))
	}
	qty := func() int64 {
		if odd {
			return []int64{-1, 0, 1, 10, MaxQty, MaxQty + 1}[pick(6)]
		}
		return int64(1 + pick(12))
	}
	switch k := pick(16); {
	case k < 11:
		c.Side = Side(1 + pick(2))
		c.Type = Type(max(0, pick(8)-2))
		c.TIF = TIF(max(0, pick(6)-3))
		c.STP = STP(pick(5))
		c.PostOnly = pick(8) == 0
		c.Qty = qty()
		if c.Type.limited() || odd {
			c.Price = price()
		}
		if c.Type.stops() || odd {
			c.Stop = price()
		}
		if odd && pick(4) == 0 {
			c.Side, c.Type, c.TIF, c.STP = Side(pick(4)), Type(pick(8)), TIF(pick(5)), STP(pick(7))
		}
	case k < 13:
		c.Op = Cancel
		c.Owner *= uint64(pick(2))
	default:
		c.Op = Modify
		c.Owner *= uint64(pick(2))
		c.Fields = Fields(pick(8))
		c.Qty, c.Price, c.Stop = qty(), price(), price()
		if odd && pick(4) == 0 {
			c.Op = Op(pick(6))
		}
	}
	return c
}

func commands() *rapid.Generator[Command] {
	return rapid.Custom(func(t *rapid.T) Command {
		return draw(func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "pick") })
	})
}

func TestBookDoesWhatTheModelDoes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var b Book
		m := newModel()
		for _, c := range rapid.SliceOfN(commands(), 1, 100).Draw(t, "commands") {
			compare(t, &b, m, c)
		}
	})
}

func TestBookDoesWhatTheModelDoesForLong(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 0))
			var b Book
			m := newModel()
			for range 2000 {
				compare(t, &b, m, draw(r.IntN))
			}
		})
	}
}

func compare(t require.TestingT, b *Book, m *model, c Command) {
	var e Event
	before := copyOf(b)
	b.Decide(c, &e)
	require.True(t, same(before, b), "deciding changed the book: %+v", c)
	if want, got := m.do(c), reports(&e); !slices.Equal(want, got) {
		require.Equal(t, want, got, "%+v", c)
	}
	b.Apply(&e)

	require.Empty(t, flaw(b))
	require.Equal(t, m.last, int64(b.last))
	require.Equal(t, len(m.live), b.Len())
	for _, s := range []Side{Buy, Sell} {
		var want []Order
		for _, o := range m.resting(s) {
			want = append(want, o.Order)
		}
		if got := slices.Collect(b.Resting(s)); !slices.Equal(want, got) {
			require.Equal(t, want, got)
		}
	}
	for o := range b.Waiting() {
		require.True(t, m.live[o.ID].Order == o, "%+v instead of %+v", o, m.live[o.ID])
	}
}

func TestEveryLotIsTradedOpenOrCancelled(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var b Book
		var e Event
		open := map[uint64]int64{} // by the effects alone
		for _, c := range rapid.SliceOfN(commands(), 1, 150).Draw(t, "commands") {
			b.Do(c, &e)
			if e.Reason != 0 {
				continue
			}
			if c.Op == Place {
				open[c.ID] = c.Qty
			}
			for _, f := range e.Effects {
				switch f.Kind {
				case Trade, Decrement:
					open[f.ID] -= f.Qty
					open[f.Maker] -= f.Qty
					require.Equal(t, f.Left, open[f.Maker])
					if f.Left == 0 {
						delete(open, f.Maker)
					}
				case Rest, Wait, Trigger:
					require.Equal(t, f.Qty, open[f.ID])
				case Fill:
					require.Zero(t, open[f.ID])
					delete(open, f.ID)
				case Drop:
					require.Equal(t, f.Qty, open[f.ID])
					delete(open, f.ID)
				case Amend, Requeue:
					open[f.ID] = f.Qty
				}
			}
			held := map[uint64]int64{}
			for _, seq := range []func(func(Order) bool){b.Resting(Buy), b.Resting(Sell), b.Waiting()} {
				for o := range seq {
					held[o.ID] = o.Qty
				}
			}
			require.True(t, maps.Equal(open, held), "by effects %v, in the book %v", open, held)
		}
	})
}

func TestFoldOfTheEventsIsTheBook(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var b, folded Book
		var e Event
		var kept []Event
		for _, c := range rapid.SliceOfN(commands(), 1, 100).Draw(t, "commands") {
			b.Do(c, &e)
			kept = append(kept, Event{Command: e.Command, Reason: e.Reason, Effects: slices.Clone(e.Effects)})
		}
		for i := range kept {
			folded.Apply(&kept[i])
		}
		require.Equal(t, show(&b), show(&folded))

		// A restored book shows the same and goes on in the same way.
		var restored Book
		require.NoError(t, restored.Restore(show(&b).last, slices.Values(show(&b).orders())))
		require.Equal(t, show(&b), show(&restored))
		require.Empty(t, flaw(&restored))
		var e2 Event
		for _, c := range rapid.SliceOfN(commands(), 1, 30).Draw(t, "more") {
			b.Do(c, &e)
			restored.Do(c, &e2)
			require.Equal(t, e.Reason, e2.Reason)
			require.True(t, slices.Equal(e.Effects, e2.Effects), "%v instead of %v", e2.Effects, e.Effects)
		}
	})
}

// A shown is all that a book shows.
type shown struct {
	last                int64
	bids, asks, waiting []Order
}

func show(b *Book) shown {
	last, _ := b.Last()
	return shown{last, slices.Collect(b.Resting(Buy)), slices.Collect(b.Resting(Sell)), slices.Collect(b.Waiting())}
}

func (s shown) orders() []Order { return slices.Concat(s.waiting, s.bids, s.asks) }

// copyOf returns a copy of all that a book is made of.
func copyOf(b *Book) *Book {
	c := *b
	c.orders, c.levels, c.index.cells = slices.Clone(b.orders), slices.Clone(b.levels), slices.Clone(b.index.cells)
	for k := range b.ladders {
		c.ladders[k].chunks = nil
		for _, old := range b.ladders[k].chunks {
			copied := *old
			c.ladders[k].chunks = append(c.ladders[k].chunks, &copied)
		}
	}
	return &c
}

// same reports whether nothing tells a book from a copy made earlier.
func same(b, c *Book) bool {
	for k := range b.ladders {
		if !slices.EqualFunc(b.ladders[k].chunks, c.ladders[k].chunks, func(x, y *chunk) bool { return *x == *y }) {
			return false
		}
	}
	return slices.Equal(b.orders, c.orders) && slices.Equal(b.levels, c.levels) && slices.Equal(b.index.cells, c.index.cells) &&
		b.free == c.free && b.spare == c.spare && b.live == c.live && b.last == c.last && b.index.n == c.index.n
}

// flaw returns what does not hold between the parts of a book, or "".
func flaw(b *Book) string {
	n := 0
	for k := range b.ladders {
		key := uint32(0)
		for _, c := range b.ladders[k].chunks {
			if c.n == 0 {
				return "empty chunk"
			}
			for i := range c.n {
				if c.keys[i] <= key {
					return "keys out of order"
				}
				key = c.keys[i]
				lv := b.levels[c.levels[i]]
				if key != lv.key {
					return "level of another key"
				}
				prev := uint32(0)
				for slot := lv.head; slot != 0; slot = b.orders[slot].next {
					o := b.orders[slot]
					switch {
					case o.prev != prev:
						return "broken list"
					case o.level != c.levels[i] || int(o.ladder) != k:
						return "order of another level"
					case b.index.find(b.orders, o.id) != slot:
						return "order not found by its id"
					case o.qty == 0:
						return "empty order"
					}
					lv.qty -= int64(o.qty)
					lv.count--
					n++
					prev = slot
				}
				if prev != lv.tail || lv.count != 0 || lv.qty != 0 {
					return fmt.Sprintf("level at odds with its orders: %+v", lv)
				}
			}
		}
	}
	if b.live != n || b.index.n != n {
		return fmt.Sprintf("%d orders, but %d live and %d found by id", n, b.live, b.index.n)
	}
	bid, ok1 := b.Best(Buy)
	ask, ok2 := b.Best(Sell)
	if ok1 && ok2 && bid.Price >= ask.Price {
		return fmt.Sprintf("crossed: bid %d, ask %d", bid.Price, ask.Price)
	}
	return ""
}
