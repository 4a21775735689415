// Package memstore keeps events in the memory of the process: for tests,
// examples and caches that may be lost. It can do everything that any driver can.
//
//	log         position → event, in chunks that never move
//	streams     name     → versions → positions
//	categories  name     ┐
//	types       name     ├→ positions, in order
//	tags        name     ┘
//
// [Open] returns a store, [NewDriver] the driver alone.
//
// # Guarantees
//
// The log lives as long as the store does, and no longer. Positions are dense
// unless events are removed, and are never used twice. Events are visible to
// every reader the moment their append returns, and in the order of their
// positions: writers take turns.
//
// Nothing runs in the background and nothing waits but on channels, and the
// time is time.Now, so a store may be used inside a testing/synctest bubble.
//
// # Memory
//
// An event costs its own bytes, its record in the log, and eight bytes in each
// of the lists that it is found by. What Truncate, Delete and Purge remove is
// given back: metadata and tags at once, data when all events of its append are
// gone, records when all 256 that lie beside each other in the log are. The
// names of streams are kept for ever, since their versions must never be used
// again.
//
// # Ownership
//
// The driver copies what it is given. What it returns is shared between
// readers, and must not be modified by them.
package memstore
