package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/exchange/book"
	"github.com/levada-go/levada/examples/exchange/orderbook"
)

// load sends n commands of several owners to a market, at once.
func (k *kit) load(seed uint64, n int) {
	s := &k.x.symbols[0]
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(w)))
			var mine []uint64
			for range n / 4 {
				c := book.Command{Op: book.Place, Side: book.Side(1 + rng.IntN(2)), ID: k.x.newID(), Owner: uint64(1 + w),
					Qty: int64(1 + rng.IntN(50)), Price: int64(1000 + rng.IntN(20)), STP: book.STPCancelOldest}
				switch dice := rng.IntN(10); {
				case dice < 2 && len(mine) > 0:
					c = book.Command{Op: book.Cancel, ID: mine[rng.IntN(len(mine))], Owner: c.Owner}
				case dice < 3 && len(mine) > 0:
					c = book.Command{Op: book.Modify, ID: mine[rng.IntN(len(mine))], Owner: c.Owner, Fields: book.FieldPrice, Price: c.Price}
				case dice < 5:
					c.Type, c.Price, c.TIF = book.Market, 0, book.IOC
				default:
					mine = append(mine, c.ID)
				}
				_, err := k.x.execute(context.Background(), s, &c)
				if _, refused := err.(book.Reason); err != nil && !refused {
					k.t.Errorf("load: %v", err)
				}
			}
		})
	}
	all.Wait()
}

// A viewer follows the channels of a symbol by what the frames say and checks that
// each continues the one before.
type viewer struct {
	e      *end
	seq    map[string]eventstore.Version
	began  eventstore.Version // of the tape
	tape   []tradeJSON
	bids   map[string]string
	asks   map[string]string
	bars   map[float64]candleJSON
	orders map[string]orderJSON
	fills  []ownFillJSON
}

func view(e *end) *viewer {
	return &viewer{e: e, seq: map[string]eventstore.Version{}, bids: map[string]string{}, asks: map[string]string{},
		bars: map[float64]candleJSON{}, orders: map[string]orderJSON{}}
}

func (v *viewer) subscribe(channels ...string) {
	for _, c := range channels {
		interval := ""
		if c == channelCandles {
			interval = `,"interval":"1s"`
		}
		v.e.send(`{"op":"subscribe","channel":"` + c + `","symbol":"BTC-USD"` + interval + `}`)
	}
}

func (v *viewer) take(f gotFrame) {
	t := v.e.t
	switch f.Type {
	case "snapshot":
		switch f.Channel {
		case channelBook:
			clear(v.bids)
			clear(v.asks)
		case channelTrades:
			require.Empty(t, v.tape, "the tape began anew")
			v.began = f.Seq
		case channelOrders:
			clear(v.orders)
		case channelCandles:
			clear(v.bars)
		}
	case "update":
		require.NotNil(t, f.Prev, f.raw)
		require.Equal(t, v.seq[f.Channel], *f.Prev, "a gap in %s", f.raw)
		require.Greater(t, f.Seq, *f.Prev)
	default:
		require.NotEqual(t, "error", f.Type, f.raw)
		return
	}
	v.seq[f.Channel] = f.Seq
	apply := func(levels map[string]string, rows *[][2]string) {
		for _, r := range *rows {
			if strings.Trim(r[1], "0.") == "" {
				delete(levels, r[0])
			} else {
				levels[r[0]] = r[1]
			}
		}
	}
	switch f.Channel {
	case channelBook:
		apply(v.bids, f.Bids)
		apply(v.asks, f.Asks)
	case channelTrades:
		if f.Type == "update" {
			v.tape = append(v.tape, *f.Trades...)
		}
	case channelCandles:
		for _, c := range *f.Candles {
			v.bars[c[0].(float64)] = c
		}
	case channelOrders:
		for _, o := range *f.Orders {
			switch known, ok := v.orders[o.Order]; {
			case o.Status == statusFilled || o.Status == statusCancelled:
				delete(v.orders, o.Order)
			case ok:
				known.Open = o.Open
				if o.Status != "" {
					known.Status = o.Status
				}
				if o.Price != "" {
					known.Price = o.Price
				}
				v.orders[o.Order] = known
			default:
				require.NotEmpty(t, o.Side, "an order out of nowhere: %s", f.raw)
				v.orders[o.Order] = o
			}
		}
		v.fills = append(v.fills, f.Fills...)
	}
}

// until takes frames until done.
func (v *viewer) until(done func() bool) {
	for !done() {
		v.take(v.e.next())
	}
}

