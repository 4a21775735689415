// Package book is a limit order book with price-time priority: a plain,
// single-threaded matching engine that knows nothing of storage.
//
// The types are few: a [Command] asks for something, [Book.Decide] answers with
// an [Event] that lists its [Effect] values in the order in which they happen,
// and [Book.Apply] folds an event into the book.
//
//	          Decide                     Apply
//	Command ─────────▶ Event{Effects} ─────────▶ Book
//	          reads                      writes
//
// Decide never touches the book. Whoever keeps the events can therefore store
// them first and apply them afterwards, and a book folded from stored events is
// the book that decided them. [Book.Do] is both steps at once.
//
// # Numbers
//
// Prices are whole ticks and quantities are whole lots, from 1 to [MaxPrice] and
// [MaxQty]. With these bounds the value of an order (price × quantity), of
// everything one order can trade, and the total of a price level fit in an int64.
// Order ids and owners are the caller's numbers; owner 0 stands for "nobody":
// such an order is a stranger to every other one.
//
// # Matching
//
// A new order takes the best price first and, at one price, the order that has
// waited longest. Trades print at the maker's price. What a market or an
// immediate-or-cancel order leaves is cancelled; a fill-or-kill order trades
// whole or not at all; a post-only order that would trade is refused.
//
// A modification replaces the open quantity, the price, or both. Less quantity
// at the same price keeps the place in the queue; a different price or more
// quantity leaves it, may trade at once, and queues at the back with the rest.
//
// # Self-trade prevention
//
// An order that meets one of its own owner's never trades with it unless its
// mode is [STPNone]. The mode of the taker decides:
//
//	STPCancelNewest  the taker's remainder is cancelled
//	STPCancelOldest  the maker is cancelled, the taker goes on
//	STPCancelBoth    both are cancelled
//	STPDecrement     both shrink by the smaller quantity; who reaches zero is cancelled
//
// A fill-or-kill order counts what it could trade under its mode: own orders are
// passed over with STPCancelOldest and end the count with the other three. A
// killed order cancels nobody.
//
// # Stops
//
// A stop (and stop-limit) order waits until a trade prints at its stop price or
// through it: at or above for a buy, at or below for a sell. Take-profit orders
// mirror this: at or below for a buy, at or above for a sell. An order whose
// condition the last trade already meets is triggered as it enters. A triggered
// order then acts as a market or limit order of its time in force.
//
// Orders are triggered by every single trade but executed only when the order
// that traded has finished, one after the other: in the order of the trades that
// triggered them; for one trade, those nearest to the price it came from first;
// at one stop price, in order of arrival. (Only the first trade of a book can
// trigger in both directions: then those waiting for a rise go first.) Their own
// trades trigger further orders, which queue behind. A triggered post-only order
// that would trade is cancelled.
//
// # Concurrency
//
// A Book may be read (Decide included) by any number of goroutines while none
// writes (Apply, Do, Restore, Reset).
package book
