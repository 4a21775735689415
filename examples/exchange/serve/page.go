package serve

import (
	"context"
	"crypto/rand"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/exchange/book"
	"github.com/levada-go/levada/live"
)

// A desk is the page that one person looks at: a market, its chart, the order form,
// and what is theirs. What is everybody's is the [board] of the market.
//
//	board ──regions──────────────────────┐
//	URL ─────► market, interval, group ──┤
//	store ───► own orders, fills, bars ──┼──► template, pushes ──► browser
//	form ────► place, cancel ─► store    │
//	              └─ held until it shows ┘
type desk struct {
	live.Page
	s     *Server
	owner uint64

	Market   *Symbol
	Chosen   string // the interval that was asked for, "" for the one that suits the market
	Group    int64  // ticks to a rung of the ladder
	list     string // listOrders or listFills
	Chart    string // chartPrice or chartDepth
	interval int    // that is drawn
	asked    url.Values

	Markets                   []marketTab
	Charts, Intervals, Groups []choice
	listed                    [2]choice

	prices               []live.Shown // of all markets
	Book, Day, Tape, Log live.Shown   // of this one
	Depth                live.Shown   // if it is shown
	hideBook, hideRest   func()
	hideDepth            func() // nil if it is not shown

	Key    string // of the next order, so that it is placed once if it is sent twice
	ticket ticket // as far as it is filled in
	Worth  worth  // of the ticket
	budget bucket // of orders

	at      eventstore.Position // where the read model stood when it was read
	resting []liveOrder
	filled  []fill
	bar     int64              // when the latest candle began that was sent
	leave   context.CancelFunc // ends what follows the market

	Toasts []toast
	toasts int // so far
}

// What the list of a desk shows.
const (
	listOrders = "orders"
	listFills  = "trades"
)

// What the chart of a desk shows.
const (
	chartPrice = "price"
	chartDepth = "depth"
)

const (
	fillsShown  = 100 // of one's own, in the list and on the chart
	toastsShown = 4
	toastStays  = 5 * time.Second
)

// keptCookie names the cookie in which the page keeps the market and the interval that it showed
// last. It is no secret, and what stands in it is only a wish.
const keptCookie = "exchange_page"

// deskView returns the view whose pages are desks.
func deskView(s *Server) (*live.View[desk], error) {
	t, err := template.ParseFS(templates, "assets/page.html")
	if err != nil {
		return nil, err
	}
	v := &live.View[desk]{
		Template: t,
		Mount:    func(ctx *live.Ctx, d *desk) error { d.mount(ctx, s); return nil },
		Params:   func(ctx *live.Ctx, d *desk) error { return d.params(ctx) },
	}
	live.On(v, "place", func(ctx *live.Ctx, d *desk, in ticket) error { return d.place(ctx, in) })
	live.On(v, "cancel", func(ctx *live.Ctx, d *desk, in struct{ Order string }) error { return d.cancel(ctx, in.Order) })
	live.On(v, "ticket", func(ctx *live.Ctx, d *desk, in ticket) error {
		d.ticket = in
		d.read(ctx)
		return nil
	})
	live.On(v, "group", func(ctx *live.Ctx, d *desk, in struct{ Group string }) error {
		ctx.Replace(d.link("group", in.Group))
		return nil
	})
	return v, nil
}

func (d *desk) mount(ctx *live.Ctx, s *Server) {
	d.s, d.owner, d.Key = s, ownerFrom(ctx.Request()), rand.Text()
	d.budget = newBucket(s.limits.orderRate, s.limits.orderBurst, s.now())
	for _, b := range s.boards {
		price, _ := b.price.show(ctx)
		d.prices = append(d.prices, price)
	}
}

