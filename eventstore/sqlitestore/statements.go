package sqlitestore

import "strings"

// A statement is prepared once a connection, when it is first needed.
type statement int

const (
	stBegin statement = iota
	stBeginWrite
	stCommit
	stRollback
	stSavepoint
	stRelease
	stRollbackTo

	stInsertEvent
	stMergeStream
	stMergeStreams
	stMergeName
	stMergeCategory
	stMergeCategories
	stMergeCategoryName
	stMergeTag
	stSetMark

	stMark
	stLast
	stLastTime
	stUnmerged
	stStreamID
	stState
	stVersion
	stCategoryID

	stScan
	stScanBack
	stFetch
	stStreamUp
	stStreamDown
	stStreamAt
	stCategoryUp
	stCategoryDown
	stTagUp
	stTagHas
	stTimeAt

	stNames
	stCategoryNames

	stRemoveTags
	stRemoveCategory
	stRemoveEvents
	stRemoveStream
	stSetState
	stRemoved

	stLoadSnapshot
	stSaveSnapshot
	stDeleteSnapshot
	stLoadCheckpoint
	stSaveCheckpoint
	stDeleteCheckpoint
	stCheckpoints
	stLoadLease
	stSaveLease
	stReleaseLease
	stLeases

	stDataVersion
	stAny

	numStatements
)

// eventColumns are read by conn.recorded, in this order.
const eventColumns = "e.position, e.version, e.created, e.event_id, e.stream, e.type, e.content_type, e.correlation, e.causation, e.tags, e.metadata, e.data"

// fetchRows is how many positions one run of stFetch looks up, in the order in
// which they are bound; running a statement costs more than a row does.
const fetchRows = 64

// mergeRows is how many rows stMergeStreams and stMergeCategories write.
const mergeRows = 32

