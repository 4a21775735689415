package serve

import (
	"slices"
	"time"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/exchange/book"
)

// Markets is the read model: what is shown of every symbol. A projection keeps
// it; whoever shows it reads it under the projection's lock. Its zero value is
// that of an exchange on which nothing has happened.
type Markets struct {
	by map[string]*market
}

// market returns what is known of a symbol, nil if nothing happened there yet.
func (m *Markets) market(symbol string) *market { return m.by[symbol] }

// open returns what is known of a symbol and begins to keep it.
func (m *Markets) open(symbol string) *market {
	if m.by == nil {
		m.by = map[string]*market{}
	}
	if m.by[symbol] == nil {
		m.by[symbol] = newMarket()
	}
	return m.by[symbol]
}

// Bounds of what is kept of a symbol beside its live orders.
const (
	maxTrades  = 100  // in a snapshot of the tape
	maxFills   = 2000 // of all owners but the demonstration's
	maxChanges = 512  // the latest events, ready to be sent
)

// A market is the read model of one symbol, folded from its events.
type market struct {
	version  eventstore.Version  // of the latest event
	position eventstore.Position // where that is
	lastBook eventstore.Version  // of the latest event that changed a level
	lastTape eventstore.Version  // of the latest event that traded

	levels  [3]map[int64]int64 // by side, lots by price
	orders  map[uint64]*liveOrder
	owners  map[uint64]map[uint64]*liveOrder
	trades  []trade
	fills   []fill // the latest last
	candles [len(intervals)]series
	changes []*change // the latest last
}

// A trade is one print of the tape.
type trade struct {
	version eventstore.Version // of the event it is part of
	index   int                // among that event's trades, from 0
	side    book.Side          // the taker's
	price   int64
	qty     int64
	ms      int64 // Unix milliseconds
}

// A fill is one side of a trade, as the owner of that side has it.
type fill struct {
	trade        // with the owner's side, not the taker's
	owner, order uint64
	maker        bool
}

// A liveOrder is an order that rests or waits.
type liveOrder struct {
	id, owner   uint64
	side        book.Side
	typ         book.Type
	tif         book.TIF
	post        bool
	resting     bool // in the ladder; otherwise it waits for its stop price
	price, stop int64
	open        int64
	filled      int64
	ms          int64 // when it was placed
}

// A levelChange tells what rests at a price from now on.
type levelChange struct {
	side       book.Side
	price, qty int64
}

// A change is what one event changed. It is never modified once it was made, so
// it may be kept beyond the lock.
type change struct {
	version  eventstore.Version
	position eventstore.Position
	prevBook eventstore.Version // the change of the book before this one
	prevTape eventstore.Version // the trades before these
	levels   []levelChange      // empty if none changed
	trades   []trade            // empty if there were none
	candles  [len(intervals)]candle
}

func newMarket() *market {
	m := &market{orders: map[uint64]*liveOrder{}, owners: map[uint64]map[uint64]*liveOrder{}}
	m.levels[book.Buy], m.levels[book.Sell] = map[int64]int64{}, map[int64]int64{}
	for i := range m.candles {
		m.candles[i].every = intervals[i].duration.Milliseconds()
	}
	return m
}

// A decision is what a command to an order book led to, and when and where that
// was recorded.
type decision struct {
	version  eventstore.Version
	position eventstore.Position
	time     time.Time
	command  *book.Command
	effects  []book.Effect
}

// trades returns the trades of d in order.
func (d *decision) trades() []trade {
	var ts []trade
	for i := range d.effects {
		if f := &d.effects[i]; f.Kind == book.Trade {
			ts = append(ts, trade{d.version, len(ts), f.Side, f.Price, f.Qty, d.time.UnixMilli()})
		}
	}
	return ts
}

// fills returns what the trades of d were for people: the demonstration's own
// orders are nobody's.
func (d *decision) fills() []fill {
	var fs []fill
	n := 0
	for i := range d.effects {
		f := &d.effects[i]
		if f.Kind != book.Trade {
			continue
		}
		t := trade{d.version, n, f.Side, f.Price, f.Qty, d.time.UnixMilli()}
		n++
		if f.MakerOwner >= firstOwner {
			m := t
			m.side = f.Side.Opposite()
			fs = append(fs, fill{m, f.MakerOwner, f.Maker, true})
		}
		if f.Owner >= firstOwner {
			fs = append(fs, fill{t, f.Owner, f.ID, false})
		}
	}
	return fs
}

// apply folds a decision into the market.
func (m *market) apply(d *decision) {
	c := &change{version: d.version, position: d.position, prevBook: m.lastBook, prevTape: m.lastTape, trades: d.trades()}
	f := fold{m: m, d: d, touched: map[levelKey]struct{}{}}
	for i := range d.effects {
		f.effect(&d.effects[i])
	}
	m.version, m.position = d.version, d.position
	for k := range f.touched {
		c.levels = append(c.levels, levelChange{k.side, k.price, m.levels[k.side][k.price]})
	}
	if len(c.levels) > 0 {
		slices.SortFunc(c.levels, compareLevels)
		m.lastBook = d.version
	}
	for _, t := range c.trades {
		m.trades = appendBounded(m.trades, t, maxTrades)
		for i := range m.candles {
			m.candles[i].add(t.ms, t.price, t.qty)
		}
	}
	for _, f := range d.fills() {
		m.fills = appendBounded(m.fills, f, maxFills)
	}
	if len(c.trades) > 0 {
		m.lastTape = d.version
		for i := range m.candles {
			c.candles[i] = m.candles[i].latest()
		}
	}
	m.changes = appendBounded(m.changes, c, maxChanges)
}

