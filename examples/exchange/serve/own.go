package serve

import (
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/exchange/book"
)

// Where an order can stand after a command.
const (
	statusOpen      = "open"      // it rests in the book
	statusWaiting   = "waiting"   // for its stop price
	statusFilled    = "filled"    // it has traded its last lot
	statusCancelled = "cancelled" // it is gone, and was not filled
)

// ownChange is what one event changed for one owner.
type ownChange struct {
	version  eventstore.Version
	position eventstore.Position
	ms       int64
	orders   []ownOrder // each once, as the event left it
	fills    []ownFill
}

type ownOrder struct {
	id     uint64
	status string
	open   int64
	moved  bool  // its price and stop price are given
	price  int64 // 0 of market types
	stop   int64
	placed *book.Command // the command that placed it, if that was this event's
}

type ownFill struct {
	id         uint64
	role       string // "maker" or "taker"
	side       book.Side
	price, qty int64
}

// concerns reports whether d changed an order of an owner.
func (d *decision) concerns(owner uint64) bool {
	for i := range d.effects {
		f := &d.effects[i]
		if f.Owner == owner || f.Maker != 0 && f.MakerOwner == owner {
			return true
		}
	}
	return false
}

// own returns what d changed for an owner.
func (d *decision) own(owner uint64) *ownChange {
	c := &ownChange{version: d.version, position: d.position, ms: d.time.UnixMilli()}
	for i := range d.effects {
		f := &d.effects[i]
		if (f.Kind == book.Trade || f.Kind == book.Decrement) && f.MakerOwner == owner {
			o := c.order(f.Maker, d.command)
			o.status, o.open = statusOpen, f.Left
			if f.Left == 0 {
				o.status = statusFilled
				if f.Kind == book.Decrement {
					o.status = statusCancelled
				}
			}
		}
		if f.Kind == book.Trade {
			if f.MakerOwner == owner {
				c.fills = append(c.fills, ownFill{f.Maker, "maker", f.Side.Opposite(), f.Price, f.Qty})
			}
			if f.Owner == owner {
				c.fills = append(c.fills, ownFill{f.ID, "taker", f.Side, f.Price, f.Qty})
			}
		}
		if f.Owner != owner {
			continue
		}
		o := c.order(f.ID, d.command)
		switch f.Kind {
		case book.Rest:
			o.status, o.open = statusOpen, f.Qty
		case book.Wait:
			o.status, o.open = statusWaiting, f.Qty
		case book.Fill:
			o.status, o.open = statusFilled, 0
		case book.Drop:
			o.status, o.open = statusCancelled, f.Qty
		case book.Amend:
			// It keeps its place, resting or waiting.
			o.status, o.open = "", f.Qty
		case book.Requeue:
			o.moved, o.price = true, f.Price
			if d.command.Fields&book.FieldStop != 0 {
				o.stop = d.command.Stop
			}
		}
	}
	return c
}

func (c *ownChange) order(id uint64, cmd *book.Command) *ownOrder {
	for i := range c.orders {
		if c.orders[i].id == id {
			return &c.orders[i]
		}
	}
	o := ownOrder{id: id}
	if cmd.Op == book.Place && cmd.ID == id {
		o.placed = cmd
	}
	c.orders = append(c.orders, o)
	return &c.orders[len(c.orders)-1]
}

func (s *Symbol) ownChange(f *dataFrame, c *ownChange) {
	rows := make([]orderJSON, 0, len(c.orders))
	for i := range c.orders {
		o := &c.orders[i]
		row := orderJSON{Order: orderID(o.id), Status: o.status, Open: s.Qty(o.open)}
		if p := o.placed; p != nil {
			row.Side, row.Type, row.TIF, row.PostOnly = p.Side.String(), p.Type.String(), p.TIF.String(), p.PostOnly
			row.Price, row.Stop, row.Time = s.optionalPrice(p.Price), s.optionalPrice(p.Stop), c.ms
		} else if o.moved {
			row.Price, row.Stop = s.optionalPrice(o.price), s.optionalPrice(o.stop)
		}
		rows = append(rows, row)
	}
	f.Orders = &rows
	for _, l := range c.fills {
		f.Fills = append(f.Fills, ownFillJSON{orderID(l.id), l.role, l.side.String(), s.Price(l.price), s.Qty(l.qty), c.ms})
	}
}