var statements = [numStatements]string{
	stBegin:      "BEGIN",
	stBeginWrite: "BEGIN IMMEDIATE",
	stCommit:     "COMMIT",
	stRollback:   "ROLLBACK",
	stSavepoint:  "SAVEPOINT levada_append",
	stRelease:    "RELEASE levada_append",
	stRollbackTo: "ROLLBACK TO levada_append",

	stInsertEvent: "INSERT INTO events(position, stream_id, version, created, event_id, stream, type, content_type, correlation, causation, tags, metadata, data) " +
		"VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",

	// What was merged before a crash, but not yet covered by the watermark, is
	// merged again: hence OR REPLACE.
	stMergeStream:       "INSERT OR REPLACE INTO stream_index(stream_id, version, position) VALUES(?1, ?2, ?3)",
	stMergeStreams:      "INSERT OR REPLACE INTO stream_index(stream_id, version, position) VALUES" + strings.Repeat("(?,?,?),", mergeRows-1) + "(?,?,?)",
	stMergeCategories:   "INSERT OR REPLACE INTO category_index(category_id, position) VALUES" + strings.Repeat("(?,?),", mergeRows-1) + "(?,?)",
	stMergeName:         "INSERT OR REPLACE INTO stream_names(name, id) VALUES(?1, ?2)",
	stMergeCategory:     "INSERT OR REPLACE INTO category_index(category_id, position) VALUES(?1, ?2)",
	stMergeCategoryName: "INSERT OR REPLACE INTO category_names(name, id) VALUES(?1, ?2)",
	stMergeTag:          "INSERT OR REPLACE INTO tag_index(tag, position) VALUES(?1, ?2)",
	stSetMark:           "UPDATE watermark SET position = ?1, stream_id = max(stream_id, ?2)",

	stMark:       "SELECT position, stream_id FROM watermark",
	stLast:       "SELECT coalesce(max(position), 0) FROM events",
	stLastTime:   "SELECT created FROM events ORDER BY position DESC LIMIT 1",
	stUnmerged:   "SELECT position, stream_id, version, stream, tags FROM events WHERE position > ?1 AND position <= ?2 ORDER BY position",
	stStreamID:   "SELECT id FROM stream_names WHERE name = ?1",
	stState:      "SELECT first, last, deleted, purged FROM stream_state WHERE stream_id = ?1",
	stVersion:    "SELECT coalesce(max(version), 0) FROM stream_index WHERE stream_id = ?1",
	stCategoryID: "SELECT id FROM category_names WHERE name = ?1",

	stScan:     "SELECT " + eventColumns + " FROM events e WHERE e.position > ?1 AND e.position <= ?2 ORDER BY e.position",
	stScanBack: "SELECT " + eventColumns + " FROM events e WHERE e.position > ?1 AND e.position <= ?2 ORDER BY e.position DESC",
	stFetch:    "SELECT " + eventColumns + " FROM (VALUES" + strings.Repeat("(?),", fetchRows-1) + "(?)) p CROSS JOIN events e ON e.position = p.column1",

	// Each gives positions in (?2, ?3], at most ?4 of them.
	stStreamUp:     "SELECT position FROM stream_index WHERE stream_id = ?1 AND version > ?2 AND version <= ?3 ORDER BY version LIMIT ?4",
	stStreamDown:   "SELECT position FROM stream_index WHERE stream_id = ?1 AND version > ?2 AND version <= ?3 ORDER BY version DESC LIMIT ?4",
	stCategoryUp:   "SELECT position FROM category_index WHERE category_id = ?1 AND position > ?2 AND position <= ?3 ORDER BY position LIMIT ?4",
	stCategoryDown: "SELECT position FROM category_index WHERE category_id = ?1 AND position > ?2 AND position <= ?3 ORDER BY position DESC LIMIT ?4",
	stTagUp:        "SELECT position FROM tag_index WHERE tag = ?1 AND position > ?2 AND position <= ?3 ORDER BY position LIMIT ?4",

	stStreamAt: "SELECT position FROM stream_index WHERE stream_id = ?1 AND version = ?2",
	stTagHas:   "SELECT 1 FROM tag_index WHERE tag = ?1 AND position = ?2",
	stTimeAt:   "SELECT position, created FROM events WHERE position >= ?1 ORDER BY position LIMIT 1",

	stNames:         "SELECT name, id FROM stream_names WHERE name > ?1 AND name >= ?2 ORDER BY name LIMIT ?3",
	stCategoryNames: "SELECT name FROM category_names ORDER BY name",

	// ?1 is the stream, ?2 the first version that stays, ?3 the category.
	stRemoveTags: "DELETE FROM tag_index WHERE (tag, position) IN (SELECT t.value, e.position FROM stream_index i " +
		"CROSS JOIN events e ON e.position = i.position CROSS JOIN json_each(e.tags) t WHERE i.stream_id = ?1 AND i.version < ?2)",
	stRemoveCategory: "DELETE FROM category_index WHERE category_id = ?3 AND position IN (SELECT position FROM stream_index WHERE stream_id = ?1 AND version < ?2)",
	stRemoveEvents:   "DELETE FROM events WHERE position IN (SELECT position FROM stream_index WHERE stream_id = ?1 AND version < ?2)",
	stRemoveStream:   "DELETE FROM stream_index WHERE stream_id = ?1 AND version < ?2",
	stSetState:       "INSERT OR REPLACE INTO stream_state(stream_id, name, first, last, deleted, purged) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
	stRemoved:        "UPDATE watermark SET removals = removals + 1",

	stLoadSnapshot:     "SELECT version, schema, data FROM snapshots WHERE stream = ?1",
	stSaveSnapshot:     "INSERT OR REPLACE INTO snapshots(stream, version, schema, data) VALUES(?1, ?2, ?3, ?4)",
	stDeleteSnapshot:   "DELETE FROM snapshots WHERE stream = ?1",
	stLoadCheckpoint:   "SELECT position, fence, data FROM checkpoints WHERE name = ?1",
	stSaveCheckpoint:   "INSERT OR REPLACE INTO checkpoints(name, position, fence, data) VALUES(?1, ?2, ?3, ?4)",
	stDeleteCheckpoint: "DELETE FROM checkpoints WHERE name = ?1",
	stCheckpoints:      "SELECT name, position, fence, data FROM checkpoints WHERE name >= ?1 ORDER BY name",
	stLoadLease:        "SELECT owner, fence, expires FROM leases WHERE name = ?1",
	stSaveLease:        "INSERT OR REPLACE INTO leases(name, owner, fence, expires) VALUES(?1, ?2, ?3, ?4)",
	stReleaseLease:     "UPDATE leases SET expires = 0 WHERE name = ?1 AND owner = ?2 AND fence = ?3",
	stLeases:           "SELECT name, owner, fence, expires FROM leases WHERE name >= ?1 AND expires > ?2 ORDER BY name",

	stDataVersion: "PRAGMA data_version",
	stAny:         "SELECT 1 FROM sqlite_schema LIMIT 1",
}
