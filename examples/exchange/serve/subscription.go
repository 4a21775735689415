package serve

import (
	"context"
	"errors"

	"github.com/gorilla/websocket"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/exchange/book"
)

// A subscription is a client's to one channel: a transient subscription on the
// store, and the goroutine that turns what it delivers into frames.
type subscription struct {
	key    channelKey
	symbol *Symbol
	after  eventstore.Position // the snapshot shows everything up to here
	cancel context.CancelFunc
	done   chan struct{} // closed when no more frames will come
}

// end stops the subscription. After it no frame of it comes any more.
func (sub *subscription) end() {
	sub.cancel()
	<-sub.done
}

// subject returns what r asks to be subscribed to, or unsubscribed from.
func (r *request) subject() (channelKey, error) {
	k := channelKey{channel: r.channel, symbol: r.symbol}
	switch r.channel {
	case channelBook, channelTrades, channelOrders:
		if r.interval != "" {
			return k, badRequest(errors.New("only candles have an interval"))
		}
	case channelCandles:
		var ok bool
		if k.interval, ok = intervalNamed(r.interval); !ok {
			return k, &refusal{400, "unknown_interval", "candles need an interval out of those that the hello frame lists"}
		}
	default:
		return k, &refusal{404, "unknown_channel", "the channels are book, trades, candles and orders"}
	}
	return k, nil
}

// subscribe answers r and starts a subscription. One that the client has already
// begins anew.
func (ss *session) subscribe(r *request, s *Symbol) error {
	k, err := r.subject()
	if err != nil {
		return err
	}
	if old := ss.subs[k]; old != nil {
		old.end()
		delete(ss.subs, k)
	}
	if len(ss.subs) >= ss.s.limits.subscriptions {
		return &refusal{422, "too_many_subscriptions", "this connection has as many subscriptions as it may"}
	}
	if !ss.send(ss.ctx, encode(subscribedFrame{"subscribed", r.id, r.channel, r.symbol, r.interval})) {
		return nil
	}
	sub := &subscription{key: k, symbol: s, after: ss.done, done: make(chan struct{})}
	ctx, cancel := context.WithCancel(ss.ctx)
	sub.cancel = cancel
	ss.subs[k] = sub
	ss.pumps.Go(func() {
		defer close(sub.done)
		defer cancel()
		defer ss.contain()
		if err := ss.feed(ctx, sub); err != nil && ctx.Err() == nil {
			if errors.Is(err, eventstore.ErrClosed) {
				ss.close(websocket.CloseGoingAway, "")
				return
			}
			ss.log.Error("exchange: a subscription failed", "channel", k.channel, "symbol", k.symbol, "err", err)
			ss.close(websocket.CloseInternalServerErr, "")
		}
	})
	return nil
}

func (ss *session) unsubscribe(r *request) (any, error) {
	k, err := r.subject()
	if err != nil {
		return nil, err
	}
	sub := ss.subs[k]
	if sub == nil {
		return nil, &refusal{404, "not_subscribed", "this connection has no such subscription"}
	}
	sub.end()
	delete(ss.subs, k)
	return subscribedFrame{"unsubscribed", r.id, r.channel, r.symbol, r.interval}, nil
}

type subscribedFrame struct {
	Type     string `json:"type"` // "subscribed" or "unsubscribed"
	ID       int64  `json:"id,omitempty"`
	Channel  string `json:"channel"`
	Symbol   string `json:"symbol"`
	Interval string `json:"interval,omitempty"`
}

// feed sends the snapshot and then the updates of a subscription until ctx ends.
func (ss *session) feed(ctx context.Context, sub *subscription) error {
	if err := ss.s.exchange.caughtUp(ctx, sub.after); err != nil {
		return err
	}
	switch sub.key.channel {
	case channelTrades:
		return ss.feedTrades(ctx, sub)
	case channelOrders:
		return ss.feedOrders(ctx, sub)
	}
	return ss.feedState(ctx, sub)
}

// follow subscribes to what selects selects of a symbol's events after a position.
func follow[T any](ctx context.Context, ss *session, s *Symbol, after eventstore.Position,
	selects func(*decision) bool, maps func(*decision) T) (*eventstore.Subscription[T], error) {
	return eventstore.Subscribe(ctx, ss.s.exchange.store, eventstore.Transient[T]{
		Filter: eventstore.Filter{Streams: []eventstore.StreamName{stream(s)}},
		From:   eventstore.After(after),
		Select: func(r *eventstore.Recorded) bool { d, ok := decisionOf(r); return ok && selects(&d) },
		Map:    func(r *eventstore.Recorded) T { d, _ := decisionOf(r); return maps(&d) },
		Buffer: ss.s.limits.buffer,
	})
}

