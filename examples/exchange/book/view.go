package book

import (
	"cmp"
	"slices"
)

// A view is one side of a book as it is in the course of a decision, which does
// not touch the book itself: orders are only ever taken from the front, so the
// side is what lies behind a cursor, plus the orders that came to rest on the
// way. Those stand behind the book's own orders of the same price.
type view struct {
	b      *Book
	ladder int
	skip   uint32 // the slot of an order that has left its place, or 0

	at    rung   // the cursor: a level,
	key   uint32 // its key, 0 if there is none,
	slot  uint32 // an order in it,
	maker maker  // and what of it is left

	guests []guest // the best last
}

// A maker is an order at the front of a view.
type maker struct {
	id, owner uint64
	qty       uint32
}

type guest struct {
	key uint32
	maker
}

// open points v at the front of a ladder of b.
func (v *view) open(b *Book, ladder int, skip uint32) {
	v.b, v.ladder, v.skip = b, ladder, skip
	v.guests = v.guests[:0]
	v.enter(b.ladders[ladder].best())
}

func (v *view) enter(r rung) {
	v.at, v.key, v.slot = r, 0, 0
	if r.chunk < 0 {
		return
	}
	l := &v.b.ladders[v.ladder]
	v.key = l.key(r)
	v.load(v.b.levels[l.level(r)].head)
}

// load moves the cursor to the order in slot, or beyond its level if it is 0.
func (v *view) load(slot uint32) {
	if slot == v.skip && slot != 0 {
		slot = v.b.orders[slot].next
	}
	if slot == 0 {
		v.enter(v.b.ladders[v.ladder].worse(v.at))
		return
	}
	o := &v.b.orders[slot]
	v.slot, v.maker = slot, maker{o.id, o.owner, o.qty}
}

// best returns the key of the front order, or 0 if there is none.
func (v *view) best() uint32 {
	if n := len(v.guests); n > 0 && v.guests[n-1].key > v.key {
		return v.guests[n-1].key
	}
	return v.key
}

// front returns the front order. There must be one.
func (v *view) front() maker {
	if n := len(v.guests); n > 0 && v.guests[n-1].key > v.key {
		return v.guests[n-1].maker
	}
	return v.maker
}

// take takes lots from the front order, which goes when it has none left.
func (v *view) take(q uint32) {
	if n := len(v.guests); n > 0 && v.guests[n-1].key > v.key {
		if v.guests[n-1].qty -= q; v.guests[n-1].qty == 0 {
			v.guests = v.guests[:n-1]
		}
		return
	}
	if v.maker.qty -= q; v.maker.qty == 0 {
		v.load(v.b.orders[v.slot].next)
	}
}

// add puts an order to rest behind all others of its price.
func (v *view) add(o *order) {
	key := keyOf(v.ladder, o.price)
	// Before those of the same price, which is behind them: the best is last.
	i, _ := slices.BinarySearchFunc(v.guests, key, func(g guest, key uint32) int { return cmp.Compare(g.key, key) })
	v.guests = slices.Insert(v.guests, i, guest{key, maker{o.id, o.owner, o.qty}})
}

// fills reports whether an order would trade whole down to bound.
func (v *view) fills(o *order, bound uint32) bool {
	want := int64(o.qty)
	c := *v // a cursor of its own
	guests := v.guests
	for want > 0 {
		var m maker
		if n := len(guests); n > 0 && guests[n-1].key > c.key {
			if !crosses(guests[n-1].key, bound) {
				return false
			}
			m = guests[n-1].maker
			guests = guests[:n-1]
		} else {
			if !crosses(c.key, bound) {
				return false
			}
			m = c.maker
			c.load(c.b.orders[c.slot].next)
		}
		if o.stp != STPNone && o.owner != 0 && o.owner == m.owner {
			if o.stp != STPCancelOldest {
				return false
			}
			continue
		}
		want -= int64(m.qty)
	}
	return true
}

// A waiter walks the orders of one of the ladders that wait, the next to be
// triggered first.
type waiter struct {
	b      *Book
	ladder int
	at     rung
	key    uint32
	slot   uint32 // 0 at the end
}

func (b *Book) waiter(ladder int) waiter {
	w := waiter{b: b, ladder: ladder}
	w.enter(b.ladders[ladder].best())
	return w
}

func (w *waiter) enter(r rung) {
	w.at, w.slot = r, 0
	if r.chunk >= 0 {
		l := &w.b.ladders[w.ladder]
		w.key = l.key(r)
		w.slot = w.b.levels[l.level(r)].head
	}
}

func (w *waiter) next() {
	if w.slot = w.b.orders[w.slot].next; w.slot == 0 {
		w.enter(w.b.ladders[w.ladder].worse(w.at))
	}
}
