package book

import "fmt"

// A Command asks a [Book] to place, cancel or modify one order. Fields that its
// Op does not name are ignored.
type Command struct {
	Op       Op
	Side     Side   // Place
	Type     Type   // Place
	TIF      TIF    // Place
	STP      STP    // Place; kept with the order for as long as it lives
	PostOnly bool   // Place
	Fields   Fields // Modify: which of Qty, Price and Stop are given
	ID       uint64 // of the order
	Owner    uint64 // Place: 0 is nobody. Cancel, Modify: 0 asks on everybody's behalf
	Qty      int64  // Place; Modify: the new open quantity
	Price    int64  // Place: of limit types, 0 for others; Modify
	Stop     int64  // Place: of stop and take-profit types, 0 for others; Modify
}

// Bounds of what a book accepts.
const (
	// MaxPrice is the highest price and stop price, in ticks.
	MaxPrice = 1<<31 - 1
	// MaxQty is the largest quantity of one order, in lots. MaxPrice × MaxQty
	// and MaxOrders × MaxQty fit in an int64.
	MaxQty = 1<<32 - 1
	// MaxOrders is how many orders may be live in one book.
	MaxOrders = 1<<30 - 1
)

// An Op says what a command asks for.
type Op uint8

// The operations.
const (
	Place  Op = iota + 1 // a new order
	Cancel               // an order goes
	Modify               // an order's open quantity, price or stop price changes
)

// A Side is that of an order. Its zero value is neither and refused.
type Side uint8

// The sides.
const (
	Buy Side = iota + 1
	Sell
)

// A Type says how an order trades and when it starts to.
type Type uint8

// The types. The first is the default.
const (
	Limit           Type = iota // trades at Price or better
	Market                      // trades at any price, never rests
	Stop                        // a Market order once the price has moved against it to Stop
	StopLimit                   // a Limit order then
	TakeProfit                  // a Market order once the price has moved in favour of it to Stop
	TakeProfitLimit             // a Limit order then
)

// A TIF is an order's time in force.
type TIF uint8

// The times in force. The first is the default.
const (
	GTC TIF = iota // good till cancelled: what does not trade rests (of limit types)
	IOC            // immediate or cancel: what does not trade is cancelled
	FOK            // fill or kill: trades whole or is cancelled without a trade
)

// An STP is a mode of self-trade prevention.
type STP uint8

// The modes; see the package documentation.
const (
	STPNone STP = iota
	STPCancelNewest
	STPCancelOldest
	STPCancelBoth
	STPDecrement
)

// Fields are the fields that a Modify gives.
type Fields uint8

// The fields.
const (
	FieldQty Fields = 1 << iota
	FieldPrice
	FieldStop
)

// A Reason says why a command was refused. Every constant below is an error to
// be tested for with errors.Is. Their texts are stored in events: they never
// change.
type Reason uint8

// The reasons. The zero Reason is none: the command was accepted.
const (
	ErrUnknownOp       Reason = iota + 1 // Op is not one of the constants
	ErrUnknownSide                       // Side is not one of the constants
	ErrUnknownType                       // Type is not one of the constants
	ErrUnknownTIF                        // TIF is not one of the constants
	ErrUnknownSTP                        // STP is not one of the constants
	ErrQty                               // Qty is zero or negative
	ErrQtyTooLarge                       // Qty is above MaxQty
	ErrPrice                             // the price of a limit type is zero or negative
	ErrPriceTooLarge                     // Price is above MaxPrice
	ErrPriceGiven                        // a market type, which has no price, was given one
	ErrStop                              // the stop price of a stop or take-profit type is zero or negative
	ErrStopTooLarge                      // Stop is above MaxPrice
	ErrStopGiven                         // an order that waits for no stop price was given one
	ErrPostOnlyType                      // post-only, but of a market type
	ErrPostOnlyTIF                       // post-only, but IOC or FOK
	ErrPostOnlyTrades                    // post-only, and would trade at once
	ErrDuplicate                         // an order with this id is live
	ErrUnknownOrder                      // no live order has this id, or it is somebody else's
	ErrNothingToModify                   // a Modify without Fields
	ErrFull                              // MaxOrders orders are live
	reasons
)

var reasonTexts = [reasons]string{
	0:                  "accepted",
	ErrUnknownOp:       "unknown operation",
	ErrUnknownSide:     "unknown side",
	ErrUnknownType:     "unknown type",
	ErrUnknownTIF:      "unknown time in force",
	ErrUnknownSTP:      "unknown self-trade prevention",
	ErrQty:             "quantity is not positive",
	ErrQtyTooLarge:     "quantity is too large",
	ErrPrice:           "price is not positive",
	ErrPriceTooLarge:   "price is too large",
	ErrPriceGiven:      "a market order has no price",
	ErrStop:            "stop price is not positive",
	ErrStopTooLarge:    "stop price is too large",
	ErrStopGiven:       "the order has no stop price",
	ErrPostOnlyType:    "a market order cannot be post-only",
	ErrPostOnlyTIF:     "an immediate order cannot be post-only",
	ErrPostOnlyTrades:  "the post-only order would trade",
	ErrDuplicate:       "an order with this id is live",
	ErrUnknownOrder:    "unknown order",
	ErrNothingToModify: "nothing to modify",
	ErrFull:            "the book is full",
}

