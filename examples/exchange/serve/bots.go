package serve

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/exchange/book"
)

// bots trade for the demonstration, through the same commands as everybody. Two
// market makers quote around a price that only they know, and move their quotes
// after it as it wanders; takers trade with them, more often in the direction in
// which the quotes lag behind, so that the price follows; others leave limit
// orders and stops about.
//
// All that bots remember is that hidden price, which begins at the last trade. The
// rest they see in the book, so after a restart they go on with the orders they had.
//
// The log grows by no more than one event a step, and the steps are few: see
// stepEvery and idleEvery. The number of their orders is bounded.
type bots struct {
	x      *Exchange
	rng    *rand.Rand
	log    *slog.Logger
	hidden map[string]*hiddenPrice
}

type hiddenPrice struct{ ticks, speed float64 }

const (
	stepEvery = 180 * time.Millisecond // while somebody watches
	idleEvery = 28                     // steps to one when nobody does
	warmUp    = 48                     // steps at once in a market without trades

	makerLevels = 16 // orders of the makers on each side
	otherOrders = 12 // that others leave about
	stopOrders  = 6
)

// The owners of the bots' orders.
const (
	makers    = 2 // owners 1 and 2
	others    = 4 // owners 3 to 6
	lastOwner = makers + others
)

func newBots(x *Exchange, seed uint64, log *slog.Logger) *bots {
	return &bots{x: x, rng: rand.New(rand.NewPCG(seed, 0x6c6576616461)), log: log, hidden: map[string]*hiddenPrice{}}
}

