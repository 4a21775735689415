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
	// The order that is trading, and its slot, or 0 if it has none yet.
	id, side, slot := e.Command.ID, e.Command.Side, uint32(0)
	for i := range e.Effects {
		f := &e.Effects[i]
		switch f.Kind {
		case Trade:
			b.last = uint32(f.Price)
			b.hit(side.Opposite(), f)
		case Decrement:
			b.hit(side.Opposite(), f)
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
			} else if f.ID != e.Command.ID || e.Command.Op != Place {
				mismatch(f)
			}
			if s == slot {
				slot = 0
			}
		case Rest, Wait:
			if slot == 0 {
				slot = b.store(&e.Command)
			}
			o := &b.orders[slot]
			o.qty = uint32(f.Qty)
			k := resting(o.side)
			if f.Kind == Wait {
				k = waiting(o.side, o.typ)
			}
			b.link(slot, k, uint32(f.Price))
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
			side = o.side
			o.price, o.qty = uint32(f.Price), uint32(f.Qty)
			if e.Command.Fields&FieldStop != 0 {
				o.stop = uint32(e.Command.Stop)
			}
		case Trigger:
			if f.ID == id {
				continue // it triggered as it entered and has not waited
			}
			slot = b.find(f)
			b.unlink(slot)
			id, side = f.ID, b.orders[slot].side
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
