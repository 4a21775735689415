package pgstore

import "strings"

// statements are the SQL of a store, for its schema.
type statements struct {
	head, append, appendAtomic, appendIf, lock              string
	stream, forward, backward                               string
	streams, categoryStreams, streamsAfterBytes, categories string
	truncate, delete, purge, positionAt                     string

	saveSnapshot, loadSnapshot, deleteSnapshot    string
	insertCheckpoint, updateCheckpoint            string
	loadCheckpoint, deleteCheckpoint, checkpoints string
	acquire, release, leases                      string
	expand                                        func(string) string
}

// columns are those that readRecorded decodes, of events e.
const columns = `e.position, e.time, e.version, e.id, e.type, e.content_type, e.stream, e.correlation, e.causation, e.metadata, e.tags, e.data`

const numColumns = 12

// placeholders returns n of them, from one on.
func placeholders(from, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(placeholder(from + i))
	}
	return b.String()
}

func statementsFor(n *names) statements {
	infos := `SELECT s.name, s.version, s.first, s.origin FROM @schema@.streams s WHERE s.version > 0 AND NOT s.purged `
	page := func(where, order string) string {
		return n.expand(`SELECT s.purged, ` + columns + ` FROM @schema@.streams s LEFT JOIN LATERAL (
			SELECT * FROM @schema@.events e WHERE e.stream_id = s.id AND ` + where + ` ORDER BY e.version ` + order + ` LIMIT $3) AS e ON true
			WHERE s.name = $1 ORDER BY e.version ` + order)
	}
	return statements{
		head:         n.expand(`SELECT horizon, last FROM @schema@.head($1)`),
		append:       n.expand(`SELECT before, actual, first, recorded FROM @schema@.append(` + placeholders(1, batchParameters) + `)`),
		appendAtomic: n.expand(`SELECT before, actual, first, recorded, failed FROM @schema@.append_atomic(` + placeholders(1, batchParameters) + `)`),
		appendIf:     n.expand(`SELECT before, actual, first, recorded, conflict FROM @schema@.append_if(` + placeholders(1, 4+batchParameters) + `)`),

		lock: n.expand(`SELECT @schema@.lock($1, $2, $3)::text`),

		stream:   n.expand(`SELECT s.name, s.version, s.first, s.origin, s.purged FROM @schema@.streams s WHERE s.name = $1`),
		forward:  page(`e.version > $2`, `ASC`),
		backward: page(`e.version < $2`, `DESC`),

		streams:         n.expand(infos + `AND s.name > $1 AND NOT starts_with(s.name, '$') ORDER BY s.name LIMIT $2`),
		categoryStreams: n.expand(infos + `AND s.name > $1 AND s.category = $3 ORDER BY s.name LIMIT $2`),
		// After what is no text, without an index.
		streamsAfterBytes: n.expand(infos + `AND convert_to(s.name, 'UTF8') > $1 AND CASE WHEN $3 = '' THEN NOT starts_with(s.name, '$') ELSE s.category = $3 END
			ORDER BY s.name LIMIT $2`),
		// One look into the index for each category.
		categories: n.expand(`WITH RECURSIVE c(category) AS (
				(SELECT s.category FROM @schema@.streams s WHERE s.version > 0 AND NOT s.purged ORDER BY s.category LIMIT 1)
				UNION ALL
				SELECT (SELECT s.category FROM @schema@.streams s WHERE s.category > c.category AND s.version > 0 AND NOT s.purged ORDER BY s.category LIMIT 1)
				FROM c WHERE c.category IS NOT NULL)
			SELECT category FROM c WHERE category IS NOT NULL AND NOT starts_with(category, '$')`),

		truncate:   n.expand(`SELECT @schema@.truncate($1, $2)`),
		delete:     n.expand(`SELECT @schema@.delete($1, $2)`),
		purge:      n.expand(`SELECT @schema@.purge($1)::text`),
		positionAt: n.expand(`SELECT @schema@.position_at($1)`),

		saveSnapshot:   n.expand(`SELECT @schema@.save_snapshot($1, $2, $3, $4)::text`),
		loadSnapshot:   n.expand(`SELECT version, schema, data FROM @schema@.snapshots WHERE stream = $1`),
		deleteSnapshot: n.expand(`DELETE FROM @schema@.snapshots WHERE stream = $1`),

		insertCheckpoint: n.expand(`INSERT INTO @schema@.checkpoints (name, position, fence, data) VALUES ($1, $2, $3, $4)
			ON CONFLICT (name) DO NOTHING RETURNING 1::bigint`),
		updateCheckpoint: n.expand(`UPDATE @schema@.checkpoints SET position = $2, fence = $3, data = $4
			WHERE name = $1 AND position = $5 AND fence = $6 AND fence <= $3 RETURNING 1::bigint`),
		loadCheckpoint:   n.expand(`SELECT name, position, fence, data FROM @schema@.checkpoints WHERE name = $1`),
		deleteCheckpoint: n.expand(`DELETE FROM @schema@.checkpoints WHERE name = $1`),
		checkpoints:      n.expand(`SELECT name, position, fence, data FROM @schema@.checkpoints WHERE starts_with(name, $1)`),

		// The holder's own renewal keeps its fence, also after it has expired unnoticed.
		acquire: n.expand(`INSERT INTO @schema@.leases AS l (name, owner, fence, expires)
			VALUES ($1, $2, 1, clock_timestamp() + $3 * interval '1 microsecond')
			ON CONFLICT (name) DO UPDATE SET owner = excluded.owner,
				fence = CASE WHEN l.owner = excluded.owner THEN l.fence ELSE l.fence + 1 END,
				expires = clock_timestamp() + $3 * interval '1 microsecond'
			WHERE l.owner = excluded.owner OR l.owner IS NULL OR l.expires <= clock_timestamp()
			RETURNING fence`),
		release: n.expand(`UPDATE @schema@.leases SET owner = NULL WHERE name = $1 AND owner = $2 AND fence = $3`),
		leases: n.expand(`SELECT name, owner, fence, expires FROM @schema@.leases
			WHERE owner IS NOT NULL AND expires > clock_timestamp() AND starts_with(name, $1) ORDER BY name`),
		expand: n.expand,
	}
}
