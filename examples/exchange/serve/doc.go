// Package serve is the exchange as people see it: a page that moves with every
// trade, a market data API over WebSocket, and orders over WebSocket and HTTP. It
// is an application of levada with nothing between the parts:
//
//	page ────► desk ────┐ place, cancel, modify      event
//	program ─► session ─┴─────────► orderbook.Books ───────► store
//	 ▲   ▲        ▲                                          │   │
//	 │   │frames  │ snapshot           projection            │   │ subscription
//	 │   └────────┴────────── Markets ◄──────────────────────┘   │ After(position)
//	 │                           │                               │
//	 └─ regions ─── board ◄──────┴───────────────────────────────┘
//
// [Open] makes an [Exchange] on a store, [Exchange.Run] keeps its read model
// ([Markets]: books, tape, candles, live orders, fills) up to date, and [NewServer] is the
// http.Handler, whose pages [Server.Run] keeps moving. [Main] is the command.
//
// # The page
//
// A desk is the state of one page, a view of package live, and what is rendered for
// one person. A board is what all who look at a market see alike, in regions that are rendered
// once for all of them. Both show the read model as it is when they look; events only tell them
// to. The answer to an order waits until the page shows what the order did.
//
// # Nothing missed, nothing twice
//
// A client of the API that subscribes gets a snapshot of the read model, and then what a
// transient subscription on the store delivers after the position at which the
// model stood. Frames carry the version of the book's stream that they lead to, and
// that of the frame they continue, so a client can check. The messages are
// described in docs/exchange-api.md.
//
// # Slow clients
//
// A page that is slow gets fewer frames, see package live. For clients of the API no frames are
// queued. A session's writer takes one frame at a time, and whoever
// has one waits. Meanwhile the store's subscription holds what is new up to a
// bound, and beyond that remembers its position. The book and the candles are
// states: a slow client gets the difference to the newest one. Trades and own
// orders are all sent, until a client is too far behind and is closed.
//
// # Restarts
//
// The read model is kept in memory. It is saved as a snapshot in the store when
// the exchange closes and every 20,000 events, and goes on from there.
//
// # Who is who
//
// There are no accounts. A random cookie makes a browser an owner, whose number in
// the log is a hash of it, so that only the browser that placed an order cancels it.
package serve
