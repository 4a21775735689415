package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/levada-go/levada"
	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/exchange/book"
	"github.com/levada-go/levada/examples/exchange/orderbook"
	"github.com/levada-go/levada/projection"
)

// An Exchange is a store of order books, the commands to them, and the read model
// of what is shown. It knows nothing of HTTP. Open makes one; Run keeps its read
// model up to date.
type Exchange struct {
	store   *eventstore.Store
	app     *levada.App
	symbols []Symbol
	bySym   map[string]*Symbol
	frames  map[string]*frames

	markets kept
	lastID  atomic.Uint64
	node    uint8 // tells ids of this process from others'
}

// Bounds of live orders, so that nobody can fill memory and everybody's snapshots.
const (
	maxOwnOrders  = 200    // of one owner in one market
	maxLiveOrders = 20_000 // in one market
)

const (
	marketsName = "markets"
	saveTimeout = 3 * time.Second
)

// Open returns the exchange for the given markets on a store, whose events it
// registers.
func Open(store *eventstore.Store, symbols []Symbol, log *slog.Logger) (*Exchange, error) {
	x := &Exchange{store: store, symbols: symbols, bySym: map[string]*Symbol{}, frames: map[string]*frames{}, node: uint8(rand.Uint32())}
	for i := range symbols {
		x.bySym[symbols[i].Name] = &symbols[i]
		x.frames[symbols[i].Name] = &frames{}
	}
	x.markets.store, x.markets.log = store, log
	app, err := levada.New(store, levada.Config{
		Aggregates: []aggregate.Opener{orderbook.Books},
		Projections: []projection.Runner{&projection.Projection[*Markets]{
			Name: marketsName, Target: &x.markets,
			Filter:   eventstore.Filter{Categories: []string{orderbook.Books.Name}},
			Handlers: []projection.Handler[*Markets]{projection.On(foldDecided)},
		}},
		Logger: log,
	})
	if err != nil {
		return nil, fmt.Errorf("exchange: %w", err)
	}
	x.app = app
	return x, nil
}

func foldDecided(_ context.Context, m *Markets, e orderbook.Decided, r *eventstore.Recorded) error {
	if d, ok := decided(&e, r); ok {
		m.open(r.Stream.ID()).apply(&d)
	}
	return nil
}

// decided returns the decision that an event records, or false if the command was
// refused: then nothing changed.
func decided(e *orderbook.Decided, r *eventstore.Recorded) (decision, bool) {
	return decision{r.Version, r.Position, r.Time, &e.Command, e.Effects}, e.Reason == 0
}

// decisionOf is decided for an event of any type.
func decisionOf(r *eventstore.Recorded) (decision, bool) {
	e, ok := r.Data.(orderbook.Decided)
	if !ok {
		return decision{}, false
	}
	return decided(&e, r)
}

