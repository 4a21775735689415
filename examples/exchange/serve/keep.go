package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/exchange/book"
	"github.com/levada-go/levada/projection"
)

// A kept model is a projection.Target: it holds Markets in memory, as
// projection.Memory does, and now and then puts what it holds into the store as a
// snapshot, so that an exchange opens without reading all that ever happened. A
// snapshot is a cache: one that is missing or of another schema costs a longer
// start and nothing else.
type kept struct {
	store *eventstore.Store
	log   *slog.Logger

	mu    sync.RWMutex
	model Markets
	at    eventstore.Position
	saved eventstore.Position // where the latest snapshot stands
	ready bool                // model and at have been loaded
}

const (
	keptStream = eventstore.StreamName("exchange-markets") // which has a snapshot and no events
	keptSchema = 2                                         // increase it when savedMarket changes
	keepEvery  = 20_000                                    // positions between snapshots
)

var _ projection.Target[*Markets] = (*kept)(nil)

// view calls fn with the model and the position it stands at. fn must neither
// modify nor keep the model.
func (k *kept) view(fn func(*Markets, eventstore.Position)) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	fn(&k.model, k.at)
}

// Load implements projection.Target.
func (k *kept) Load(ctx context.Context, _ string) (eventstore.Position, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ready {
		return k.at, nil
	}
	k.model, k.at = Markets{}, 0
	snap, err := k.store.LoadSnapshot(ctx, keptStream)
	switch {
	case errors.Is(err, eventstore.ErrCodec):
		err = nil
	case err != nil:
		return 0, err
	case snap.Version > 0 && snap.Schema == keptSchema:
		if err = k.model.restore(snap.Data); err == nil {
			k.at = eventstore.Position(snap.Version)
		} else {
			k.model = Markets{}
		}
	}
	if err != nil {
		k.log.Warn("exchange: the snapshot of the read model is of no use; it is made again from the events", "err", err)
	}
	k.saved, k.ready = k.at, true
	return k.at, nil
}

// Update implements projection.Target.
func (k *kept) Update(ctx context.Context, _ string, from, to eventstore.Position, fn func(*Markets) error) error {
	if err := k.update(from, to, fn); err != nil {
		return err
	}
	if to-k.saved >= keepEvery { // nobody else moves it
		k.save(ctx)
	}
	return nil
}

func (k *kept) update(from, to eventstore.Position, fn func(*Markets) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.ready || k.at != from {
		return projection.ErrMoved
	}
	k.ready = false
	defer func() {
		if !k.ready { // what fn did before it failed cannot be undone: the model is loaded again
			k.model, k.at = Markets{}, 0
		}
	}()
	if err := fn(&k.model); err != nil {
		return err
	}
	k.at, k.ready = to, true
	return nil
}

// Reset implements projection.Target.
func (k *kept) Reset(ctx context.Context, _ string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	// A snapshot of a higher version cannot be replaced by one of a lower, so it
	// is emptied where it stands.
	if err := k.store.SaveSnapshot(ctx, keptStream, eventstore.Snapshot{Version: eventstore.Version(max(k.at, k.saved)), Schema: -1, Data: []byte("{}")}); err != nil {
		return err
	}
	k.model, k.at, k.saved, k.ready = Markets{}, 0, 0, true
	return nil
}

// save puts a snapshot into the store. That it fails is no harm beyond a slower start.
func (k *kept) save(ctx context.Context) {
	k.mu.RLock()
	data, at, ready := k.model.save(), k.at, k.ready
	k.mu.RUnlock()
	if !ready || at == k.saved {
		return
	}
	err := k.store.SaveSnapshot(ctx, keptStream, eventstore.Snapshot{Version: eventstore.Version(at), Schema: keptSchema, Data: data})
	if err != nil {
		k.log.Warn("exchange: the read model could not be saved", "err", err)
		return
	}
	k.saved = at
}

// savedMarket is a market in a snapshot. Its levels follow from its orders.
type savedMarket struct {
	Version  eventstore.Version
	Position eventstore.Position
	LastBook eventstore.Version
	LastTape eventstore.Version
	Orders   []savedOrder
	Trades   []savedTrade
	Fills    []savedFill
	Candles  map[string][][6]int64 // by interval
}

