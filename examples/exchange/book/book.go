package book

import (
	"errors"
	"fmt"
	"iter"
)

// A Book holds the live orders of one market. Its zero value is empty and ready
// for use.
type Book struct {
	orders  []order // by slot; slot 0 is none
	levels  []level // by number; number 0 is none
	free    uint32  // the first free slot; the next is in order.next
	spare   uint32  // the first free level; the next is in level.head
	live    int
	last    uint32 // price of the last trade, 0 before the first
	index   index
	ladders [ladders]ladder
}

// An Order is a live order as a book shows it.
type Order struct {
	ID       uint64
	Owner    uint64 // 0: nobody
	Side     Side
	Type     Type
	TIF      TIF
	STP      STP
	PostOnly bool
	Waiting  bool  // for its stop price; otherwise it rests at Price
	Qty      int64 // open, in lots
	Price    int64 // in ticks; 0 of market types
	Stop     int64 // in ticks; 0 of types that wait for none
}

// A Level is all that rests at one price.
type Level struct {
	Price  int64
	Qty    int64 // total of the open quantities
	Orders int
}

// Do decides and applies a command: after it, e tells what happened and b has
// changed accordingly. It does not allocate beyond what more live orders, more
// price levels or longer events than ever before need.
func (b *Book) Do(c Command, e *Event) {
	e.Command = c
	b.decide(e)
	b.Apply(e)
}

// Order returns the live order with the given id, resting or waiting.
func (b *Book) Order(id uint64) (Order, bool) {
	slot := b.index.find(b.orders, id)
	if slot == 0 {
		return Order{}, false
	}
	return b.orders[slot].show(), true
}

// Len returns the number of live orders, waiting ones included.
func (b *Book) Len() int { return b.live }

// Last returns the price of the last trade, in ticks, or false before the first.
func (b *Book) Last() (price int64, ok bool) { return int64(b.last), b.last != 0 }

// Best returns the best level of a side, or false if nothing rests there.
func (b *Book) Best(s Side) (Level, bool) {
	for l := range b.Levels(s) {
		return l, true
	}
	return Level{}, false
}

// Levels yields the levels of a side, the best first.
func (b *Book) Levels(s Side) iter.Seq[Level] {
	return func(yield func(Level) bool) {
		k := resting(s)
		l := &b.ladders[k]
		for r := l.best(); r.chunk >= 0; r = l.worse(r) {
			lv := &b.levels[l.level(r)]
			if !yield(Level{Price: int64(keyOf(k, lv.key)), Qty: lv.qty, Orders: int(lv.count)}) {
				return
			}
		}
	}
}

// Queue yields the orders that rest at a price, in the order in which they trade.
func (b *Book) Queue(s Side, price int64) iter.Seq[Order] {
	return func(yield func(Order) bool) {
		if price <= 0 || price > MaxPrice {
			return
		}
		k := resting(s)
		r, ok := b.ladders[k].find(keyOf(k, uint32(price)))
		if !ok {
			return
		}
		for slot := b.levels[b.ladders[k].level(r)].head; slot != 0; slot = b.orders[slot].next {
			if !yield(b.orders[slot].show()) {
				return
			}
		}
	}
}

// Resting yields the orders that rest on a side: the best price first, and at
// one price in the order in which they trade.
func (b *Book) Resting(s Side) iter.Seq[Order] { return b.list(resting(s)) }

// Waiting yields the orders that wait for their stop price: first those that
// wait for a rise and then those that wait for a fall, each in the order in
// which they would be triggered.
func (b *Book) Waiting() iter.Seq[Order] {
	return func(yield func(Order) bool) {
		for _, k := range [...]int{rises, falling} {
			for o := range b.list(k) {
				if !yield(o) {
					return
				}
			}
		}
	}
}

func (b *Book) list(k int) iter.Seq[Order] {
	return func(yield func(Order) bool) {
		l := &b.ladders[k]
		for r := l.best(); r.chunk >= 0; r = l.worse(r) {
			for slot := b.levels[l.level(r)].head; slot != 0; slot = b.orders[slot].next {
				if !yield(b.orders[slot].show()) {
					return
				}
			}
		}
	}
}

// ErrRestore is wrapped by the errors of [Book.Restore].
var ErrRestore = errors.New("book: unusable order to restore")

// Restore makes b a book whose last trade was at price last (0: none yet) and
// that holds the given orders: at one price, and at one stop price, queued in
// the order given. It checks each order by itself, its id against the others,
// and that the sides do not cross; after an error b is empty.
func (b *Book) Restore(last int64, orders iter.Seq[Order]) error {
	b.Reset()
	if last < 0 || last > MaxPrice {
		return fmt.Errorf("%w: last price %d", ErrRestore, last)
	}
	b.last = uint32(last)
	for o := range orders {
		if err := b.restore(o); err != nil {
			b.Reset()
			return fmt.Errorf("%w %d: %w", ErrRestore, o.ID, err)
		}
	}
	bid, ask := b.ladders[bids].bestKey(), b.ladders[asks].bestKey()
	if bid != 0 && ask != 0 && bid >= keyOf(asks, ask) {
		b.Reset()
		return fmt.Errorf("%w: bid %d crosses ask %d", ErrRestore, bid, keyOf(asks, ask))
	}
	return nil
}