// run trades until ctx ends. Should a bot panic, trading ends and the exchange goes on.
func (b *bots) run(ctx context.Context, watched func() bool) {
	defer func() {
		if p := recover(); p != nil {
			b.log.Error("exchange: the bots panicked", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	for i := range b.x.symbols {
		b.begin(ctx, &b.x.symbols[i])
	}
	tick := time.NewTicker(stepEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if !watched() && n%idleEvery != 0 {
			continue
		}
		b.step(ctx, b.choose())
	}
}

// choose returns the market of the next step, the first ones more often.
func (b *bots) choose() *Symbol {
	all := b.x.symbols
	i := int(b.rng.Float64() * b.rng.Float64() * float64(len(all)+1))
	return &all[min(i, len(all)-1)]
}

// begin fills an empty market at once, so that there is something to see.
func (b *bots) begin(ctx context.Context, s *Symbol) {
	for range 2*makerLevels + warmUp {
		v := b.look(s)
		if v.last != 0 && len(v.quotes[book.Buy]) >= makerLevels/2 && len(v.quotes[book.Sell]) >= makerLevels/2 && v.traded >= 12 {
			return
		}
		switch buys, sells := len(v.quotes[book.Buy]), len(v.quotes[book.Sell]); {
		case buys < makerLevels && buys <= sells:
			b.quote(ctx, s, v, book.Buy, 1)
		case sells < makerLevels:
			b.quote(ctx, s, v, book.Sell, 1)
		default:
			b.step(ctx, s)
		}
	}
}

// A scene is a market as the bots see it.
type scene struct {
	hidden   float64
	bid, ask int64 // 0: none
	last     int64
	traded   int
	quotes   [3][]liveOrder // of the makers, by side
	others   []liveOrder
	stops    []liveOrder
}

func (b *bots) look(s *Symbol) *scene {
	v := &scene{}
	b.x.view(s, func(m *market, _ eventstore.Position) {
		for p := range m.levels[book.Buy] {
			v.bid = max(v.bid, p)
		}
		for p := range m.levels[book.Sell] {
			if v.ask == 0 || p < v.ask {
				v.ask = p
			}
		}
		if n := len(m.trades); n > 0 {
			v.last, v.traded = m.trades[n-1].price, n
		}
		for owner := uint64(1); owner <= lastOwner; owner++ {
			for _, o := range m.own(owner) {
				switch {
				case !o.resting:
					v.stops = append(v.stops, o)
				case owner <= makers:
					v.quotes[o.side] = append(v.quotes[o.side], o)
				default:
					v.others = append(v.others, o)
				}
			}
		}
	})
	h := b.hidden[s.Name]
	if h == nil {
		h = &hiddenPrice{ticks: float64(s.start)}
		if v.last != 0 {
			h.ticks = float64(v.last)
		}
		b.hidden[s.Name] = h
	}
	v.hidden = h.ticks
	return v
}

// wander moves the hidden price: it keeps some of its speed, and is drawn back to
// where the market began by a little.
func (b *bots) wander(s *Symbol) {
	h := b.hidden[s.Name]
	h.speed = 0.8*h.speed + 0.3*s.sigma*b.rng.NormFloat64()
	h.ticks += h.speed + 0.002*(float64(s.start)-h.ticks)
	h.ticks = min(max(h.ticks, float64(s.start)/4), 4*float64(s.start))
}

// step does one thing in one market.
func (b *bots) step(ctx context.Context, s *Symbol) {
	v := b.look(s)
	b.wander(s)
	switch dice := b.rng.Float64(); {
	case v.bid == 0 || v.ask == 0 || dice < 0.60:
		b.requote(ctx, s, v)
	case dice < 0.88:
		b.take(ctx, s, v)
	case dice < 0.97:
		b.leave(ctx, s, v)
	default:
		b.stop(ctx, s, v)
	}
}

// requote places, moves, or resizes one quote of a maker. A quote on the wrong side
// of the hidden price is about to be taken and goes first, then one that is out of
// reach, then the farthest if there is a gap beside the hidden price.
func (b *bots) requote(ctx context.Context, s *Symbol, v *scene) {
	spread := float64(s.spread)
	var far [3]struct {
		order liveOrder
		off   float64
	}
	for side := book.Buy; side <= book.Sell; side++ {
		for _, o := range v.quotes[side] {
			d := (v.hidden - float64(o.price)) * sign(side)
			if d < -spread/4 {
				d = 2*b.reach(s) - d // worse than any that is only far
			}
			if d > far[side].off {
				far[side].order, far[side].off = o, d
			}
		}
	}
	gaps := [3]float64{book.Buy: v.hidden - float64(v.bid), book.Sell: float64(v.ask) - v.hidden}
	side := book.Side(1 + b.rng.IntN(2))
	switch limit := 1.2 * b.reach(s); {
	case max(far[book.Buy].off, far[book.Sell].off) > limit:
		side = book.Buy
		if far[book.Sell].off > far[book.Buy].off {
			side = book.Sell
		}
	case b.rng.Float64() < 0.7: // where more is missing
		side = book.Buy
		if gaps[book.Sell] > gaps[book.Buy] {
			side = book.Sell
		}
	}
	near := 1.0
	if v.bid == 0 || v.ask == 0 || gaps[side] > spread {
		near = 0.12
	}
	full := len(v.quotes[side]) >= makerLevels
	switch {
	case far[side].off > 1.2*b.reach(s) || full && near < 1:
		o := far[side].order
		b.send(ctx, s, &book.Command{Op: book.Modify, ID: o.id, Owner: o.owner, Fields: book.FieldPrice | book.FieldQty,
			Price: b.quotePrice(s, v, side, near), Qty: b.size(s, 1.4)})
	case !full:
		b.quote(ctx, s, v, side, near)
	default:
		o := v.quotes[side][b.rng.IntN(len(v.quotes[side]))]
		b.send(ctx, s, &book.Command{Op: book.Modify, ID: o.id, Owner: o.owner, Fields: book.FieldQty, Qty: b.size(s, 1.4)})
	}
}

// sign is 1 for a buy, whose price is too high when it is above the hidden one,
// and -1 for a sell.
func sign(side book.Side) float64 {
	if side == book.Buy {
		return 1
	}
	return -1
}

// reach is how far from the hidden price makers quote, in ticks.
func (b *bots) reach(s *Symbol) float64 { return float64(s.spread) * makerLevels * 0.9 }

func (b *bots) quote(ctx context.Context, s *Symbol, v *scene, side book.Side, near float64) {
	b.send(ctx, s, &book.Command{Op: book.Place, Side: side, Owner: 1 + b.rng.Uint64N(makers), PostOnly: true,
		STP: book.STPCancelNewest, Price: b.quotePrice(s, v, side, near), Qty: b.size(s, 1.4)})
}

// quotePrice is near the hidden price more often than far from it, and does not
// trade. A near below 1 keeps it to that part of the makers' reach.
func (b *bots) quotePrice(s *Symbol, v *scene, side book.Side, near float64) int64 {
	u := b.rng.Float64()
	off := float64(s.spread)/2 + u*u*near*b.reach(s)
	room := 1 + b.rng.Int64N(2*s.spread) // from the other side, where that is in the way
	if side == book.Buy {
		p := int64(math.Round(v.hidden - off))
		if v.ask != 0 && p >= v.ask {
			p = v.ask - room
		}
		return max(p, 1)
	}
	p := int64(math.Round(v.hidden + off))
	if p <= v.bid {
		p = v.bid + room
	}
	return p
}

// take trades at once: with the quotes that lag behind, or just so.
func (b *bots) take(ctx context.Context, s *Symbol, v *scene) {
	side := book.Side(1 + b.rng.IntN(2))
	switch {
	case v.hidden > float64(v.ask):
		side = book.Buy
	case v.hidden < float64(v.bid):
		side = book.Sell
	case b.rng.Float64() < 0.6:
		side = book.Buy
		if b.hidden[s.Name].speed < 0 {
			side = book.Sell
		}
	}
	c := &book.Command{Op: book.Place, Side: side, Type: book.Market, TIF: book.IOC, Owner: b.other(),
		STP: book.STPCancelOldest, Qty: b.size(s, 0.45)}
	if b.rng.Float64() < 0.5 {
		c.Type = book.Limit
		c.Price = v.ask + s.spread
		if side == book.Sell {
			c.Price = max(v.bid-s.spread, 1)
		}
	}
	b.send(ctx, s, c)
}

// leave leaves a limit order about, or takes back the oldest when there are enough.
func (b *bots) leave(ctx context.Context, s *Symbol, v *scene) {
	if len(v.others) >= otherOrders {
		oldest := v.others[0]
		for _, o := range v.others {
			if o.ms < oldest.ms {
				oldest = o
			}
		}
		b.send(ctx, s, &book.Command{Op: book.Cancel, ID: oldest.id, Owner: oldest.owner})
		return
	}
	side := book.Side(1 + b.rng.IntN(2))
	p := b.quotePrice(s, v, side, 1)
	if b.rng.Float64() < 0.4 { // people like round numbers
		step := s.spread * 2
		p = max((p+step/2)/step*step, 1)
	}
	b.send(ctx, s, &book.Command{Op: book.Place, Side: side, Owner: b.other(), STP: book.STPCancelOldest, Price: p, Qty: b.size(s, 1)})
}

// stop protects a position nobody has.
func (b *bots) stop(ctx context.Context, s *Symbol, v *scene) {
	if len(v.stops) >= stopOrders || v.last == 0 {
		b.take(ctx, s, v)
		return
	}
	off := int64(float64(s.spread) * (6 + 10*b.rng.Float64()))
	c := &book.Command{Op: book.Place, Side: book.Sell, Type: book.Stop, Owner: b.other(), STP: book.STPCancelOldest,
		Qty: b.size(s, 0.5), Stop: max(v.last-off, 1)}
	if b.rng.Float64() < 0.5 {
		c.Side, c.Stop = book.Buy, v.last+off
	}
	b.send(ctx, s, c)
}

func (b *bots) other() uint64 { return makers + 1 + b.rng.Uint64N(others) }

// size is log-normal, as sizes of orders are: many small ones and a few large.
func (b *bots) size(s *Symbol, scale float64) int64 {
	q := float64(s.size) * scale * math.Exp(0.9*b.rng.NormFloat64()-0.4)
	return min(max(int64(q), 1), s.size*12)
}

// send executes a command, and waits until it can be seen. That it is refused is
// nothing special: the market may have moved.
func (b *bots) send(ctx context.Context, s *Symbol, c *book.Command) {
	if c.Op == book.Place {
		c.ID = b.x.newID()
	}
	out, err := b.x.execute(ctx, s, c)
	if err == nil {
		err = b.x.caughtUp(ctx, out.Position)
	}
	var refused book.Reason
	if err != nil && ctx.Err() == nil && !errors.As(err, &refused) && !errors.Is(err, eventstore.ErrClosed) {
		b.log.Warn("exchange: a bot's order failed", "symbol", s.Name, "err", err)
	}
}