// feedState feeds the channels that show a state, the book and the candles. An
// update tells how the state of now differs from what was last sent, so a client
// that is behind gets one update for many events; one that is too far behind for
// that gets a snapshot again.
func (ss *session) feedState(ctx context.Context, sub *subscription) error {
	x, s, k := ss.s.exchange, sub.symbol, sub.key
	frame, seq, at := x.snapshot(s, k)
	events, err := follow(ctx, ss, s, at, (*decision).shows, func(d *decision) eventstore.Version { return d.version })
	if err != nil {
		return err
	}
	defer events.Close()
	if !ss.send(ctx, frame) {
		return nil
	}
	for b := range events.C {
		// The event may be here before the read model has it.
		if err := x.caughtUp(ctx, b.Position); err != nil {
			return err
		}
		frame, to := x.update(s, k, seq)
		if frame == nil {
			continue
		}
		if !ss.send(ctx, frame) {
			return nil
		}
		seq = to
	}
	return events.Err()
}

// shows reports whether d can have changed the book or a candle.
func (d *decision) shows() bool {
	for i := range d.effects {
		switch d.effects[i].Kind {
		case book.Wait, book.Trigger, book.Fill:
		default:
			return true
		}
	}
	return false
}

// snapshot returns a snapshot frame of the book, candles or trades, its sequence,
// and the position after which updates begin.
func (x *Exchange) snapshot(s *Symbol, k channelKey) (frame []byte, seq eventstore.Version, at eventstore.Position) {
	x.view(s, func(m *market, p eventstore.Position) {
		seq, at = m.lastTape, p
		if k.channel == channelBook {
			seq = m.lastBook
		}
		// Seen at another position the frame is the same, so the cached one is as good.
		frame = x.frames[s.Name].get(frameKey{channel: k.channel, interval: k.interval, seq: seq, snapshot: true}, func() dataFrame {
			f := dataFrame{Type: "snapshot", Channel: k.channel, Symbol: s.Name, Seq: seq, Position: m.position}
			switch k.channel {
			case channelBook:
				s.levels(&f, append(m.side(book.Buy), m.side(book.Sell)...))
			case channelTrades:
				s.trades(&f, lastOf(m.trades, maxTrades))
			case channelCandles:
				f.Interval = intervals[k.interval].name
				s.candles(&f, lastOf(m.candles[k.interval].candles, maxCandles))
			}
			return f
		})
	})
	return frame, seq, at
}

// update returns the frame that leads from what was sent last to what is, and
// its sequence; nil if there is nothing new.
func (x *Exchange) update(s *Symbol, k channelKey, from eventstore.Version) (frame []byte, to eventstore.Version) {
	var changes []*change
	known := false
	x.view(s, func(m *market, _ eventstore.Position) {
		before := (*change).beforeTape
		to = m.lastTape
		if k.channel == channelBook {
			to, before = m.lastBook, (*change).beforeBook
		}
		kept, ok := m.since(from, before)
		changes, known = append(changes, kept...), ok // changes are never modified: they may leave the lock
	})
	if to == from {
		return nil, from
	}
	if !known {
		frame, to, _ = x.snapshot(s, k)
		return frame, to
	}
	return x.frames[s.Name].get(frameKey{channel: k.channel, interval: k.interval, prev: from, seq: to}, func() dataFrame {
		f := dataFrame{Type: "update", Channel: k.channel, Symbol: s.Name, Prev: &from, Seq: to}
		if k.channel == channelBook {
			f.Position = s.mergeLevels(&f, changes)
		} else {
			f.Interval = intervals[k.interval].name
			f.Position = s.mergeCandles(&f, k.interval, changes)
		}
		return f
	}), to
}

// mergeLevels tells each level that changed once, as it is after all changes.
func (s *Symbol) mergeLevels(f *dataFrame, changes []*change) (last eventstore.Position) {
	var levels []levelChange
	at := map[levelKey]int{}
	for _, c := range changes {
		for _, l := range c.levels {
			k := levelKey{l.side, l.price}
			if i, ok := at[k]; ok {
				levels[i] = l
				continue
			}
			at[k] = len(levels)
			levels = append(levels, l)
		}
		if len(c.levels) > 0 {
			last = c.position
		}
	}
	s.levels(f, levels)
	return last
}