// params shows what the URL asks for.
func (d *desk) params(ctx *live.Ctx) error {
	x := d.s.exchange
	q := ctx.URL().Query()
	if q.Get("symbol") == "" {
		if c, err := ctx.Request().Cookie(keptCookie); err == nil {
			if kept, err := url.ParseQuery(c.Value); err == nil && x.symbol(kept.Get("symbol")) != nil {
				q.Set("symbol", kept.Get("symbol"))
				q.Set("interval", kept.Get("interval"))
			}
		}
	}
	market := &x.symbols[0]
	if name := q.Get("symbol"); name != "" {
		if market = x.symbol(name); market == nil {
			return &live.Error{Status: http.StatusNotFound, Text: "There is no such market."}
		}
	}
	group, _ := strconv.ParseInt(q.Get("group"), 10, 64)
	if !slices.Contains(groups, group) {
		group = groups[0]
	}
	chosen := q.Get("interval")
	if _, ok := intervalNamed(chosen); !ok {
		chosen = ""
	}
	d.asked, d.list, d.Chart = q, listOrders, chartPrice
	if q.Get("chart") == chartDepth {
		d.Chart = chartDepth
	}
	if q.Get("list") == listFills {
		d.list = listFills
	}

	anew := market != d.Market
	rebook, redraw := anew || group != d.Group, anew || chosen != d.Chosen
	d.Market, d.Group, d.Chosen = market, group, chosen
	if anew {
		if err := d.enter(ctx); err != nil {
			return err
		}
	}
	if rebook {
		if d.hideBook != nil {
			d.hideBook()
		}
		d.Book, d.hideBook = d.board().books[slices.Index(groups, group)].show(ctx)
	}
	if d.hideDepth != nil && (anew || d.Chart != chartDepth) {
		d.hideDepth()
		d.Depth, d.hideDepth = live.Shown{}, nil
	}
	if d.hideDepth == nil && d.Chart == chartDepth {
		d.Depth, d.hideDepth = d.board().depth.show(ctx)
	}
	if redraw {
		d.chart(ctx)
	}
	d.choices()
	return nil
}

func (d *desk) board() *board {
	return d.s.boards[slices.IndexFunc(d.s.boards, func(b *board) bool { return b.symbol == d.Market })]
}

// enter leaves the market shown before and follows that of now.
func (d *desk) enter(ctx *live.Ctx) error {
	if d.leave != nil {
		d.leave()
		d.hideRest()
	}
	b := d.board()
	var hide [3]func()
	d.Day, hide[0] = b.day.show(ctx)
	d.Tape, hide[1] = b.tape.show(ctx)
	d.Log, hide[2] = b.log.show(ctx)
	d.hideRest = func() {
		for _, h := range hide {
			h()
		}
	}
	d.ticket = ticket{}
	d.read(ctx)
	var following context.Context
	following, d.leave = context.WithCancel(ctx)
	if !ctx.Connected() {
		return nil
	}
	news, err := d.s.exchange.news(following, d.Market, d.owner, d.at, d.s.limits.buffer)
	if err != nil {
		return err
	}
	live.Receive(ctx, news, func(n []*ownChange) {
		if following.Err() == nil { // else it is of the market before
			d.hear(ctx, n)
		}
	})
	return nil
}

// read reads all that the page shows of the market and of the owner, but for what boards and the chart show.
func (d *desk) read(ctx *live.Ctx) {
	title := "levada exchange"
	d.s.exchange.view(d.Market, func(m *market, at eventstore.Position) {
		d.at, d.resting, d.filled = at, m.own(d.owner), m.filled(d.owner, fillsShown)
		d.Worth = d.ticket.worth(d.Market, m)
		if n := len(m.trades); n > 0 {
			title = thousands(d.Market.Price(m.trades[n-1].price)) + " " + d.Market.Name + " · " + title
		}
	})
	ctx.Title(title)
}

// hear shows what has happened in the market: trades, and whatever concerns the owner.
func (d *desk) hear(ctx *live.Ctx, news []*ownChange) {
	d.read(ctx)
	traded := false
	for _, c := range news {
		for _, f := range c.fills {
			d.toast(ctx, &f)
			traded = true
		}
	}
	d.candles(ctx)
	if traded {
		ctx.Push("candles:marks", chartMarks{d.Market.Name, d.marks()}, live.Latest(d.Market.Name))
	}
}

// news delivers what happens in a market after a position, as a page wants to know it: at once what an event changed for
// the owner, and at most every boardEvery, with nothing in it, that others traded. When it arrives the read model
// shows it. The channel is closed when ctx ends or the store is closed.
func (x *Exchange) news(ctx context.Context, s *Symbol, owner uint64, after eventstore.Position, buffer int) (<-chan []*ownChange, error) {
	events, err := eventstore.Subscribe(ctx, x.store, eventstore.Transient[*ownChange]{
		Filter: eventstore.Filter{Streams: []eventstore.StreamName{stream(s)}},
		From:   eventstore.After(after),
		Select: func(r *eventstore.Recorded) bool {
			d, ok := decisionOf(r)
			return ok && (d.traded() || d.concerns(owner))
		},
		Map:    func(r *eventstore.Recorded) *ownChange { d, _ := decisionOf(r); return d.own(owner) },
		Buffer: buffer,
	})
	if err != nil {
		return nil, err
	}
	news := make(chan []*ownChange)
	go func() {
		defer close(news)
		defer events.Close()
		var told time.Time
		var later <-chan time.Time // when to tell of what others traded; nil if there is nothing
		for {
			var own []*ownChange
			select {
			case b, ok := <-events.C:
				if !ok || x.caughtUp(ctx, b.Position) != nil {
					return
				}
				own = slices.DeleteFunc(b.Events, func(c *ownChange) bool { return len(c.orders)+len(c.fills) == 0 })
				if wait := boardEvery - time.Since(told); len(own) == 0 && wait > 0 {
					if later == nil {
						later = time.After(wait)
					}
					continue
				}
			case <-later:
			}
			select {
			case news <- own:
				told, later = time.Now(), nil
			case <-ctx.Done():
				return
			}
		}
	}()
	return news, nil
}

