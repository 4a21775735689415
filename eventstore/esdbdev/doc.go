// Package esdbdev is a development server that speaks the EventStoreDB gRPC
// protocol over any levada store: programs and tests that use an official client of
// EventStoreDB or KurrentDB run against it without a container. A [Server] serves a
// store, [Options] configure it, and a [Fault] or a [Role] makes it misbehave on
// purpose. The command levada esdb serves one from the shell.
//
//	client ── gRPC ──► Server ──► eventstore.Store ──► memory, SQLite, PostgreSQL …
//
// It is not EventStoreDB or KurrentDB, which it shares no code with, and it is not
// meant to hold anything that matters. KurrentDB and EventStoreDB are trademarks of
// their owner.
//
// # What is there
//
// Streams: Append, BatchAppend, Read, subscriptions with filters, checkpoints,
// caught-up and fell-behind, Delete and Tombstone, idempotency by event id, and
// stream metadata, of which $maxCount, $maxAge and $tb have their effect on reads.
// Persistent subscriptions to streams and to $all. Gossip and server features. TLS
// and basic authentication. A client that insists on the leader is sent there.
//
// # What is not
//
// Projections, which answer Unimplemented; clustering, but for what a [Role] makes
// clients see; access control: an $acl is kept and asked by nobody; scavenging: what
// is deleted remains in $all; extra statistics, and of the buffer sizes of a persistent
// subscription all but the history buffer's, which bounds what is read ahead; users, operations, monitoring; the HTTP API; regular
// expressions that only .NET knows. The same event id twice in one append is refused.
//
// # In the store
//
// The server stands on the public [eventstore.Store], so it runs over every driver
// and beside programs that use the store themselves. Their events are seen by
// clients with their own names, as revisions 0, 1, 2 for versions 1, 2, 3, and with
// their metadata as a JSON object; the store's own streams are not seen. What clients
// write can be read by such programs: a stream or type whose name a store refuses has
// another there, see name.go, and so have streams that start with "$", such as
// metadata, which those programs do not see unless they ask for them.
//
// Positions on the wire are neither dense nor evenly spaced, as byte offsets are, and
// one that the server never gave out is refused.
//
// # Guarantees
//
// An append that was acknowledged is as durable as the store makes it. Appends that
// expect a revision are decided by the store, so any number of servers and programs
// may write. Deleting, tombstones, and appends that expect no revision and are
// repeated, are kept straight by the server: where several serve one store, only one
// at a time may be used for these.
package esdbdev
