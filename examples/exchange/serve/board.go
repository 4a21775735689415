package serve

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/exchange/book"
	"github.com/levada-go/levada/live"
)

// boardEvery is how long a board waits, at least, until it shows something new.
const boardEvery = 50 * time.Millisecond

// A board is what all who look at a market see alike. Each of its parts is a
// region: rendered once for all of them, and sent as the same frame.
//
//	store ─► subscription ─► board ─► read model ─► region ─► every page that shows it
//
// The subscription only says that something happened; what is shown is the read
// model as it stands then. So a board that is slow shows less often, and never
// something old.
type board struct {
	x      *Exchange
	symbol *Symbol

	price *part[figures]
	day   *part[figures]
	tape  *part[[]tapeRow]
	log   *part[string]
	depth *part[depth]
	books []*part[ladder] // one for each of groups
}

// groups are the steps that a book can be summed up by, in ticks.
var groups = []int64{1, 10, 100, 1000}

func newBoard(x *Exchange, s *Symbol) (*board, error) {
	b := &board{x: x, symbol: s}
	var errs [5]error
	b.price, errs[0] = newPart(b, "price", "", (*Symbol).figures)
	b.day, errs[1] = newPart(b, "day", "", (*Symbol).figures)
	b.tape, errs[2] = newPart(b, "tape", "", (*Symbol).tape)
	b.log, errs[3] = newPart(b, "log", "", func(_ *Symbol, m *market) string {
		return thousands(strconv.FormatUint(uint64(m.position), 10))
	})
	b.depth, errs[4] = newPart(b, "depth", "", (*Symbol).depth)
	err := errors.Join(errs[:]...)
	for _, group := range groups {
		p, e := newPart(b, "book", "-"+strconv.FormatInt(group, 10), func(s *Symbol, m *market) ladder { return s.ladder(m, group) })
		b.books, err = append(b.books, p), errors.Join(err, e)
	}
	if err != nil {
		return nil, fmt.Errorf("exchange: the board of %s: %w", s.Name, err)
	}
	return b, nil
}

// run shows what happens until ctx ends or the store is closed.
func (b *board) run(ctx context.Context) error {
	events, err := eventstore.Subscribe(ctx, b.x.store, eventstore.Transient[struct{}]{
		Filter: eventstore.Filter{Streams: []eventstore.StreamName{stream(b.symbol)}},
		Map:    func(*eventstore.Recorded) struct{} { return struct{}{} },
		Buffer: 1, OnLag: eventstore.Latest, // it only says that there is something to show
	})
	if err == nil {
		defer events.Close()
		b.update() // what happened before
		err = b.follow(ctx, events)
	}
	if err == nil || ctx.Err() != nil || errors.Is(err, eventstore.ErrClosed) {
		return nil
	}
	return fmt.Errorf("exchange: the board of %s: %w", b.symbol.Name, err)
}

func (b *board) follow(ctx context.Context, events *eventstore.Subscription[struct{}]) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for e := range events.C {
		select {
		case <-pause.C:
		case <-ctx.Done():
			return nil
		}
		if err := b.x.caughtUp(ctx, e.Position); err != nil {
			return err
		}
		b.update()
		pause.Reset(boardEvery)
	}
	return events.Err()
}

// update brings to date what somebody looks at.
func (b *board) update() {
	b.price.update()
	b.day.update()
	b.tape.update()
	b.log.update()
	b.depth.update()
	for _, p := range b.books {
		p.update()
	}
}

// A part is a region of a board.
type part[T any] struct {
	board  *board
	draw   func(*Symbol, *market) T // called under the lock of the read model
	region *live.Region[T]

	mu    sync.Mutex
	pages int // that show it
	drawn bool
	at    eventstore.Position // of the market, when it was drawn
}