// place places the order in the form.
func (d *desk) place(ctx *live.Ctx, in ticket) error {
	r, wrong := in.request(d.Market)
	if wrong != nil {
		return wrong
	}
	if !d.budget.take(d.s.now()) {
		return d.refuse(errRate)
	}
	done, err := d.s.exchange.place(ctx, d.owner, d.Market, r)
	if errors.Is(err, eventstore.ErrOutcomeUnknown) {
		d.Key = in.Key // sent again it is the same order
		return d.refuse(err)
	}
	d.Key = rand.Text()
	if err != nil {
		return d.refuse(err)
	}
	filled, some := done.Filled+" "+d.Market.Base, len(done.Fills) > 0
	switch {
	case done.Status == statusCancelled && !some:
		d.tell(ctx, "bad", "Cancelled: nothing could trade.")
	case done.Status == statusCancelled:
		d.tell(ctx, "good", filled+" traded, the rest was cancelled.")
	case done.Status == statusFilled:
		d.tell(ctx, "good", "Done: "+filled+" traded.")
	case done.Status == statusWaiting:
		d.tell(ctx, "good", "The order waits for its stop price.")
	case some:
		d.tell(ctx, "good", filled+" traded, the rest is in the book.")
	default:
		d.tell(ctx, "good", "The order is in the book.")
	}
	return d.hold(ctx, &done)
}

// cancel cancels an order.
func (d *desk) cancel(ctx *live.Ctx, order string) error {
	if !d.budget.take(d.s.now()) {
		return d.refuse(errRate)
	}
	x := d.s.exchange
	symbol, err := x.marketOf(d.owner, order)
	if err != nil {
		return d.refuse(err)
	}
	done, err := x.cancel(ctx, d.owner, x.symbol(symbol), &request{order: order})
	if err != nil {
		return d.refuse(err)
	}
	d.tell(ctx, "good", "The order was cancelled.")
	return d.hold(ctx, &done)
}

// hold lets the answer to an event wait until the page shows what it did: everybody reads their own writes.
func (d *desk) hold(ctx *live.Ctx, done *outcome) error {
	if !ctx.Connected() || done.Symbol != d.Market.Name {
		// The answer is a redirect to a page that is mounted then, or no news of it will come here.
		return d.s.exchange.caughtUp(ctx, done.Position)
	}
	ctx.Hold(func() bool { return d.at >= done.Position })
	return nil
}

// tell shows how it went, in place of what was said before.
func (d *desk) tell(ctx *live.Ctx, tone, text string) {
	ctx.Flash("good", "")
	ctx.Flash("bad", "")
	ctx.Flash(tone, text)
}

// refuse returns what is to be told of an error, at the field that is to blame.
func (d *desk) refuse(err error) error {
	e, known := refusalOf(err)
	if !known {
		d.s.log.Error("exchange: an order failed", "err", err)
	}
	return live.Errors{fieldOf(e.code): sentence(e.detail)}
}

// toast tells of a fill for a while.
func (d *desk) toast(ctx *live.Ctx, f *ownFill) {
	s := d.Market
	d.toasts++
	t := toast{ID: d.toasts, Side: f.side.String(), Title: "Bought",
		Text: s.Qty(f.qty) + " " + s.Base + " at " + thousands(s.Price(f.price)) + " " + s.Quote}
	if f.side == book.Sell {
		t.Title = "Sold"
	}
	d.Toasts = append(lastOf(d.Toasts, toastsShown-1), t)
	ctx.After(toastStays, func() {
		d.Toasts = slices.DeleteFunc(d.Toasts, func(o toast) bool { return o.ID == t.ID })
	})
}

type toast struct {
	ID                int
	Side, Title, Text string
}