func (b *Book) restore(o Order) error {
	c := Command{Op: Place, Side: o.Side, Type: o.Type, TIF: o.TIF, STP: o.STP, PostOnly: o.PostOnly,
		ID: o.ID, Owner: o.Owner, Qty: o.Qty, Price: o.Price, Stop: o.Stop}
	if r := c.check(); r != 0 {
		return r
	}
	switch {
	case b.index.find(b.orders, o.ID) != 0:
		return ErrDuplicate
	case b.live >= MaxOrders:
		return ErrFull
	case o.Waiting && !o.Type.stops():
		return ErrStop
	case !o.Waiting && (!o.Type.limited() || o.TIF != GTC):
		return errors.New("orders of this kind do not rest")
	case o.Waiting && b.last != 0 && reached(o.Side, o.Type, uint32(o.Stop), b.last):
		return errors.New("its stop price has been reached")
	}
	k, price := resting(o.Side), uint32(o.Price)
	if o.Waiting {
		k, price = waiting(o.Side, o.Type), uint32(o.Stop)
	}
	b.link(b.store(&c), k, price)
	return nil
}

// Reset empties the book but keeps its memory for new orders.
func (b *Book) Reset() {
	b.orders = b.orders[:min(len(b.orders), 1)]
	b.levels = b.levels[:min(len(b.levels), 1)]
	b.free, b.spare, b.live, b.last = 0, 0, 0, 0
	b.index.reset()
	for k := range b.ladders {
		b.ladders[k].reset()
	}
}

// An order is a live order as the book keeps it: resting if its ladder is bids
// or asks, waiting for its stop price otherwise.
type order struct {
	id, owner  uint64
	price      uint32 // limit, 0 if there is none
	stop       uint32 // 0 if there is none
	qty        uint32 // open
	next, prev uint32 // in its level
	level      uint32 // 0 while it trades
	side       Side
	typ        Type
	tif        TIF
	stp        STP
	post       bool
	ladder     uint8
}

func orderOf(c *Command) order {
	return order{id: c.ID, owner: c.Owner, price: uint32(c.Price), stop: uint32(c.Stop), qty: uint32(c.Qty),
		side: c.Side, typ: c.Type, tif: c.TIF, stp: c.STP, post: c.PostOnly}
}

func (o *order) show() Order {
	return Order{ID: o.id, Owner: o.owner, Side: o.side, Type: o.typ, TIF: o.tif, STP: o.stp, PostOnly: o.post,
		Waiting: o.ladder >= falling, Qty: int64(o.qty), Price: int64(o.price), Stop: int64(o.stop)}
}

// store gives the order of a Place a slot of its own and indexes it.
func (b *Book) store(c *Command) uint32 {
	slot := b.free
	if slot != 0 {
		b.free = b.orders[slot].next
	} else {
		if len(b.orders) == 0 {
			b.orders = append(b.orders, order{})
		}
		slot = uint32(len(b.orders))
		b.orders = append(b.orders, order{})
	}
	b.orders[slot] = orderOf(c)
	b.index.add(c.ID, slot)
	b.live++
	return slot
}

// discard frees the slot of an order that is in no level.
func (b *Book) discard(slot uint32) {
	b.index.remove(b.orders[slot].id, slot)
	b.orders[slot].next = b.free
	b.free = slot
	b.live--
}

// link queues an order at the back of the level of a price.
func (b *Book) link(slot uint32, k int, price uint32) {
	l := &b.ladders[k]
	key := keyOf(k, price)
	r, ok := l.find(key)
	var n uint32
	if ok {
		n = l.level(r)
	} else {
		if n = b.spare; n != 0 {
			b.spare = b.levels[n].head
		} else {
			if len(b.levels) == 0 {
				b.levels = append(b.levels, level{})
			}
			n = uint32(len(b.levels))
			b.levels = append(b.levels, level{})
		}
		b.levels[n] = level{key: key}
		l.insert(r, key, n)
	}
	lv, o := &b.levels[n], &b.orders[slot]
	o.level, o.ladder, o.prev, o.next = n, uint8(k), lv.tail, 0
	if lv.tail != 0 {
		b.orders[lv.tail].next = slot
	} else {
		lv.head = slot
	}
	lv.tail = slot
	lv.count++
	lv.qty += int64(o.qty)
}

// unlink takes an order out of its level.
func (b *Book) unlink(slot uint32) {
	o := &b.orders[slot]
	lv := &b.levels[o.level]
	if o.prev != 0 {
		b.orders[o.prev].next = o.next
	} else {
		lv.head = o.next
	}
	if o.next != 0 {
		b.orders[o.next].prev = o.prev
	} else {
		lv.tail = o.prev
	}
	lv.qty -= int64(o.qty)
	if lv.count--; lv.count == 0 {
		l := &b.ladders[o.ladder]
		r, _ := l.find(lv.key)
		l.remove(r)
		lv.head = b.spare
		b.spare = o.level
	}
	o.level = 0
}
