package book

import "fmt"

// Apply folds an event into the book. Events must be applied in the order in
// which they were decided, each to the book it was decided on or to one folded
// from the same events. Apply panics on an event that does not fit the book:
// one that names an order that is not there, or not at the front.
func (b *Book) Apply(e *Event) {
	if e.Reason != 0 {
		return
	}
	// The order that is trading: its slot, or 0 if it has none yet.
	var cur order
	var slot uint32
	if e.Command.Op == Place {
		cur = orderOf(&e.Command)
	}
	for i := range e.Effects {
		f := &e.Effects[i]
		switch f.Kind {
		case Trade:
			b.last = uint32(f.Price)
			b.hit(cur.side.Opposite(), f)
		case Decrement:
			b.hit(cur.side.Opposite(), f)
		case Fill:
			if slot != 0 {
				b.discard(slot)
				slot = 0
			}
		case Drop:
			// The trading order itself, or one that rests or waits.
			s := b.index.find(b.orders, f.ID)
			if s != 0 {
				if b.orders[s].level != 0 {
					b.unlink(s)
				}
				b.discard(s)
			} else if f.ID != cur.id {
				mismatch(f)
			}
			if s == slot {
				slot = 0
			}
		case Rest, Wait:
			cur.qty = uint32(f.Qty)
			if slot == 0 {
				slot = b.store(&cur)
			}
			b.orders[slot].qty = cur.qty
			if f.Kind == Rest {
				b.link(slot, resting(cur.side), uint32(f.Price))
			} else {
				b.link(slot, waiting(cur.side, cur.typ), uint32(f.Price))
			}
			slot = 0
		case Amend:
			s := b.find(f)
			o := &b.orders[s]
			b.levels[o.level].qty += f.Qty - int64(o.qty)
			o.qty = uint32(f.Qty)
		case Requeue:
			slot = b.find(f)
			b.unlink(slot)
			o := &b.orders[slot]
			o.price, o.qty = uint32(f.Price), uint32(f.Qty)
			if e.Command.Fields&FieldStop != 0 {
				o.stop = uint32(e.Command.Stop)
			}
			cur = *o
		case Trigger:
			if f.ID == cur.id {
				continue // it triggered as it entered and has not waited
			}
			slot = b.find(f)
			b.unlink(slot)
			cur = b.orders[slot]
		default:
			mismatch(f)
		}
	}
}

// hit takes lots from the order at the front of a side.
func (b *Book) hit(s Side, f *Effect) {
	l := &b.ladders[resting(s)]
	r := l.best()
	if r.chunk < 0 {
		mismatch(f)
	}
	n := l.level(r)
	lv := &b.levels[n]
	slot := lv.head
	m := &b.orders[slot]
	if m.id != f.Maker || int64(m.qty) != f.Qty+f.Left {
		mismatch(f)
	}
	lv.qty -= f.Qty
	if f.Left != 0 {
		m.qty = uint32(f.Left)
		return
	}
	lv.head = m.next
	if lv.count--; lv.count == 0 {
		l.remove(r)
		lv.head = b.spare
		b.spare = n
	} else {
		b.orders[m.next].prev = 0
	}
	b.discard(slot)
}

// find returns the slot of the order that an effect names.
func (b *Book) find(f *Effect) uint32 {
	slot := b.index.find(b.orders, f.ID)
	if slot == 0 || b.orders[slot].level == 0 {
		mismatch(f)
	}
	return slot
}

func mismatch(f *Effect) {
	panic(fmt.Sprintf("book: effect does not fit the book: %s of order %d with %d lots at %d (maker %d)",
		f.Kind, f.ID, f.Qty, f.Price, f.Maker))
}