// Run keeps the read model up to date until ctx ends, and then saves it. It returns
// an error only if the store was closed before.
func (x *Exchange) Run(ctx context.Context) error {
	if err := x.app.Run(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	x.markets.save(ctx)
	return nil
}

// Ready returns when the read model has everything that is in the store now.
func (x *Exchange) Ready(ctx context.Context) error {
	head, err := x.store.Head(ctx)
	if err != nil {
		return err
	}
	return x.caughtUp(ctx, head)
}

func (x *Exchange) caughtUp(ctx context.Context, p eventstore.Position) error {
	return x.app.Group.Wait(ctx, p, marketsName)
}

func (x *Exchange) symbol(name string) *Symbol { return x.bySym[name] }

func stream(s *Symbol) eventstore.StreamName {
	return eventstore.Stream(orderbook.Books.Name, s.Name)
}

// view calls fn with what is shown of a market, which is empty if nothing has
// happened there yet, and the position at which it stands. fn must neither modify
// nor keep it.
func (x *Exchange) view(s *Symbol, fn func(m *market, at eventstore.Position)) {
	x.markets.view(func(all *Markets, at eventstore.Position) {
		m := all.market(s.Name)
		if m == nil {
			m = newMarket()
		}
		fn(m, at)
	})
}

// An outcome is what a command to an order led to, at once.
type outcome struct {
	Order    string              `json:"order"`
	Symbol   string              `json:"symbol"`
	Status   string              `json:"status,omitempty"` // of the order; empty if it is what it was
	Open     string              `json:"open"`             // what of it still rests or waits, or was cancelled
	Filled   string              `json:"filled"`           // by this command
	Fills    []fillJSON          `json:"fills"`
	Repeated bool                `json:"repeated,omitempty"` // the key was used before: this is what happened then
	Seq      eventstore.Version  `json:"seq"`
	Position eventstore.Position `json:"position"`
}

type fillJSON struct {
	Price    string `json:"price"`
	Quantity string `json:"quantity"`
}

// place places an order.
func (x *Exchange) place(ctx context.Context, owner uint64, s *Symbol, r *request) (outcome, error) {
	c, err := r.placing(s)
	if err != nil {
		return outcome{}, asBadRequest(err)
	}
	c.Owner, c.ID = owner, x.newID()
	x.view(s, func(m *market, _ eventstore.Position) {
		if len(m.owners[owner]) >= maxOwnOrders {
			err = errTooMany
		} else if len(m.orders) >= maxLiveOrders {
			err = book.ErrFull
		}
	})
	if err != nil {
		return outcome{}, err
	}
	var opts []command.Option
	if r.key != "" {
		opts = append(opts, command.Once(strconv.FormatUint(owner, 36)+"/"+r.key))
	}
	return x.execute(ctx, s, &c, opts...)
}

// modify changes an order of an owner.
func (x *Exchange) modify(ctx context.Context, owner uint64, s *Symbol, r *request) (outcome, error) {
	c, err := r.modifying(s)
	if err == nil {
		c.ID, err = r.orderID()
	}
	if err != nil {
		return outcome{}, asBadRequest(err)
	}
	c.Owner = owner
	return x.execute(ctx, s, &c)
}

// cancel cancels an order of an owner.
func (x *Exchange) cancel(ctx context.Context, owner uint64, s *Symbol, r *request) (outcome, error) {
	id, err := r.orderID()
	if err != nil {
		return outcome{}, asBadRequest(err)
	}
	return x.execute(ctx, s, &book.Command{Op: book.Cancel, ID: id, Owner: owner})
}

func asBadRequest(err error) error {
	if r := (*refusal)(nil); errors.As(err, &r) {
		return err
	}
	return badRequest(err)
}

// execute sends a command to its book and returns what became of its order, or
// the book.Reason for which it was refused. It returns as soon as the event is
// durable; the read model follows.
func (x *Exchange) execute(ctx context.Context, s *Symbol, c *book.Command, opts ...command.Option) (outcome, error) {
	var cmd command.Command
	switch c.Op {
	case book.Place:
		cmd = orderbook.Place{Symbol: s.Name, ID: c.ID, Owner: c.Owner, Side: c.Side, Type: c.Type, TIF: c.TIF, STP: c.STP,
			PostOnly: c.PostOnly, Qty: c.Qty, Price: c.Price, Stop: c.Stop}
	case book.Modify:
		cmd = orderbook.Modify{Symbol: s.Name, ID: c.ID, Owner: c.Owner, Fields: c.Fields, Qty: c.Qty, Price: c.Price, Stop: c.Stop}
	default:
		cmd = orderbook.Cancel{Symbol: s.Name, ID: c.ID, Owner: c.Owner}
	}
	res, err := x.app.Dispatch(ctx, cmd, opts...)
	if err != nil {
		return outcome{}, err
	}
	var e orderbook.Decided
	if res.Repeated {
		// The command has one event, which tells what happened the first time.
		if e, err = x.event(ctx, s, res.Version); err != nil {
			return outcome{}, err
		}
	} else {
		e = res.Events[0].(orderbook.Decided)
	}
	if err := e.Err(); err != nil {
		return outcome{}, err
	}
	d := decision{version: res.Version, position: res.Position, command: &e.Command, effects: e.Effects}
	out := s.outcome(&d)
	out.Repeated = res.Repeated
	return out, nil
}

func (x *Exchange) event(ctx context.Context, s *Symbol, v eventstore.Version) (orderbook.Decided, error) {
	for r, err := range x.store.ReadStream(ctx, stream(s), v-1) {
		if err != nil {
			return orderbook.Decided{}, err
		}
		if e, ok := r.Data.(orderbook.Decided); ok && r.Version == v {
			return e, nil
		}
		break
	}
	return orderbook.Decided{}, fmt.Errorf("exchange: %s has no decision at version %d", s.Name, v)
}

// outcome returns what d did to the order that its command names.
func (s *Symbol) outcome(d *decision) outcome {
	out := outcome{Order: orderID(d.command.ID), Symbol: s.Name, Seq: d.version, Position: d.position, Fills: []fillJSON{}}
	own := d.own(d.command.Owner)
	var open, filled int64
	for _, f := range own.fills {
		if f.id == d.command.ID {
			filled += f.qty
			out.Fills = append(out.Fills, fillJSON{s.Price(f.price), s.Qty(f.qty)})
		}
	}
	for _, o := range own.orders {
		if o.id == d.command.ID {
			out.Status, open = o.status, o.open
		}
	}
	out.Open, out.Filled = s.Qty(open), s.Qty(filled)
	return out
}

// newID returns an id that no order has: later ones are greater, also after a
// restart, as long as the clock does not go back by more than the exchange was closed for.
// The last byte is that of the process, which is chance: should two that serve one store have the same,
// and make an id in the same microsecond, the book refuses the later order.
func (x *Exchange) newID() uint64 {
	now := uint64(time.Now().UnixMicro())<<8 | uint64(x.node)
	for {
		last := x.lastID.Load()
		id := max(now, last+1<<8)
		if x.lastID.CompareAndSwap(last, id) {
			return id
		}
	}
}
