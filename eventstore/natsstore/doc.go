// Package natsstore keeps events in NATS JetStream: in a cluster of servers that
// goes on when one of them fails, or in one server inside the process.
//
//	                  JetStream stream "levada", the log          KV buckets
//	stream "room-42"  ──►  subject levada.u.room.-42              levada-snap
//	position          ──►  sequence of the message                levada-cp
//	version, type …   ──►  headers; the data is the event's data  levada-lease
//
// [Open] opens a store on a connection, [OpenURL] on one of its own, and
// [OpenEmbedded] on a server of its own. Servers must be of version 2.12 or later.
//
// # Guarantees
//
// Appends to one stream take turns, whoever makes them: the server refuses a
// message unless the last one on its subject is the one that the appender derived
// its versions from. Appends of several events are atomic batches. No reader sees
// a part of one.
//
// An append to several streams (driver.Atomic) is one such batch, with an
// expectation for each of its streams: all are as expected, or nothing is written.
// Its events lie side by side in the log, and each stream's back pointers chain its
// own, as if it had been appended to alone.
//
// What a stream holds is asked of the leader: ReadStream, Stream, Head, refusals,
// snapshots, checkpoints and leases are never stale, while replicas may be. Only
// events themselves, which never change, are read from any replica, and from the
// leader if the replica does not have them yet. A leader that was cut off from
// the others may answer with what it has until it steps down, some ten seconds;
// it cannot take writes.
//
// An append whose answer is lost, because a server or the connection was, is
// pursued: the leader is asked whether it has it, and it is made again with the
// same expectation, which cannot write it twice. When ctx ends or Options.Timeout
// has passed before the outcome is known, that is driver.ErrOutcomeUnknown.
//
// What an acknowledged event survives is told at [Durability].
//
// # Reading
//
// Each event's headers have the positions of the 16 events before it in its
// stream, and of some further back, so that a stream is loaded without the server
// searching the log for it: the stream's last event is asked of the leader, and the
// rest follows in about log n round trips of 64 events each.
//
// ReadAll reads pages. The server selects streams and categories, up to 16 of
// them, each by a page of its own; they are merged by their positions, so far as
// all of them are known. More of them, types, and filters that select most of the
// log are applied here, to all events.
// A page is only believed if it has its end marker, and its end is only believed
// to be the end of the log if the leader says so.
//
// # Removing
//
// Truncate, Delete and Purge write a marker, a message that readers do not see,
// and purge messages below it. The marker stays for ever, so that versions are
// never used again. In a cluster, readers of the log by other connections may for
// moments still be shown what was removed, while a replica has not followed yet;
// readers of the stream are not.
//
// # Time
//
// The time of an event is the server's, when it stored it, and not that of any
// client's clock. An append of several events has the time of its last; one to
// several streams has a time in each, which on one server differ by the
// microseconds in between. Leases run by the server's clock, too.
//
// # Limits
//
// An append has at most 1,000 events and 16 MiB, in all its streams together, an event 15/16 of the server's
// max_payload, which is 1 MiB unless configured. Beyond is driver.ErrTooLarge. At
// most 32 appends of several events are under way at once; others wait.
//
// The package has no group commit: appends go to the server at once, which orders
// them. It has no conditional appends across streams (driver.Conditional): the
// server checks expectations by subject, and a condition on several tags would need
// a message for each tag of each event.
package natsstore
