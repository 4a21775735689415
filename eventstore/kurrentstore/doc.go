// Package kurrentstore keeps events in EventStoreDB or KurrentDB. [Open] takes a
// connection string and returns the portable store; [Options] say how.
//
//	store, err := kurrentstore.Open(ctx, "kurrentdb://admin:changeit@node1:2113,node2:2113", nil)
//
//	eventstore.Store ──► store ──► guard ── gRPC ──► the leader
//	                       │         └─ finds it, leaves it when it breaks, tries again
//	                       └─ streams, log, leases, checkpoints: all of them streams of the server
//
// It has been tested against the development server of package esdbdev, over gRPC, and against no
// real EventStoreDB or KurrentDB: see docs/kurrentstore.md, which also says how to run the tests against one.
//
// # The guard
//
// Settings, protocol and requests are those of the official client,
// EventStore-Client-Go v4.2.0; a test compares the requests. The connection is not. The client's ends
// for good when a search for the servers fails, with callers waiting whose contexts it does not see;
// it panics when closed while calls fail; it does not send that a read is for the leader; it loses
// the answer of a server that answers early, and a connection whenever it
// connects again. The tests show each of these in the client, and that the guard is free of it.
//
// # Guarantees
//
// An append is one atomic write of the server, durable as its cluster makes it. It is three round trips, and two while
// somebody waits for events.
// Everything is asked of the leader, with the header that makes any other server
// refuse, so that the version of a stream, and with it the reason of a refusal,
// is not an old one. A leader that was cut off from the others and has not
// noticed yet can answer reads from what it has; its appends do not succeed.
//
// An append whose answer was lost is made again with the same ids at the same exact
// revision, which the server recognises, until Options.Patience is over; then its
// outcome is driver.ErrOutcomeUnknown. Any and StreamExists are made exact by
// asking where the stream stands, so they are safe to repeat, too.
//
// Versions are the server's revisions and one. Positions are its commit
// positions: they increase and are far apart. A position is only ever one that
// this package gave out. Recorded.Time is when the server says that an event was created; the clocks
// of several leaders may differ.
//
// # Removal
//
// Truncate sets $tb; the other metadata of the stream are kept. Delete is the
// server's soft delete: the stream counts as absent and goes on at the next
// version. What it needs to know of a deletion later it notes among the
// metadata, as levada.deleting, levada.deleter and levada.origin. Where another
// program deletes a stream that comes back, where it began anew is not known. Purge
// is the server's tombstone.
//
// The server shows removed events in its log until it scavenges; this package
// leaves them out, but not those that only $maxCount or $maxAge remove. The bytes
// are gone when the server has scavenged.
//
// One thing is weaker than elsewhere. Where an append that expects a version, or that the stream exists, and a
// Delete by another process are under way at the same moment, and the server makes the deletion first, it
// takes the append as well: it compares the number of the last event, and a soft delete changes only the metadata, which no
// append can expect. Both are answered as done, and the stream is back: it begins with the
// events of that append, and StreamInfo.Origin is the version that the append expected. In the other order
// nothing is wrong: the deletion finds another version, is refused if it expected one, and else deletes the new events, too.
// Within a process the two take turns. A Purge has no such gap: the server refuses every append after it.
//
// # What it cannot do
//
// There are no conditional appends (Tags), no appends to several streams (Atomic), and no inline projections.
// Each is an error when it is asked for, at startup. Events that explicit
// transactions of the old TCP interface wrote end a read with [ErrTransaction].
//
// # Lists and dates
//
// A server without its projections has no list of streams and no index of times, and this package
// depends on none of these. Lists of streams and categories are read off the log, which the server
// filters by the names' beginning: the first list of a category takes time in proportion to the log, and
// sends all events of the category over the network; the next one those that are new since. At most
// 200,000 names are kept in memory. A position is found by its time backward from the end, with leaps
// along long streams; in a log of short ones it reads everything since that time.
//
// # Names
//
// A stream has its own name on the server. The library's own streams, "$x",
// are called "levada.sys.x" there, since names with a dollar are the server's; names that
// start with "levada.sys." are refused. What the driver keeps for itself,
// checkpoints and leases, is in streams "levada.sys.$…", which are nobody's to read, and
// move no reader of the log that waits at its end.
//
// # Leases
//
// Time is the leader's. It is read off the events that the driver itself writes, and counted on
// with a clock that measures only how long, so no machine's time of day matters but the leader's. If another
// leader's clock differs a lease may end early or late by as much. Fences, which are versions of the stream that holds the
// leases, rise whatever the clocks do: who has lost a lease can save no checkpoint.
package kurrentstore