// newPart returns a part whose template is the asset of its kind. Kind, market and variant name it.
func newPart[T any](b *board, kind, variant string, draw func(*Symbol, *market) T) (*part[T], error) {
	t, err := template.ParseFS(templates, "assets/"+kind+".html")
	if err != nil {
		return nil, err
	}
	// The board keeps the pace, so the region need not.
	r, err := live.NewRegion[T](kind+"-"+b.symbol.Name+variant, t, -1)
	if err != nil {
		return nil, err
	}
	return &part[T]{board: b, draw: draw, region: r}, nil
}

// show makes a page show the part as it is now and, if the page is connected, as it will be, until
// hide is called or the page is gone.
func (p *part[T]) show(ctx *live.Ctx) (shown live.Shown, hide func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set()
	shown = p.region.Show(ctx)
	if !ctx.Connected() {
		return shown, func() {}
	}
	p.pages++
	leave := sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.pages--
	})
	gone := context.AfterFunc(ctx, leave)
	return shown, func() {
		gone()
		leave()
		ctx.Hide(shown)
	}
}

// update draws the part anew if somebody sees it.
func (p *part[T]) update() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pages > 0 {
		p.set()
	}
}

// set gives the region the market as it is. It is called under the lock.
func (p *part[T]) set() {
	b := p.board
	b.x.view(b.symbol, func(m *market, _ eventstore.Position) {
		if p.drawn && p.at == m.position {
			return
		}
		p.drawn, p.at = true, m.position
		// Positions begin at 1, and an empty market is worth showing too.
		p.region.Set(uint64(m.position)+1, p.draw(b.symbol, m))
	})
}

// figures sum up the last 24 hours of a market.
type figures struct {
	Last      string
	Tick      string // "up" or "down", as the last trade was a buyer's or a seller's
	Direction string // "up" or "down" since a day ago
	Change    string
	High, Low string
	Volume    string
}

// none is what stands for a number that there is not.
const none = "–"

// dayInterval is that of the candles that figures are made of.
const dayInterval = 4

func (s *Symbol) figures(m *market) figures {
	f := figures{Last: none, Change: none, High: none, Low: none, Volume: none}
	bars := lastOf(m.candles[dayInterval].candles, maxCandles)
	if len(bars) == 0 {
		return f
	}
	last := bars[len(bars)-1]
	for len(bars) > 0 && bars[0].start <= last.start-(24*time.Hour).Milliseconds() {
		bars = bars[1:]
	}
	open, high, low, volume := bars[0].open, last.high, last.low, int64(0)
	for _, c := range bars {
		high, low, volume = max(high, c.high), min(low, c.low), volume+c.volume
	}
	f.Last, f.High, f.Low = thousands(s.Price(last.close)), thousands(s.Price(high)), thousands(s.Price(low))
	f.Volume = thousands(s.Qty(volume)) + " " + s.Base
	sign, by := "+", last.close-open
	f.Direction = "up"
	if by < 0 {
		f.Direction, sign, by = "down", "−", -by
	}
	percent := strconv.FormatFloat(100*float64(by)/float64(open), 'f', 2, 64)
	f.Change = sign + thousands(s.Price(by)) + " (" + sign + percent + " %)"
	f.Tick = tick(m)
	return f
}

// tick tells whether the last trade was a buyer's or a seller's.
func tick(m *market) string {
	if n := len(m.trades); n > 0 && m.trades[n-1].side == book.Sell {
		return "down"
	} else if n > 0 {
		return "up"
	}
	return ""
}

// A tapeRow is a trade as the tape shows it.
type tapeRow struct {
	ID, Side, Price, Size string
	Time                  stamp
}

// tapeLength is how many trades the tape shows.
const tapeLength = 60

// tape returns the latest trades, the newest first.
func (s *Symbol) tape(m *market) []tapeRow {
	latest := lastOf(m.trades, tapeLength)
	rows := make([]tapeRow, 0, len(latest))
	for i := len(latest) - 1; i >= 0; i-- {
		t := &latest[i]
		rows = append(rows, tapeRow{t.id(), t.side.String(), thousands(s.Price(t.price)), s.Qty(t.qty), stamp(t.ms)})
	}
	return rows
}

