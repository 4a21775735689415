package book

// Decide fills e with what follows from c, which is always something: the
// effects of the command, or the reason why it is refused. It does not change
// the book. Once e's buffers are large enough it does not allocate.
func (b *Book) Decide(c Command, e *Event) {
	e.Command = c
	b.decide(e)
}

func (b *Book) decide(e *Event) {
	e.Effects = e.Effects[:0]
	switch e.Command.Op {
	case Place:
		e.Reason = b.place(e)
	case Cancel:
		e.Reason = b.cancel(e)
	case Modify:
		e.Reason = b.modify(e)
	default:
		e.Reason = ErrUnknownOp
	}
}

func (b *Book) place(e *Event) Reason {
	c := &e.Command
	if r := c.check(); r != 0 {
		return r
	}
	if b.index.find(b.orders, c.ID) != 0 {
		return ErrDuplicate
	}
	if b.live >= MaxOrders {
		return ErrFull
	}
	o := orderOf(c)
	return b.arrive(&o, 0, e)
}

func (b *Book) cancel(e *Event) Reason {
	slot := b.own(&e.Command)
	if slot == 0 {
		return ErrUnknownOrder
	}
	o := &b.orders[slot]
	e.emit(Effect{Kind: Drop, Side: o.side, ID: o.id, Owner: o.owner, Price: int64(o.price), Qty: int64(o.qty)})
	return 0
}

func (b *Book) modify(e *Event) Reason {
	c := &e.Command
	slot := b.own(c)
	if slot == 0 {
		return ErrUnknownOrder
	}
	old := &b.orders[slot]
	o := *old
	if c.Fields&(FieldQty|FieldPrice|FieldStop) == 0 {
		return ErrNothingToModify
	}
	if c.Fields&FieldQty != 0 {
		if r := checkQty(c.Qty); r != 0 {
			return r
		}
		o.qty = uint32(c.Qty)
	}
	if c.Fields&FieldPrice != 0 {
		if !o.typ.limited() {
			return ErrPriceGiven
		}
		if r := checkPrice(c.Price); r != 0 {
			return r
		}
		o.price = uint32(c.Price)
	}
	if c.Fields&FieldStop != 0 {
		if o.ladder < falling {
			return ErrStopGiven
		}
		if r := checkStop(c.Stop); r != 0 {
			return r
		}
		o.stop = uint32(c.Stop)
	}
	f := Effect{Kind: Amend, Side: o.side, ID: o.id, Owner: o.owner, Price: int64(o.price), Qty: int64(o.qty)}
	if o.price == old.price && o.stop == old.stop && o.qty <= old.qty {
		e.emit(f)
		return 0
	}
	f.Kind = Requeue
	e.emit(f)
	if r := b.arrive(&o, slot, e); r != 0 {
		e.Effects = e.Effects[:0]
		return r
	}
	return 0
}

// own returns the slot of the order that c names, or 0 if there is none or it
// is not the asker's.
func (b *Book) own(c *Command) uint32 {
	slot := b.index.find(b.orders, c.ID)
	if slot != 0 && c.Owner != 0 && c.Owner != b.orders[slot].owner {
		return 0
	}
	return slot
}

// arrive decides on an order that a command brings into the book. If it is a
// modified one, slot is where it still is.
func (b *Book) arrive(o *order, slot uint32, e *Event) Reason {
	waits := o.typ.stops() && (slot == 0 || o.ladder >= falling)
	if waits {
		f := Effect{Kind: Trigger, Side: o.side, ID: o.id, Owner: o.owner, Price: int64(o.stop), Qty: int64(o.qty)}
		if b.last == 0 || !reached(o.side, o.typ, o.stop, b.last) {
			f.Kind = Wait
			e.emit(f)
			return 0
		}
		e.emit(f)
	}
	k := resting(o.side)
	if !crosses(b.ladders[k^1].bestKey(), o.bound()) {
		o.end(false, e)
		return 0
	}
	if o.post && !waits {
		return ErrPostOnlyTrades
	}

	from := len(e.Effects)
	theirs := &e.views[k^1]
	theirs.open(b, k^1, 0)
	rests := b.enter(o, theirs, e)
	if b.triggers(e.Effects[from:]) {
		mine := &e.views[k]
		mine.open(b, k, slot)
		if rests {
			mine.add(o)
		}
		b.cascade(from, slot, e)
	}
	return 0
}

