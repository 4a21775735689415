package book

// An Event is what became of a [Command]. An event may be used again for the
// next command, which then needs no memory of its own; whoever keeps an event
// must copy its Effects.
type Event struct {
	Command Command
	Reason  Reason   // why the command was refused, 0 if it was not
	Effects []Effect // what happened, in order; empty if refused

	// What Decide needs while orders trigger one another.
	views [2]view
	queue []uint32
}

// Err returns e.Reason as an error, or nil if the command was accepted.
func (e *Event) Err() error {
	if e.Reason == 0 {
		return nil
	}
	return e.Reason
}

// A Kind says what an effect does.
type Kind uint8

// The kinds of effects. Every order that enters the book, by a command or
// because it was triggered, ends that entry with exactly one of Rest, Wait,
// Fill and Drop.
const (
	Rest      Kind = iota + 1 // ID queues with Qty at Price, behind all at that price
	Wait                      // ID waits with Qty until a trade reaches Price
	Trigger                   // ID, which waited or has just arrived, now trades
	Trade                     // ID takes Qty from Maker at Price; Maker has Left open and is filled if that is 0
	Decrement                 // ID and Maker, of one owner, lose Qty instead of trading; Maker has Left open and is cancelled if that is 0
	Fill                      // ID has traded its last lot
	Drop                      // ID goes with its open Qty: it is cancelled
	Amend                     // ID, in its place, has Qty open from now on
	Requeue                   // ID leaves its place and enters anew with Qty and Price
	kinds
)

var kindTexts = [kinds]string{
	Rest: "rest", Wait: "wait", Trigger: "trigger", Trade: "trade", Decrement: "decrement",
	Fill: "fill", Drop: "cancel", Amend: "amend", Requeue: "requeue",
}

// String returns the name of the kind, such as "trade"; that of Drop is
// "cancel".
func (k Kind) String() string { return text(kindTexts[:], uint8(k), "kind") }

// ParseKind is the inverse of Kind.String.
func ParseKind(s string) (Kind, bool) { return parse[Kind](kindTexts[1:], s, 1) }

// An Effect is one thing that happened to an order, or to two.
type Effect struct {
	Kind       Kind
	Side       Side   // of ID
	ID         uint64 // the order; the taker of a Trade or Decrement
	Owner      uint64 // of ID
	Maker      uint64 // Trade, Decrement: the resting order
	MakerOwner uint64 // Trade, Decrement: of Maker
	Price      int64  // Trade, Rest, Requeue (0 without one): ticks; Wait: the stop price
	Qty        int64  // lots
	Left       int64  // Trade, Decrement: what Maker has open afterwards
}