// compareLevels orders bids before asks, and each side from the best.
func compareLevels(a, b levelChange) int {
	if a.side != b.side {
		return int(a.side) - int(b.side)
	}
	d := int(a.price - b.price)
	if a.side == book.Buy {
		return -d
	}
	return d
}

// side returns the levels of a side, the best first.
func (m *market) side(s book.Side) []levelChange {
	all := make([]levelChange, 0, len(m.levels[s]))
	for price, qty := range m.levels[s] {
		all = append(all, levelChange{s, price, qty})
	}
	slices.SortFunc(all, compareLevels)
	return all
}

// since returns the changes after a version. They are complete, and known is true,
// if nothing before the oldest that is kept was missed: prev gives the change
// before, of the kind that is asked for.
func (m *market) since(v eventstore.Version, prev func(*change) eventstore.Version) (cs []*change, known bool) {
	kept := lastOf(m.changes, maxChanges)
	i, _ := slices.BinarySearchFunc(kept, v+1, func(c *change, v eventstore.Version) int {
		return int(int64(c.version) - int64(v))
	})
	return kept[i:], i > 0 || len(kept) == 0 || prev(kept[0]) <= v
}

func (c *change) beforeBook() eventstore.Version { return c.prevBook }
func (c *change) beforeTape() eventstore.Version { return c.prevTape }

// own returns the live orders of an owner, the oldest first.
func (m *market) own(owner uint64) []liveOrder {
	var all []liveOrder
	for _, o := range m.owners[owner] {
		all = append(all, *o)
	}
	slices.SortFunc(all, func(a, b liveOrder) int {
		if a.ms != b.ms {
			return int(a.ms - b.ms)
		}
		if a.id < b.id {
			return -1
		}
		return 1
	})
	return all
}

// filled returns the latest n fills of an owner, the newest first.
func (m *market) filled(owner uint64, n int) []fill {
	var all []fill
	kept := lastOf(m.fills, maxFills)
	for i := len(kept) - 1; i >= 0 && len(all) < n; i-- {
		if kept[i].owner == owner {
			all = append(all, kept[i])
		}
	}
	return all
}

type levelKey struct {
	side  book.Side
	price int64
}

// A fold is one decision being folded into a market.
type fold struct {
	m       *market
	d       *decision
	touched map[levelKey]struct{}

	filled int64 // by the order that the command placed, before it is live
}

// effect folds one effect. The engine gave them in the order in which they
// happened; see [book.Kind] for what each says.
func (f *fold) effect(e *book.Effect) {
	switch e.Kind {
	case book.Trade, book.Decrement:
		f.level(e.Side.Opposite(), e.Price, -e.Qty)
		traded := int64(0)
		if e.Kind == book.Trade {
			traded = e.Qty
		}
		if maker := f.m.orders[e.Maker]; maker != nil {
			maker.open, maker.filled = e.Left, maker.filled+traded
			if e.Left == 0 {
				f.remove(maker)
			}
		}
		if taker := f.m.orders[e.ID]; taker != nil {
			taker.open, taker.filled = taker.open-e.Qty, taker.filled+traded
		} else {
			f.filled += traded
		}
	case book.Fill:
		if o := f.m.orders[e.ID]; o != nil {
			f.remove(o)
		}
	case book.Drop:
		if o := f.m.orders[e.ID]; o != nil {
			f.leave(o)
			f.remove(o)
		}
	case book.Rest, book.Wait:
		o := f.m.orders[e.ID]
		if o == nil {
			o = f.place(e)
		}
		o.open, o.resting = e.Qty, e.Kind == book.Rest
		if o.resting {
			f.level(e.Side, e.Price, e.Qty)
		}
	case book.Amend:
		if o := f.m.orders[e.ID]; o != nil {
			if o.resting {
				f.level(o.side, o.price, e.Qty-o.open)
			}
			o.open = e.Qty
		}
	case book.Requeue:
		if o := f.m.orders[e.ID]; o != nil {
			f.leave(o)
			o.price, o.open = e.Price, e.Qty
			if f.d.command.Fields&book.FieldStop != 0 {
				o.stop = f.d.command.Stop
			}
		}
	}
}

// place makes the order that the command placed a live one.
func (f *fold) place(e *book.Effect) *liveOrder {
	c := f.d.command
	o := &liveOrder{id: e.ID, owner: e.Owner, side: e.Side, typ: c.Type, tif: c.TIF, post: c.PostOnly,
		price: c.Price, stop: c.Stop, filled: f.filled, ms: f.d.time.UnixMilli()}
	f.m.keep(o)
	return o
}

// keep makes o one of the live orders.
func (m *market) keep(o *liveOrder) {
	m.orders[o.id] = o
	if m.owners[o.owner] == nil {
		m.owners[o.owner] = map[uint64]*liveOrder{}
	}
	m.owners[o.owner][o.id] = o
}

// leave takes an order out of the ladder, if it is there.
func (f *fold) leave(o *liveOrder) {
	if o.resting {
		f.level(o.side, o.price, -o.open)
		o.resting = false
	}
}

func (f *fold) remove(o *liveOrder) {
	delete(f.m.orders, o.id)
	delete(f.m.owners[o.owner], o.id)
	if len(f.m.owners[o.owner]) == 0 {
		delete(f.m.owners, o.owner)
	}
}

func (f *fold) level(s book.Side, price, by int64) {
	levels := f.m.levels[s]
	if levels[price] += by; levels[price] == 0 {
		delete(levels, price)
	}
	f.touched[levelKey{s, price}] = struct{}{}
}