// Error returns the text of the reason.
func (r Reason) Error() string { return text(reasonTexts[:], uint8(r), "reason") }

// ParseReason returns the reason with the given text.
func ParseReason(s string) (Reason, bool) { return parse[Reason](reasonTexts[1:], s, 1) }

var (
	opTexts   = []string{"", "new", "cancel", "modify"}
	sideTexts = []string{"", "buy", "sell"}
	typeTexts = []string{"limit", "market", "stop", "stop_limit", "take_profit", "take_profit_limit"}
	tifTexts  = []string{"gtc", "ioc", "fok"}
	stpTexts  = []string{"none", "cancel_newest", "cancel_oldest", "cancel_both", "decrement"}
)

// String returns "new", "cancel" or "modify".
func (o Op) String() string { return text(opTexts, uint8(o), "op") }

// String returns "buy" or "sell".
func (s Side) String() string { return text(sideTexts, uint8(s), "side") }

// String returns the name of the type, such as "stop_limit".
func (t Type) String() string { return text(typeTexts, uint8(t), "type") }

// String returns "gtc", "ioc" or "fok".
func (t TIF) String() string { return text(tifTexts, uint8(t), "tif") }

// String returns the name of the mode, such as "cancel_newest".
func (s STP) String() string { return text(stpTexts, uint8(s), "stp") }

// ParseOp is the inverse of Op.String.
func ParseOp(s string) (Op, bool) { return parse[Op](opTexts[1:], s, 1) }

// ParseSide is the inverse of Side.String.
func ParseSide(s string) (Side, bool) { return parse[Side](sideTexts[1:], s, 1) }

// ParseType is the inverse of Type.String.
func ParseType(s string) (Type, bool) { return parse[Type](typeTexts, s, 0) }

// ParseTIF is the inverse of TIF.String.
func ParseTIF(s string) (TIF, bool) { return parse[TIF](tifTexts, s, 0) }

// ParseSTP is the inverse of STP.String.
func ParseSTP(s string) (STP, bool) { return parse[STP](stpTexts, s, 0) }

// Opposite returns the other side.
func (s Side) Opposite() Side { return Buy + Sell - s }

// limited reports whether orders of the type have a limit price.
func (t Type) limited() bool { return t == Limit || t == StopLimit || t == TakeProfitLimit }

// stops reports whether orders of the type wait for a stop price.
func (t Type) stops() bool { return t >= Stop }

// rising reports whether an order waits for the price to rise to its stop price.
func rising(s Side, t Type) bool {
	profits := t == TakeProfit || t == TakeProfitLimit
	return (s == Buy) != profits
}

// check returns why a Place is refused whatever the book holds.
func (c *Command) check() Reason {
	switch {
	case c.Side-Buy > Sell-Buy: // one branch, for either side is as likely
		return ErrUnknownSide
	case int(c.Type) >= len(typeTexts):
		return ErrUnknownType
	case int(c.TIF) >= len(tifTexts):
		return ErrUnknownTIF
	case int(c.STP) >= len(stpTexts):
		return ErrUnknownSTP
	}
	if r := checkQty(c.Qty); r != 0 {
		return r
	}
	if c.Type.limited() {
		if r := checkPrice(c.Price); r != 0 {
			return r
		}
	} else if c.Price != 0 {
		return ErrPriceGiven
	}
	if c.Type.stops() {
		if r := checkStop(c.Stop); r != 0 {
			return r
		}
	} else if c.Stop != 0 {
		return ErrStopGiven
	}
	if c.PostOnly {
		if !c.Type.limited() {
			return ErrPostOnlyType
		}
		if c.TIF != GTC {
			return ErrPostOnlyTIF
		}
	}
	return 0
}

func checkQty(q int64) Reason {
	if q <= 0 {
		return ErrQty
	}
	if q > MaxQty {
		return ErrQtyTooLarge
	}
	return 0
}

func checkPrice(p int64) Reason {
	if p <= 0 {
		return ErrPrice
	}
	if p > MaxPrice {
		return ErrPriceTooLarge
	}
	return 0
}

func checkStop(p int64) Reason {
	if p <= 0 {
		return ErrStop
	}
	if p > MaxPrice {
		return ErrStopTooLarge
	}
	return 0
}

func text(names []string, i uint8, kind string) string {
	if int(i) < len(names) && names[i] != "" {
		return names[i]
	}
	return fmt.Sprintf("%s(%d)", kind, i)
}

func parse[T ~uint8](names []string, s string, first T) (T, bool) {
	for i, name := range names {
		if name == s {
			return first + T(i), true
		}
	}
	return 0, false
}
