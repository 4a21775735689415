// Package sqlitestore keeps events in a SQLite file: no server, no cgo. It is
// the store to begin with, and for one machine the one to stay with. [Open]
// returns the portable store; [Options] say how; a [DB] is the file itself, for
// reading with SQL.
//
//	store, err := sqlitestore.Open("events.db", nil)
//
// # The log is the truth
//
// SQLite is used as a log. An append writes only to the end of one table, so
// that its cost does not grow with the store; the indexes by stream, category and
// tag are derived from it. They are kept in memory for the newest events, the
// tail, and merged into tables in large sorted runs, a slice beside each later
// commit. A watermark in the file says how far the tables are complete. An index
// can be behind, never wrong, and Open rebuilds the tail from the log.
//
//	          ┌──────────────────────────────────────────────────────────┐
//	events    │ 1 2 3 …                                                  │► append
//	          └──────────────────────────────────────────────────────────┘
//	             stream_index, category_index,      watermark    the tail,
//	             tag_index, … : tables              ───────┘     in memory
//
// # Guarantees
//
// Positions are 1, 2, 3 …, without gaps but for what was removed, and in the
// order of commits: no reader sees a position while a lower one may appear. Times
// are the store's, in microseconds, and never decrease from one position to the
// next. With [Full], the default, an append that was acknowledged survives the
// loss of power; with [Normal] it survives the end of the process.
//
// If the disk is full appends fail with the error of SQLite, readers go on, and
// appends succeed when there is room again. If the commit itself fails in a way
// that leaves its outcome open, they fail with driver.ErrOutcomeUnknown, and the
// store reads what there is before it writes again.
//
// # Processes
//
// One process writes, which an operating system lock on FILE.lock makes sure of;
// any number may read beside it with [Options.ReadOnly]. They see what was
// committed and keep their own tail. The file and its companions must be on a
// local disk: network file systems have neither the locks nor the shared memory.
//
// # Looking inside
//
// Any SQLite tool can read the file, also while it is in use. The views are for
// people:
//
//	$ sqlite3 events.db 'SELECT position, stream, type, time, data FROM event_log LIMIT 10'
//	$ sqlite3 events.db 'SELECT * FROM stream_list'
//
// Data and metadata are text wherever they are valid UTF-8, so that the JSON
// functions of SQLite work on them. Writing with another tool is not provided
// for: it would not be noticed.
//
// # Limits
//
// An event has at most 1 MiB (Options.EventBytes), an append 65,536 events and
// 64 MiB, the name of a stream 1,024 bytes.
package sqlitestore
