package sqlitestore

import (
	"fmt"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// applicationID marks a SQLite file as one of ours: "lvda". The file utility
// and PRAGMA application_id show it.
const applicationID = 0x6c766461

// schemaVersion is what this version of the package writes, in PRAGMA
// user_version. A file of a lower one is migrated at Open, a file of a higher
// one is refused.
const schemaVersion = 2

// The log is the table events, and it is the truth. Its columns are in the
// order in which a filtered scan needs them, and what may be large comes last,
// so that a row that is passed over costs no overflow page.
//
// All other tables of the first group are derived from it and complete up to
// the position in watermark. A category's id is that of its first stream, so
// that the ids, too, can be derived.
const schemaLog = `
CREATE TABLE events(
	position     INTEGER PRIMARY KEY,
	stream_id    INTEGER NOT NULL,
	version      INTEGER NOT NULL,
	created      INTEGER NOT NULL, -- microseconds since 1970, UTC
	event_id     BLOB    NOT NULL,
	stream       TEXT    NOT NULL,
	type         TEXT    NOT NULL,
	content_type TEXT,             -- NULL is application/json
	correlation  BLOB,             -- NULL is none
	causation    BLOB,
	tags         TEXT,             -- a JSON array; NULL is none
	metadata     TEXT,             -- a JSON object; NULL is none
	data         ANY               -- TEXT if it is valid UTF-8 without NUL, else BLOB
) STRICT;

CREATE TABLE stream_names(name TEXT PRIMARY KEY, id INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE stream_index(stream_id INTEGER NOT NULL, version INTEGER NOT NULL, position INTEGER NOT NULL,
	PRIMARY KEY(stream_id, version)) STRICT, WITHOUT ROWID;
CREATE TABLE category_names(name TEXT PRIMARY KEY, id INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE category_index(category_id INTEGER NOT NULL, position INTEGER NOT NULL,
	PRIMARY KEY(category_id, position)) STRICT, WITHOUT ROWID;
CREATE TABLE watermark(one INTEGER PRIMARY KEY CHECK(one = 1),
	position  INTEGER NOT NULL,  -- the tables above hold all events up to here
	stream_id INTEGER NOT NULL,  -- the highest id in them
	removals  INTEGER NOT NULL   -- counts truncations, deletions and purges
) STRICT;
INSERT INTO watermark VALUES(1, 0, 0, 0);

CREATE TABLE stream_state(  -- of streams that were truncated, deleted or purged
	stream_id INTEGER PRIMARY KEY,
	name      TEXT    NOT NULL,
	first     INTEGER NOT NULL, -- the first version that can be read
	last      INTEGER NOT NULL, -- the last version when this was written
	deleted   INTEGER NOT NULL, -- the version at which it was deleted, 0 if it never was
	purged    INTEGER NOT NULL
) STRICT;

CREATE TABLE snapshots(stream TEXT PRIMARY KEY, version INTEGER NOT NULL, schema INTEGER NOT NULL, data BLOB) STRICT;
CREATE TABLE checkpoints(name TEXT PRIMARY KEY, position INTEGER NOT NULL, fence INTEGER NOT NULL, data BLOB) STRICT;
CREATE TABLE leases(name TEXT PRIMARY KEY, owner TEXT NOT NULL, fence INTEGER NOT NULL, expires INTEGER NOT NULL) STRICT;
`

// schemaTags, and modelSchema, came with version 2.
const schemaTags = `
CREATE TABLE tag_index(tag TEXT NOT NULL, position INTEGER NOT NULL, PRIMARY KEY(tag, position)) STRICT, WITHOUT ROWID;
`

// migrations[i] takes a file from version i+1 to i+2. Views are made anew after
// any of them.
var migrations = []string{
	// Tags were stored, but could not be searched for; there were no read models.
	schemaTags + modelSchema + `
INSERT OR IGNORE INTO tag_index
	SELECT t.value, e.position FROM events e, json_each(e.tags) t
	WHERE e.tags IS NOT NULL AND e.position <= (SELECT position FROM watermark)
	ORDER BY t.value, e.position;`,
}

// The views are for people with a shell. They read the log itself, so they are
// right whether or not the indexes have caught up.
var schemaViews = `
DROP VIEW IF EXISTS event_log;
CREATE VIEW event_log AS SELECT
	position, stream, version, type,
	strftime('%Y-%m-%dT%H:%M:%S', created / 1000000, 'unixepoch') || printf('.%06dZ', created % 1000000) AS time,
	` + uuidText("event_id") + ` AS id,
	CASE typeof(data) WHEN 'blob' THEN hex(data) ELSE data END AS data,
	metadata, tags,
	coalesce(content_type, 'application/json') AS content_type,
	` + uuidText("correlation") + ` AS correlation,
	` + uuidText("causation") + ` AS causation
FROM events;

DROP VIEW IF EXISTS stream_list;
CREATE VIEW stream_list AS SELECT
	stream,
	` + categoryOf("stream") + ` AS category,
	count(*) AS events, min(version) AS first, max(version) AS version,
	strftime('%Y-%m-%dT%H:%M:%S', max(created) / 1000000, 'unixepoch') || printf('.%06dZ', max(created) % 1000000) AS updated,
	'' AS state
FROM events GROUP BY stream
UNION ALL SELECT
	name, ` + categoryOf("name") + `, 0, first, last, NULL,
	CASE WHEN purged THEN 'purged' WHEN deleted THEN 'deleted' ELSE 'truncated' END
FROM stream_state s WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.stream_id = s.stream_id);

DROP VIEW IF EXISTS category_list;
CREATE VIEW category_list AS SELECT
	category, count(*) AS streams, sum(events) AS events FROM stream_list GROUP BY category;

DROP VIEW IF EXISTS lease_list;
CREATE VIEW lease_list AS SELECT
	name, owner, fence,
	strftime('%Y-%m-%dT%H:%M:%S', expires / 1000000, 'unixepoch') || printf('.%06dZ', expires % 1000000) AS expires
FROM leases WHERE expires > 0;

DROP VIEW IF EXISTS store_info;
CREATE VIEW store_info AS SELECT
	(SELECT user_version FROM pragma_user_version) AS schema_version,
	(SELECT coalesce(max(position), 0) FROM events) AS head,
	(SELECT position FROM watermark) AS indexed,
	(SELECT removals FROM watermark) AS removals;
`

func uuidText(col string) string {
	part := func(from, n int) string { return fmt.Sprintf("substr(lower(hex(%s)), %d, %d)", col, from, n) }
	return "CASE WHEN " + col + " IS NOT NULL THEN " +
		part(1, 8) + "||'-'||" + part(9, 4) + "||'-'||" + part(13, 4) + "||'-'||" + part(17, 4) + "||'-'||" + part(21, 12) + " END"
}

func categoryOf(col string) string {
	return "CASE instr(" + col + ", '-') WHEN 0 THEN " + col + " ELSE substr(" + col + ", 1, instr(" + col + ", '-') - 1) END"
}

// prepareSchema makes an empty file a store, or brings an older one up to date,
// in one transaction. It returns ErrNotStore or ErrNewerSchema for a file that
// it must not touch.
func prepareSchema(c *sqlite.Conn) error {
	version, empty, err := checkSchema(c)
	if err != nil || version == schemaVersion {
		return err
	}
	script := schemaLog + schemaTags + modelSchema
	if !empty {
		script = ""
		for _, m := range migrations[version-1:] {
			script += m
		}
	}
	script += schemaViews + fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d;", applicationID, schemaVersion)
	end, err := sqlitex.ImmediateTransaction(c)
	if err != nil {
		return err
	}
	defer end(&err)
	// ExecuteScript opens a savepoint of its own, which nests in the transaction.
	if err = sqlitex.ExecuteScript(c, script, nil); err != nil {
		return fmt.Errorf("schema %d to %d: %w", version, schemaVersion, err)
	}
	return nil
}

// checkSchema tells the version of the schema, and whether there is nothing in
// the file yet.
func checkSchema(c *sqlite.Conn) (version int, empty bool, err error) {
	app, err := queryInt(c, "PRAGMA application_id")
	if err != nil {
		return 0, false, err
	}
	if app == 0 {
		n, err := queryInt(c, "SELECT count(*) FROM sqlite_schema")
		if err != nil {
			return 0, false, err
		}
		user, err := queryInt(c, "PRAGMA user_version")
		if err != nil {
			return 0, false, err
		}
		if n > 0 || user != 0 {
			return 0, false, fmt.Errorf("%w: it is another application's database", ErrNotStore)
		}
		return 0, true, nil
	}
	if app != applicationID {
		return 0, false, fmt.Errorf("%w: its application id is %#x, not %#x", ErrNotStore, uint32(app), applicationID)
	}
	user, err := queryInt(c, "PRAGMA user_version")
	if err != nil {
		return 0, false, err
	}
	switch {
	case user > schemaVersion:
		return 0, false, fmt.Errorf("%w: %d, while this program knows %d", ErrNewerSchema, user, schemaVersion)
	case user < 1:
		return 0, false, fmt.Errorf("%w: its schema version is %d", ErrNotStore, user)
	}
	return int(user), false, nil
}

func queryInt(c *sqlite.Conn, query string) (int64, error) {
	st, _, err := c.PrepareTransient(query)
	if err != nil {
		return 0, err
	}
	defer st.Finalize()
	row, err := st.Step()
	if err != nil {
		return 0, err
	}
	if !row {
		return 0, fmt.Errorf("%s: no row", query)
	}
	return st.ColumnInt64(0), nil
}