// tape returns what the store says was traded after one version and up to another.
func (k *kit) tape(after, last eventstore.Version) []tradeJSON {
	s := &k.x.symbols[0]
	var f dataFrame
	all := []trade{}
	for r, err := range k.store.ReadStream(context.Background(), stream(s), after) {
		require.NoError(k.t, err)
		if r.Version > last {
			break
		}
		e := r.Data.(orderbook.Decided)
		if d, ok := decided(&e, r); ok {
			all = append(all, d.trades()...)
		}
	}
	s.trades(&f, all)
	return *f.Trades
}

// bookNow returns what the aggregate says rests in the book.
func (k *kit) bookNow() (bids, asks map[string]string) {
	s := &k.x.symbols[0]
	bids, asks = map[string]string{}, map[string]string{}
	books, err := aggregate.New(k.x.store, orderbook.Books)
	require.NoError(k.t, err)
	require.NoError(k.t, books.View(context.Background(), s.Name, func(b *orderbook.Book, _ eventstore.Version) {
		for l := range b.Live().Levels(book.Buy) {
			bids[s.Price(l.Price)] = s.Qty(l.Qty)
		}
		for l := range b.Live().Levels(book.Sell) {
			asks[s.Price(l.Price)] = s.Qty(l.Qty)
		}
	}))
	return bids, asks
}

// ended tells a viewer's goal: the sequences of the channels when nothing moves any more.
func (k *kit) ended() (book, tape eventstore.Version) {
	require.NoError(k.t, k.x.Ready(context.Background()))
	k.x.view(&k.x.symbols[0], func(m *market, _ eventstore.Position) { book, tape = m.lastBook, m.lastTape })
	return book, tape
}

func TestNothingIsMissedOrDoubledWheneverOneSubscribes(t *testing.T) {
	t.Parallel()
	k := serve(t, func(l *limits) { l.lag = 1 << 30 })
	const viewers, rounds = 4, 10
	var loading, watching sync.WaitGroup
	done := make(chan struct{})
	wanted := make(chan struct{}, 1) // somebody waits for something to happen
	loading.Go(func() {
		for seed := uint64(1); ; seed++ {
			k.load(seed, 8)
			select {
			case <-done:
				return
			case <-wanted:
			}
		}
	})
	last := make([]*viewer, viewers)
	for i := range viewers {
		e := k.person().dial()
		rng := rand.New(rand.NewPCG(9, uint64(i)))
		watching.Go(func() {
			last[i] = view(e)
			// Each round begins somewhere in the middle of what happens.
			for range rounds {
				v := view(e)
				v.subscribe(channelTrades, channelBook, channelCandles)
				v.until(func() bool { return len(v.seq) == 3 })
				for range 1 + rng.IntN(25) {
					select {
					case wanted <- struct{}{}:
					default:
					}
					v.take(e.next())
				}
				for _, c := range []string{`trades"`, `book"`, `candles","interval":"1s"`} {
					e.send(`{"op":"unsubscribe","symbol":"BTC-USD","channel":"` + c + `}`)
				}
				for ended := 0; ended < 3; {
					f := e.next()
					if v.take(f); f.Type == "unsubscribed" {
						ended++
					}
				}
				if want := k.tape(v.began, v.seq[channelTrades]); !slices.Equal(want, v.tape) {
					t.Errorf("after %d the tape is %v, and the store has %v", v.began, v.tape, want)
				}
			}
			v := view(e)
			v.subscribe(channelTrades, channelBook, channelCandles)
			v.until(func() bool { return len(v.seq) == 3 })
			last[i] = v
		})
	}
	watching.Wait()
	close(done)
	loading.Wait()
	b, tape := k.ended()
	bids, asks := k.bookNow()
	for _, v := range last {
		v.until(func() bool {
			return v.seq[channelBook] == b && v.seq[channelTrades] == tape && v.seq[channelCandles] == tape
		})
		require.Equal(t, k.tape(v.began, tape), append([]tradeJSON{}, v.tape...))
		require.Equal(t, bids, v.bids)
		require.Equal(t, asks, v.asks)
		var f dataFrame
		frame, _, _ := k.x.snapshot(&k.x.symbols[0], channelKey{channel: channelCandles})
		require.NoError(t, json.Unmarshal(frame, &f))
		for _, c := range *f.Candles {
			require.Equal(t, c, v.bars[c[0].(float64)])
		}
	}
}