// A stamp is a time in Unix milliseconds, for a template. The page tells it in the time zone of whoever
// reads it, which the server does not know, so that without JavaScript it is UTC.
type stamp int64

func (s stamp) ISO() string   { return time.UnixMilli(int64(s)).UTC().Format("2006-01-02T15:04:05Z") }
func (s stamp) Clock() string { return time.UnixMilli(int64(s)).UTC().Format("15:04:05") }

// A ladder is the order book around the spread.
type ladder struct {
	Asks, Bids []rung // from the top to the bottom: the best ask is the last, the best bid the first
	Last, Tick string
	Spread     string
	Balance    int // percent of all that rests that is bid for
}

// A rung is a level of the ladder, or several that are summed up.
type rung struct {
	ID    string // of its element
	Raw   string // the price as one writes it into the form
	Price string
	Size  string
	Total string // of this rung and all better ones
	Depth int    // Total, of fullDepth for a scale that has room for all that is shown
}

// fullDepth is the length of the scale of a ladder. The scale is a power of two of lots, so that it seldom
// changes: else every change of the book would be one of all rungs. The page stretches it to its width.
const fullDepth = 128

// ladderLength is how many rungs a ladder has on each side: as many as a tall window has room for.
const ladderLength = 30

// ladder sums the levels up by steps of so many ticks. A bid is shown at or below its price and an
// ask at or above, so that no rung promises a better one.
func (s *Symbol) ladder(m *market, step int64) ladder {
	l := ladder{Last: none, Spread: none, Tick: tick(m), Balance: 50}
	if n := len(m.trades); n > 0 {
		l.Last = thousands(s.Price(m.trades[n-1].price))
	}
	bids, asks := m.side(book.Buy), m.side(book.Sell)
	if len(bids) > 0 && len(asks) > 0 {
		l.Spread = thousands(s.Price(asks[0].price - bids[0].price))
	}
	if b, a := sum(bids), sum(asks); b+a > 0 {
		l.Balance = int(100 * float64(b) / float64(b+a))
	}
	bids, asks = steps(bids, step), steps(asks, step)
	scale := int64(1)
	for deepest := max(sum(bids), sum(asks)); scale < deepest; {
		scale *= 2
	}
	l.Bids, l.Asks = s.rungs(bids, scale), s.rungs(asks, scale)
	slices.Reverse(l.Asks)
	return l
}

// steps sums levels up, the best first, and returns those that a ladder shows.
func steps(levels []levelChange, step int64) []levelChange {
	var rows []levelChange
	for _, l := range levels {
		l.price = rounded(l.side, l.price, step)
		if n := len(rows); n > 0 && rows[n-1].price == l.price {
			rows[n-1].qty += l.qty
		} else if n < ladderLength {
			rows = append(rows, l)
		} else {
			break
		}
	}
	return rows
}

// rounded returns the step at or below the price of a bid, at or above that of an ask.
func rounded(side book.Side, price, step int64) int64 {
	under := price % step
	if under > 0 && side == book.Sell {
		under -= step
	}
	return price - under
}

func sum(levels []levelChange) (lots int64) {
	for _, l := range levels {
		lots += l.qty
	}
	return lots
}

func rungID(side book.Side, price string) string {
	if side == book.Sell {
		return "ask-" + price
	}
	return "bid-" + price
}

func (s *Symbol) rungs(levels []levelChange, scale int64) []rung {
	rungs := make([]rung, 0, len(levels))
	total := int64(0)
	for _, l := range levels {
		total += l.qty
		raw := s.Price(l.price)
		rungs = append(rungs, rung{rungID(l.side, raw), raw, thousands(raw), s.Qty(l.qty), s.Qty(total), int(fullDepth * float64(total) / float64(scale))})
	}
	return rungs
}