// triggers reports whether the trades among fs trigger any order.
func (b *Book) triggers(fs []Effect) bool {
	rise, fall := b.ladders[rises].bestKey(), b.ladders[falling].bestKey()
	if rise == 0 && fall == 0 {
		return false
	}
	for i := range fs {
		p := uint32(fs[i].Price)
		if fs[i].Kind == Trade && (rise != 0 && p >= keyOf(rises, rise) || fall != 0 && p <= fall) {
			return true
		}
	}
	return false
}

// cascade executes the orders that the trades in e.Effects[from:] trigger, and
// those that their trades trigger, until there are none. The command's own
// order, in slot, is not triggered again. Both of e's views are open.
func (b *Book) cascade(from int, slot uint32, e *Event) {
	e.queue = e.queue[:0]
	rise, fall := b.waiter(rises), b.waiter(falling)
	for done := 0; ; done++ {
		for ; from < len(e.Effects); from++ {
			f := &e.Effects[from]
			if f.Kind != Trade {
				continue
			}
			for ; rise.slot != 0 && uint32(f.Price) >= keyOf(rises, rise.key); rise.next() {
				if rise.slot != slot {
					e.queue = append(e.queue, rise.slot)
				}
			}
			for ; fall.slot != 0 && uint32(f.Price) <= keyOf(falling, fall.key); fall.next() {
				if fall.slot != slot {
					e.queue = append(e.queue, fall.slot)
				}
			}
		}
		if done == len(e.queue) {
			return
		}
		o := b.orders[e.queue[done]]
		e.emit(Effect{Kind: Trigger, Side: o.side, ID: o.id, Owner: o.owner, Price: int64(o.stop), Qty: int64(o.qty)})
		k := resting(o.side)
		if b.enter(&o, &e.views[k^1], e) {
			e.views[k].add(&o)
		}
	}
}

// enter trades an order against the other side and decides on the rest of it;
// it reports whether that rests. o.qty becomes what is left.
func (b *Book) enter(o *order, theirs *view, e *Event) (rests bool) {
	bound := o.bound()
	// Whether the order ends here: it may not trade, or must not any longer.
	drop := o.post && crosses(theirs.best(), bound) || o.tif == FOK && !theirs.fills(o, bound)
	for o.qty > 0 && !drop {
		key := theirs.best()
		if !crosses(key, bound) {
			break
		}
		m := theirs.front()
		price := int64(keyOf(theirs.ladder, key))
		kind := Trade
		if o.stp != STPNone && o.owner != 0 && o.owner == m.owner {
			if o.stp == STPCancelOldest || o.stp == STPCancelBoth {
				e.emit(Effect{Kind: Drop, Side: o.side.Opposite(), ID: m.id, Owner: m.owner, Price: price, Qty: int64(m.qty)})
				theirs.take(m.qty)
			}
			if o.stp != STPDecrement {
				drop = o.stp != STPCancelOldest
				continue
			}
			kind = Decrement
		}
		q := min(o.qty, m.qty)
		f := e.next(kind, o)
		f.Maker, f.MakerOwner, f.Left = m.id, m.owner, int64(m.qty-q)
		f.Price, f.Qty = price, int64(q)
		theirs.take(q)
		o.qty -= q
		drop = o.qty == 0 && kind == Decrement
	}

	return o.end(drop, e)
}

// end decides what becomes of an order that has done its trading, and reports
// whether it rests.
func (o *order) end(drop bool, e *Event) (rests bool) {
	f := e.next(Drop, o)
	f.Price, f.Qty = int64(o.price), int64(o.qty)
	switch {
	case drop:
	case o.qty == 0:
		f.Kind = Fill
	case o.typ.limited() && o.tif == GTC:
		f.Kind = Rest
		rests = true
	}
	return rests
}

func (e *Event) emit(f Effect) { e.Effects = append(e.Effects, f) }

// next appends an effect on o that is yet to be filled in, which is quicker than
// to copy it. It is valid until the next one.
func (e *Event) next(k Kind, o *order) *Effect {
	n := len(e.Effects)
	if n == cap(e.Effects) {
		e.Effects = append(e.Effects, Effect{})
	}
	e.Effects = e.Effects[:n+1]
	f := &e.Effects[n]
	f.Kind, f.Side, f.ID, f.Owner = k, o.side, o.id, o.owner
	f.Maker, f.MakerOwner, f.Left = 0, 0, 0
	return f
}

// bound is the worst key of the other side at which an order trades.
func (o *order) bound() uint32 {
	if !o.typ.limited() {
		return 1
	}
	return keyOf(resting(o.side.Opposite()), o.price)
}

func crosses(key, bound uint32) bool { return key >= bound }

// reached reports whether a trade at price last meets a stop price.
func reached(s Side, t Type, stop, last uint32) bool {
	if rising(s, t) {
		return last >= stop
	}
	return last <= stop
}