func TestOwnersFollowTheirOrders(t *testing.T) {
	t.Parallel()
	k := serve(t)
	ann, bob := k.person(), k.person()
	ann.do("GET", "/", "") // for the cookies
	bob.do("GET", "/", "")
	va := view(ann.dial())
	va.subscribe(channelOrders)
	va.until(func() bool { return len(va.seq) == 1 })
	rng := rand.New(rand.NewPCG(3, 3))
	var mine []string
	for i := range 200 {
		p := []*person{ann, bob}[i%2]
		side := []string{"buy", "sell"}[rng.IntN(2)]
		out := p.place(fmt.Sprintf(`{"symbol":"BTC-USD","side":%q,"quantity":"0.%02d","price":"10.%02d","stp":"cancel_oldest"}`, side, 1+rng.IntN(30), rng.IntN(10)))
		if p == ann {
			mine = append(mine, out.Order)
		}
		if i%10 == 9 {
			p.do("PATCH", "/api/orders/"+mine[rng.IntN(len(mine))], `{"symbol":"BTC-USD","price":"10.05","quantity":"0.07"}`)
		}
		if i%15 == 14 {
			p.do("DELETE", "/api/orders/"+mine[rng.IntN(len(mine))]+"?symbol=BTC-USD", "")
		}
	}
	var want gotFrame
	_, body, _ := ann.do("GET", "/api/orders?symbol=BTC-USD", "")
	require.NoError(t, json.Unmarshal([]byte(body), &want))
	require.NotEmpty(t, *want.Orders)
	last := eventstore.Version(0)
	for r, err := range k.store.ReadStream(context.Background(), stream(&k.x.symbols[0]), 0) {
		require.NoError(t, err)
		e := r.Data.(orderbook.Decided)
		if d, ok := decided(&e, r); ok && d.concerns(e.Command.Owner) && e.Command.Owner != 0 {
			if len(d.own(k.ownerOf(ann)).orders) > 0 {
				last = r.Version
			}
		}
	}
	va.until(func() bool { return va.seq[channelOrders] >= last })
	require.Len(t, va.orders, len(*want.Orders))
	for _, o := range *want.Orders {
		got := va.orders[o.Order]
		require.Equal(t, []string{o.Status, o.Side, o.Price, o.Open}, []string{got.Status, got.Side, got.Price, got.Open}, "%+v", o)
	}
	// Every trade of hers is a fill of hers, twice if she is on both sides, which
	// self-trade prevention does not let happen.
	for _, f := range va.fills {
		require.Contains(t, mine, f.Order)
	}
	filled := map[string]int64{}
	for _, f := range va.fills {
		q, err := k.x.symbols[0].ParseQty(f.Quantity)
		require.NoError(t, err)
		filled[f.Order] += q
	}
	for _, o := range *want.Orders {
		require.Equal(t, o.Filled, k.x.symbols[0].Qty(filled[o.Order]))
	}
}

// ownerOf returns the owner that a person's cookie names.
func (k *kit) ownerOf(p *person) uint64 {
	_, body, _ := p.do("POST", "/api/orders", `{"symbol":"ETH-USD","side":"buy","quantity":"0.1","price":"1"}`)
	var out outcome
	require.NoError(k.t, json.Unmarshal([]byte(body), &out))
	id, err := strconv.ParseUint(out.Order, 10, 64)
	require.NoError(k.t, err)
	var owner uint64
	k.x.view(&k.x.symbols[1], func(m *market, _ eventstore.Position) { owner = m.orders[id].owner })
	p.do("DELETE", "/api/orders/"+out.Order, "")
	return owner
}

func TestTwoSymbolsDoNotMix(t *testing.T) {
	t.Parallel()
	k := serve(t)
	p := k.person()
	e := p.dial()
	require.Equal(t, "subscribed", e.ask(`{"op":"subscribe","id":1,"channel":"book","symbol":"ETH-USD"}`).Type)
	require.Equal(t, "snapshot", e.next().Type)
	p.place(`{"symbol":"BTC-USD","side":"buy","quantity":"1","price":"10"}`)
	p.place(`{"symbol":"ETH-USD","side":"buy","quantity":"1","price":"11"}`)
	f := e.next()
	require.Equal(t, "ETH-USD", f.Symbol)
	require.Equal(t, [][2]string{{"11.00", "1.000"}}, *f.Bids)
	require.EqualValues(t, 1, f.Seq)
	require.EqualValues(t, 2, f.Position)
}

func TestASubscriptionEndsWhenItIsToldTo(t *testing.T) {
	t.Parallel()
	k := serve(t)
	p := k.person()
	e := p.dial()
	require.Equal(t, "not_subscribed", e.ask(`{"op":"unsubscribe","id":1,"channel":"book","symbol":"BTC-USD"}`).Code)
	require.Equal(t, "subscribed", e.ask(`{"op":"subscribe","id":2,"channel":"book","symbol":"BTC-USD"}`).Type)
	require.Equal(t, "snapshot", e.next().Type)
	// Once more begins anew.
	require.Equal(t, "subscribed", e.ask(`{"op":"subscribe","id":3,"channel":"book","symbol":"BTC-USD"}`).Type)
	require.Equal(t, "snapshot", e.next().Type)
	p.place(`{"symbol":"BTC-USD","side":"buy","quantity":"1","price":"10"}`)
	require.Equal(t, "update", e.next().Type)
	f := e.ask(`{"op":"unsubscribe","id":4,"channel":"book","symbol":"BTC-USD"}`)
	require.Equal(t, "unsubscribed", f.Type)
	require.EqualValues(t, 4, f.ID)
	p.place(`{"symbol":"BTC-USD","side":"buy","quantity":"1","price":"10"}`)
	require.Equal(t, "pong", e.ask(`{"op":"ping","id":5}`).Type)
	e.send(`{"op":"ping","id":6}`)
	require.Equal(t, "pong", e.next().Type, "no frame came after the end")
}