// mergeCandles tells each candle that changed once, as it is after all changes.
func (s *Symbol) mergeCandles(f *dataFrame, interval int, changes []*change) (last eventstore.Position) {
	var candles []candle
	for _, c := range changes {
		if len(c.trades) == 0 {
			continue
		}
		n := c.candles[interval]
		if len(candles) > 0 && candles[len(candles)-1].start == n.start {
			candles[len(candles)-1] = n
		} else {
			candles = append(candles, n)
		}
		last = c.position
	}
	s.candles(f, candles)
	return last
}

// A print is the trades of one event.
type print struct {
	version  eventstore.Version
	position eventstore.Position
	trades   []trade
}

func (d *decision) prints() print { return print{d.version, d.position, d.trades()} }

func (d *decision) traded() bool {
	for i := range d.effects {
		if d.effects[i].Kind == book.Trade {
			return true
		}
	}
	return false
}

// feedTrades feeds the tape. Trades are never left out: they come from the
// subscription itself, which reads on from the store when the client is behind.
func (ss *session) feedTrades(ctx context.Context, sub *subscription) error {
	x, s, k := ss.s.exchange, sub.symbol, sub.key
	frame, seq, at := x.snapshot(s, k)
	events, err := follow(ctx, ss, s, at, (*decision).traded, (*decision).prints)
	if err != nil {
		return err
	}
	defer events.Close()
	if !ss.send(ctx, frame) {
		return nil
	}
	for b := range events.C {
		first, last := b.Events[0], b.Events[len(b.Events)-1]
		if ss.tooFar(s, first.version) {
			return nil
		}
		from := seq
		frame := x.frames[s.Name].get(frameKey{channel: k.channel, prev: from, seq: last.version}, func() dataFrame {
			f := dataFrame{Type: "update", Channel: k.channel, Symbol: s.Name, Prev: &from, Seq: last.version, Position: last.position}
			var all []trade
			for _, p := range b.Events {
				all = append(all, p.trades...)
			}
			s.trades(&f, all)
			return f
		})
		if !ss.send(ctx, frame) {
			return nil
		}
		seq = last.version
	}
	return events.Err()
}

// feedOrders feeds an owner's own orders and fills.
func (ss *session) feedOrders(ctx context.Context, sub *subscription) error {
	x, s := ss.s.exchange, sub.symbol
	f, at := x.ownOrders(s, ss.owner)
	events, err := follow(ctx, ss, s, at,
		func(d *decision) bool { return d.concerns(ss.owner) },
		func(d *decision) *ownChange { return d.own(ss.owner) })
	if err != nil {
		return err
	}
	defer events.Close()
	if !ss.send(ctx, encode(f)) {
		return nil
	}
	seq := f.Seq
	for b := range events.C {
		if ss.tooFar(s, b.Events[0].version) {
			return nil
		}
		for _, c := range b.Events {
			from := seq
			f := dataFrame{Type: "update", Channel: channelOrders, Symbol: s.Name, Prev: &from, Seq: c.version, Position: c.position}
			s.ownChange(&f, c)
			if !ss.send(ctx, encode(f)) {
				return nil
			}
			seq = c.version
		}
	}
	return events.Err()
}

// ownOrders returns the snapshot of an owner's live orders, and the position after
// which updates begin.
func (x *Exchange) ownOrders(s *Symbol, owner uint64) (f dataFrame, at eventstore.Position) {
	x.view(s, func(m *market, p eventstore.Position) {
		f = dataFrame{Type: "snapshot", Channel: channelOrders, Symbol: s.Name, Seq: m.version, Position: m.position}
		s.liveOrders(&f, m.own(owner))
		at = p
	})
	return f, at
}

// tooFar closes the session, and returns true, if it is to be sent an event that
// lies too far back: the client will never catch up.
func (ss *session) tooFar(s *Symbol, v eventstore.Version) bool {
	far := false
	ss.s.exchange.view(s, func(m *market, _ eventstore.Position) {
		far = m.version > v+eventstore.Version(ss.s.limits.lag)
	})
	if far {
		ss.close(closeSlow, "too slow")
	}
	return far
}
