// Package pgstore keeps events in PostgreSQL 12 or later, for programs that run as
// several processes on several machines. [Open] returns the portable store on a pool
// of the caller's, [OpenURL] on one of its own; [Options] say how. A [Place] is where
// its tables are, for reading with SQL. A [Target] is where projections keep models
// beside them.
//
//	store, err := pgstore.OpenURL(ctx, "postgres://app@db/app", nil)
//
// # The schema
//
//	           names, versions                       the log
//	┌──────────┐ locked by    ┌──────────────────────────────────────────────────┐
//	│ streams  │ appenders    │ events                                           │
//	└──────────┘              │  position │ time │ stream, version │ type │ data…│
//	┌──────────┐ locked by    └─────┬────────────────────────────────────────────┘
//	│ tags     │ appenders          │ one row a tag of an event
//	└────┬─────┘ with the tag ┌─────┴──────┐   ┌───────────┐  where positions
//	     └────────────────────│ event_tags │   │ positions │  come from, a sequence
//	                          └────────────┘   └───────────┘
//	snapshots · checkpoints · leases · migrations      event_log: a view for people
//
// All of it is in one schema of any name. Open creates it, or brings it up to date,
// in one transaction under an advisory lock; with Options.CheckOnly it only looks.
// [Migrations] prints the SQL and [Migrate] runs it. A store of a later version of
// this package is refused with [ErrNewerSchema] and not touched. Programs that have the
// store open go on while a later one migrates it.
//
//	app=> SELECT position, stream, type, time, data ->> 'by' FROM levada.event_log LIMIT 10;
//
// The view shows data as jsonb where it is JSON, and as text where it is text; the
// log has the very bytes. A trigger refuses UPDATE, DELETE and TRUNCATE of events:
// only the functions that truncate, delete and purge streams get past it. Writing
// with other tools is not provided for.
//
// # The order of the log
//
// A batch of appends, or an append to several streams, is one call of a function of the schema:
// one round trip and one commit, in which expectations are checked and rows inserted in bulk. It takes its
// locks in one order (types, tags, streams, positions, each sorted), so that batches
// never deadlock, and only for streams and tags of its own, so that writers wait for
// each other only there. Writers that know nothing of each other may commit in any order,
// whatever positions they have. Readers of the log hold back what could be
// overtaken:
//
//	writer   1 L ← where the sequence is   2 shared advisory lock on L
//	         3 positions, all above L      4 INSERT    5 COMMIT, which ends the lock
//
//	reader   1 H ← where the sequence is   2 L ← the least of such locks
//	         3 events at or below H and L, in a snapshot of their own
//
// A writer that the reader does not see in step 2 has ended, and then step 3 sees
// all it wrote, since PostgreSQL makes a commit visible before it lets locks go; or it
// has no lock yet, and then all its positions will be above H. So no position is
// shown while a lower one may still appear, and a writer that fails, or whose
// connection breaks, holds nobody back. Other transactions do not matter, however long
// they are. Positions have gaps where a transaction was rolled back. The log is read
// in transactions that are READ COMMITTED; Open refuses a pool with another default.
//
// Positions and times are taken together under a lock that is held for that moment
// and not until the commit, so that times never decrease from one position to the next.
// A stream shows an append as soon as it is acknowledged; the log shows it once
// everything below has been decided.
//
// A hot standby can be read as of what it has replayed; writes are driver.ErrReadOnly. The
// locks of the primary are not there. But whoever was given a position that the standby
// has replayed wrote with the number of its transaction before, so the standby knows that number:
// readers go up to a position once all transactions that were known when it was read have
// ended. That holds for whatever writes to any database of the server, so while something takes long
// there, for instance a load of data, readers on the standby stay where they are; one that has just been opened gets
// an error that says so. The connections of a pool must all lead to the same standby.
//
// # Guarantees
//
// An append that was acknowledged is as durable as the server's synchronous_commit makes
// it, and never less than flushed to the server's disk: where the setting is off,
// appends turn it on for their own transactions. Open warns if the server runs with
// fsync or full_page_writes off. If a connection breaks, or the server ends it, while
// an append is under way, its outcome is driver.ErrOutcomeUnknown; an error that the
// server answers with says that nothing was written.
//
// The bytes of what is truncated or purged are out of reach at once. PostgreSQL
// frees their place with the next VACUUM, and keeps them in its write-ahead log and
// backups for as long as it keeps these.
//
// # Conditions
//
// An append under a condition, see [eventstore.Store.Tags], waits only for appends
// that the condition may concern, and only they wait for it. It locks the row of one tag
// of each item, the one that was quiet for longest. An item of types alone locks one of 32
// slots that all types share; an item that selects everything locks all of them, and then every
// append waits until it has committed. A tag, like a stream, belongs to the first transaction that
// uses it until that has ended.
//
// # Pools and poolers
//
// A store needs no more of a connection than a transaction: neither prepared statements
// with names, nor settings or locks of a session, whatever mode the pool has for
// queries of others. Statements travel unnamed and in binary. So PgBouncer
// in transaction mode will do.
//
// An append takes one round trip, and so does a batch, an append to several streams and one under a
// condition. With an inline func it takes three, and one more for each further append of a batch; a
// [ReadModel] adds one before the handler and one after it.
//
// Each batch under way takes a connection, Options.Writers at most, and so does
// each read. Besides, a store in which somebody waits keeps one connection outside of the
// pool to LISTEN on. NOTIFY is sent after commits, on another connection, for all that
// were made within 5 ms. It only shortens the wait: whoever waits also looks, every 5 to
// 250 ms. Where notifications do not arrive, as through a pooler, the store finds out and does
// without them; Options.NoListen lets it not try.
//
// # Limits
//
// An event has at most 1 MiB (Options.EventBytes), an append 65,536 events and
// 64 MiB, the names of streams, types and tags 1,024 bytes. Names and tags are valid
// UTF-8 without NUL, as is the database. A transaction in flight while more than 2^31
// positions are given out is no longer taken into account.
package pgstore