func TestASlowClientGetsTheNewestBookAndEveryTrade(t *testing.T) {
	t.Parallel()
	// A subscription that holds next to nothing falls behind at once.
	k := serve(t, func(l *limits) { l.buffer = 4 })
	v := view(k.person().dial())
	v.subscribe(channelBook, channelTrades)
	v.until(func() bool { return len(v.seq) == 2 })
	const commands = 1600
	k.load(2, commands) // nobody reads meanwhile
	b, tape := k.ended()
	v.until(func() bool { return v.seq[channelBook] == b && v.seq[channelTrades] == tape })
	require.Equal(t, k.tape(v.began, tape), v.tape)
	bids, asks := k.bookNow()
	require.Equal(t, bids, v.bids)
	require.Equal(t, asks, v.asks)
}

func TestWhoIsTooFarBehindForDifferencesGetsASnapshot(t *testing.T) {
	t.Parallel()
	k := serve(t)
	k.load(2, 3*maxChanges)
	s := &k.x.symbols[0]
	// The load may end with many commands that do not trade: one of these does.
	for _, c := range []book.Command{
		{Op: book.Place, Side: book.Sell, ID: k.x.newID(), Owner: 9, Qty: 1, Price: 1},
		{Op: book.Place, Side: book.Buy, ID: k.x.newID(), Owner: 10, Qty: 1, Price: 2000},
	} {
		_, err := k.x.execute(context.Background(), s, &c)
		require.NoError(t, err)
	}
	b, tape := k.ended()
	for channel, to := range map[string]eventstore.Version{channelBook: b, channelCandles: tape} {
		for from, kind := range map[eventstore.Version]string{1: "snapshot", to - 100: "update"} {
			frame, seq := k.x.update(s, channelKey{channel: channel}, from)
			var f dataFrame
			require.NoError(t, json.Unmarshal(frame, &f))
			require.Equal(t, kind, f.Type)
			require.Equal(t, to, f.Seq)
			require.Equal(t, to, seq)
		}
		frame, _ := k.x.update(s, channelKey{channel: channel}, to)
		require.Nil(t, frame, "there is nothing new")
	}
}

// stall makes a client that subscribes and then reads nothing, over a connection
// that holds little.
func (k *kit) stall(frames ...string) *end {
	e := k.person().dial()
	for _, f := range frames {
		e.send(f)
	}
	return e
}

func TestAClientThatDoesNotReadIsClosedAndHoldsUpNobody(t *testing.T) {
	t.Parallel()
	k := serve(t, func(l *limits) { l.writeTimeout = 100 * time.Millisecond })
	k.stall(`{"op":"subscribe","channel":"trades","symbol":"BTC-USD"}`, `{"op":"subscribe","channel":"book","symbol":"BTC-USD"}`)
	v := view(k.person().dial())
	v.subscribe(channelTrades)
	v.until(func() bool { return len(v.seq) == 1 })
	require.Eventually(t, func() bool { return k.server.Watched() == 2 }, 10*time.Second, time.Millisecond)
	for seed := uint64(10); k.server.Watched() == 2; seed++ {
		k.load(seed, 400)
		_, tape := k.ended()
		v.until(func() bool { return v.seq[channelTrades] == tape })
		require.Less(t, seed, uint64(200), "it is still there")
	}
	_, tape := k.ended()
	require.Equal(t, k.tape(v.began, tape), v.tape)
}

func TestAClientThatIsTooFarBehindIsToldSo(t *testing.T) {
	t.Parallel()
	k := serve(t, func(l *limits) { l.lag, l.buffer = 50, 4 })
	e := k.stall(`{"op":"subscribe","channel":"trades","symbol":"BTC-USD"}`)
	v := view(e)
	v.until(func() bool { return len(v.seq) == 1 })
	// Trades far apart: the client's frames wait in the socket, so it takes many
	// until the server cannot pass them on.
	for seed := uint64(10); k.server.Watched() == 1; seed++ {
		k.load(seed, 400)
		require.Less(t, seed, uint64(200), "it is still there")
	}
	require.Equal(t, closeSlow, e.closed())
}