type savedOrder struct {
	ID, Owner          uint64
	Side, Type, TIF    string
	PostOnly, Resting  bool  `json:",omitempty"`
	Price, Stop        int64 `json:",omitempty"`
	Open, Filled, Time int64
}

type savedTrade struct {
	Version          eventstore.Version
	Index            int
	Side             string
	Price, Qty, Time int64
}

type savedFill struct {
	savedTrade
	Owner, Order uint64
	Maker        bool `json:",omitempty"`
}

func (t *trade) save() savedTrade {
	return savedTrade{t.version, t.index, t.side.String(), t.price, t.qty, t.ms}
}

func (t savedTrade) restore() (trade, error) {
	side, ok := book.ParseSide(t.Side)
	if !ok {
		return trade{}, fmt.Errorf("unknown side of a trade %q", t.Side)
	}
	return trade{t.Version, t.Index, side, t.Price, t.Qty, t.Time}, nil
}

func (m *Markets) save() []byte {
	all := map[string]*savedMarket{}
	for symbol, m := range m.by {
		s := &savedMarket{Version: m.version, Position: m.position, LastBook: m.lastBook, LastTape: m.lastTape, Candles: map[string][][6]int64{}}
		for _, o := range m.orders {
			s.Orders = append(s.Orders, savedOrder{o.id, o.owner, o.side.String(), o.typ.String(), o.tif.String(), o.post, o.resting,
				o.price, o.stop, o.open, o.filled, o.ms})
		}
		for _, t := range lastOf(m.trades, maxTrades) {
			s.Trades = append(s.Trades, t.save())
		}
		for _, f := range lastOf(m.fills, maxFills) {
			s.Fills = append(s.Fills, savedFill{f.save(), f.owner, f.order, f.maker})
		}
		for i := range m.candles {
			for _, c := range lastOf(m.candles[i].candles, maxCandles) {
				s.Candles[intervals[i].name] = append(s.Candles[intervals[i].name], [6]int64{c.start, c.open, c.high, c.low, c.close, c.volume})
			}
		}
		all[symbol] = s
	}
	return encode(all)
}

func (m *Markets) restore(data []byte) error {
	var all map[string]*savedMarket
	if err := json.Unmarshal(data, &all); err != nil {
		return err
	}
	for symbol, s := range all {
		if s == nil {
			return fmt.Errorf("nothing of %s", symbol)
		}
		if err := m.open(symbol).restore(s); err != nil {
			return fmt.Errorf("%s: %w", symbol, err)
		}
	}
	return nil
}

func (m *market) restore(s *savedMarket) error {
	m.version, m.position, m.lastBook, m.lastTape = s.Version, s.Position, s.LastBook, s.LastTape
	for _, o := range s.Orders {
		n := &liveOrder{id: o.ID, owner: o.Owner, post: o.PostOnly, resting: o.Resting, price: o.Price, stop: o.Stop, open: o.Open, filled: o.Filled, ms: o.Time}
		var side, typ, tif bool
		n.side, side = book.ParseSide(o.Side)
		n.typ, typ = book.ParseType(o.Type)
		n.tif, tif = book.ParseTIF(o.TIF)
		if !side || !typ || !tif {
			return fmt.Errorf("unknown kind of order %d", o.ID)
		}
		m.keep(n)
		if n.resting {
			m.levels[n.side][n.price] += n.open
		}
	}
	for _, t := range s.Trades {
		n, err := t.restore()
		if err != nil {
			return err
		}
		m.trades = append(m.trades, n)
	}
	for _, f := range s.Fills {
		n, err := f.restore()
		if err != nil {
			return err
		}
		m.fills = append(m.fills, fill{n, f.Owner, f.Order, f.Maker})
	}
	for i := range m.candles {
		for _, c := range s.Candles[intervals[i].name] {
			m.candles[i].candles = append(m.candles[i].candles, candle{c[0], c[1], c[2], c[3], c[4], c[5]})
		}
	}
	return nil
}
