package orderbook

import (
	"slices"
	"sync"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/examples/exchange/book"
)

// Books is the type of order books: one aggregate a market, whose id is the
// market's symbol.
var Books = &aggregate.Type[Book]{
	Name:           "book",
	Events:         aggregate.Events[Book]{"book.decided": Decided{}},
	SnapshotEvery:  50_000,
	SnapshotSchema: 1,
	Snapshot: &aggregate.SnapshotCodec[Book]{
		Encode: func(b *Book) ([]byte, error) { return b.MarshalJSON() },
		Decode: func(data []byte, b *Book) error { return b.UnmarshalJSON(data) },
	},
	// One book takes the commands of a whole market; they queue while a batch
	// of them is being stored.
	Queue: 16_384,
	Keys:  4096,
}

// A Book is the state of one order book. Its zero value is empty. Copies share
// the orders: a Book has no Clone, since copying tens of thousands of orders
// before each batch would cost more than folding them again after the rare batch
// that could not be stored.
type Book struct {
	s *state
}

type state struct {
	book book.Book
	mark Mark
}

var empty state

func (b Book) state() *state {
	if b.s == nil {
		return &empty
	}
	return b.s
}

// Live returns the live orders. They must only be read, and not after the
// aggregate has moved on: see aggregate.Repository.View.
func (b Book) Live() *book.Book { return &b.state().book }

// Mark returns the mark of the latest command that had one.
func (b Book) Mark() Mark { return b.state().mark }

// A Mark says where in its sender's input a command came from, for senders that
// read a file and continue where they left off.
type Mark struct {
	Line uint64 // number of the line, from 1; 0 is no mark
	Sum  uint32 // of the input up to that line
}

// Place asks for a new order in the book of a market.
type Place struct {
	Symbol   string
	Mark     Mark
	Ref      string // what the client calls the order; recorded
	ID       uint64
	Owner    uint64 // 0: nobody, a stranger to every other order
	Side     book.Side
	Type     book.Type
	TIF      book.TIF
	STP      book.STP
	PostOnly bool
	Qty      int64 // lots
	Price    int64 // ticks; 0 of types without one
	Stop     int64 // ticks; 0 of types without one
}

// Cancel asks for the end of an order.
type Cancel struct {
	Symbol string
	Mark   Mark
	Ref    string // of the order; recorded
	ID     uint64
	Owner  uint64 // 0, or whose the order must be
}

// Modify asks for a change of an order. Fields tells which of Qty, Price and Stop
// are given.
type Modify struct {
	Symbol string
	Mark   Mark
	Ref    string // of the order; recorded
	ID     uint64
	Owner  uint64 // 0, or whose the order must be
	Fields book.Fields
	Qty    int64 // the new open quantity, in lots
	Price  int64 // ticks
	Stop   int64 // ticks, of an order that waits for its stop price
}

// AggregateID returns the symbol of the market.
func (c Place) AggregateID() string { return c.Symbol }

// AggregateID returns the symbol of the market.
func (c Cancel) AggregateID() string { return c.Symbol }

// AggregateID returns the symbol of the market.
func (c Modify) AggregateID() string { return c.Symbol }

// Execute returns one Decided. It returns no error: a refusal is an event.
func (c Place) Execute(b Book) ([]aggregate.Event[Book], error) {
	return b.decide(c.Mark, c.Ref, book.Command{Op: book.Place, Side: c.Side, Type: c.Type, TIF: c.TIF, STP: c.STP,
		PostOnly: c.PostOnly, ID: c.ID, Owner: c.Owner, Qty: c.Qty, Price: c.Price, Stop: c.Stop})
}

// Execute returns one Decided. It returns no error: a refusal is an event.
func (c Cancel) Execute(b Book) ([]aggregate.Event[Book], error) {
	return b.decide(c.Mark, c.Ref, book.Command{Op: book.Cancel, ID: c.ID, Owner: c.Owner})
}

// Execute returns one Decided. It returns no error: a refusal is an event.
func (c Modify) Execute(b Book) ([]aggregate.Event[Book], error) {
	m := book.Command{Op: book.Modify, ID: c.ID, Owner: c.Owner, Fields: c.Fields & (book.FieldQty | book.FieldPrice | book.FieldStop)}
	if m.Fields&book.FieldQty != 0 {
		m.Qty = c.Qty
	}
	if m.Fields&book.FieldPrice != 0 {
		m.Price = c.Price
	}
	if m.Fields&book.FieldStop != 0 {
		m.Stop = c.Stop
	}
	return b.decide(c.Mark, c.Ref, m)
}

// Decided is what became of a command.
type Decided struct {
	Mark    Mark
	Ref     string
	Command book.Command
	Reason  book.Reason   // why the command was refused, 0 if it was not
	Effects []book.Effect // what happened, in order
}

// Err returns the reason as an error, or nil if the command was accepted.
func (d *Decided) Err() error {
	if d.Reason == 0 {
		return nil
	}
	return d.Reason
}

// Apply folds the event into the book.
func (d Decided) Apply(b *Book) {
	if b.s == nil {
		b.s = new(state)
	}
	b.s.book.Apply(&book.Event{Command: d.Command, Reason: d.Reason, Effects: d.Effects})
	if d.Mark.Line != 0 {
		b.s.mark = d.Mark
	}
}

var buffers = sync.Pool{New: func() any { return new(book.Event) }}

func (b Book) decide(m Mark, ref string, c book.Command) ([]aggregate.Event[Book], error) {
	e := buffers.Get().(*book.Event)
	defer buffers.Put(e)
	b.Live().Decide(c, e)
	d := Decided{Mark: m, Ref: ref, Command: c, Reason: e.Reason}
	if len(e.Effects) > 0 {
		d.Effects = slices.Clone(e.Effects)
	}
	return []aggregate.Event[Book]{d}, nil
}
