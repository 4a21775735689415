// Package orderbook is the order book of one market as a levada aggregate:
// [Books] is its type, [Place], [Cancel] and [Modify] are its commands, and
// [Decided] is its only event.
//
//	Place ─┐                 ┌─▶ Book (Apply)
//	Cancel ─┼─▶ Decided ─────┤
//	Modify ─┘  with effects  └─▶ settlement, tape, candles, …
//
// Every command appends exactly one event: what was asked and everything that
// followed from it, in order, down to the last order that a trade triggered. A
// refused command is recorded too, with the reason and without effects, so that
// whoever holds funds for an order learns that it never was. An event is decided
// by package book without touching the state, so nothing is undone if it cannot
// be stored; folding the events gives the same book again.
//
// Owners are numbers, given out by whoever keeps the accounts; the effects of an
// event name the owners of both orders of a trade.
//
// # Order ids
//
// An order id must not be that of a live order of the same book; beyond that the
// sender chooses. Ref is for senders whose clients name orders by text: it is
// recorded and otherwise ignored.
//
// # Bytes
//
// Events and snapshots are JSON, written and read by hand because a book lives by
// them: see [Decided.MarshalJSON] and [Book.MarshalJSON] for their form.
package orderbook
