package pgstore

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/internal/attributes"
)

// window is how many positions one call looks at whose filter PostgreSQL must apply
// event by event.
const window = 50_000

func placeholder(i int) string { return "$" + strconv.Itoa(i) }

// readRecorded decodes a row of columns.
func readRecorded(row [][]byte) (r driver.Recorded, err error) {
	if len(row) != numColumns || len(row[3]) != 16 {
		return r, errWire
	}
	r.Position = uint64(readInt(row[0]))
	r.Time = readTime(row[1])
	r.Version = uint64(readInt(row[2]))
	copy(r.ID[:], row[3])
	// One string holds all names.
	text := string(row[4]) + string(row[5]) + string(row[6])
	t, c := len(row[4]), len(row[4])+len(row[5])
	r.Type, r.ContentType, r.Stream = text[:t], text[t:c], text[c:]
	copy(r.Correlation[:], row[7])
	copy(r.Causation[:], row[8])
	if row[9] != nil {
		if r.Metadata, err = attributes.Metadata(string(row[9])); err != nil {
			return r, fmt.Errorf("pgstore: position %d: %w", r.Position, err)
		}
	}
	if row[10] != nil {
		if r.Tags, err = attributes.Tags(string(row[10])); err != nil {
			return r, fmt.Errorf("pgstore: position %d: %w", r.Position, err)
		}
	}
	if len(row[11]) > 0 {
		r.Data = append([]byte(nil), row[11]...)
	}
	return r, nil
}

// storable reports whether PostgreSQL can have text such as v: if not, it has none.
func storable(v string) bool { return len(v) <= maxNameBytes && checkText(v) == nil }

// ReadStream implements [driver.Store].
func (s *store) ReadStream(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.exit()
	if !storable(stream) || limit <= 0 {
		return nil, nil
	}
	sql := s.sql.forward
	if dir == driver.Backward {
		sql = s.sql.backward
		if from == 0 {
			from = math.MaxInt64
		}
	}
	var list []driver.Recorded
	err := s.run(ctx, newStatement(sql).text(stream).position(from).int(int64(limit)), func(row [][]byte) error {
		switch {
		case readBool(row[0]):
			return driver.ErrStreamDeleted
		case row[1] == nil:
			return nil // the stream has none
		}
		r, err := readRecorded(row[1:])
		list = append(list, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// Stream implements [driver.Store].
func (s *store) Stream(ctx context.Context, stream string) (driver.StreamInfo, error) {
	info := driver.StreamInfo{Name: stream}
	if err := s.enter(ctx); err != nil {
		return info, err
	}
	defer s.exit()
	if !storable(stream) {
		return info, nil
	}
	err := s.run(ctx, newStatement(s.sql.stream).text(stream), func(row [][]byte) error {
		if readBool(row[4]) {
			return driver.ErrStreamDeleted
		}
		if readInt(row[1]) > 0 {
			info = readInfo(row)
		}
		return nil
	})
	return info, err
}

// readInfo decodes name, version, first and origin of a stream.
func readInfo(row [][]byte) driver.StreamInfo {
	info := driver.StreamInfo{
		Name: string(row[0]), Version: uint64(readInt(row[1])), First: uint64(readInt(row[2])), Origin: uint64(readInt(row[3])),
	}
	info.Deleted = info.Origin == info.Version
	return info
}

// ReadAll implements [driver.Store].
func (s *store) ReadAll(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, uint64, error) {
	if err := s.enter(ctx); err != nil {
		return nil, 0, err
	}
	defer s.exit()
	if dir == driver.Backward {
		return s.readBackward(ctx, &f, from, limit)
	}
	return s.readForward(ctx, from, limit, func(p *page) { p.filter(&f) })
}

// readForward reads the page of what selects lets it select.
//
// What lies at or below a head that was ever seen stays as it is, but for what is
// removed. So as long as a reader is far behind, a page needs no question for the
// head, which looks at all locks of the server.
func (s *store) readForward(ctx context.Context, from uint64, limit int, selects func(p *page)) ([]driver.Recorded, uint64, error) {
	if limit <= 0 {
		return nil, from, nil
	}
	if known := s.watch.known(); known > from && known-from >= uint64(limit) {
		list, scanned, err := s.readKnown(ctx, from, known, limit, selects)
		if err != nil || scanned < known || len(list) >= limit {
			return list, scanned, err
		}
		more, scanned, err := s.readToHead(ctx, known, limit-len(list), selects)
		return append(list, more...), scanned, err
	}
	return s.readToHead(ctx, from, limit, selects)
}

// readKnown reads a page that ends at known at the latest, which is or was the head.
func (s *store) readKnown(ctx context.Context, from, known uint64, limit int, selects func(p *page)) ([]driver.Recorded, uint64, error) {
	p := newPage(s, driver.Forward, from, limit)
	p.end = known
	selects(p)
	var list []driver.Recorded
	err := s.run(ctx, p.statement(), func(row [][]byte) error {
		r, err := readRecorded(row)
		list = append(list, r)
		return err
	})
	switch {
	case err != nil:
		return nil, from, err
	case len(list) >= limit:
		return list, list[len(list)-1].Position, nil
	}
	return list, p.end, nil
}

// readToHead reads a page that ends at the head at the latest.
func (s *store) readToHead(ctx context.Context, from uint64, limit int, selects func(p *page)) ([]driver.Recorded, uint64, error) {
	p := newPage(s, driver.Forward, from, limit)
	selects(p)
	var head uint64
	var list []driver.Recorded
	// The page sees all of what is at or below the head, which is asked for before.
	err := s.together(ctx, []*statement{s.askHead(), p.statement()}, func(i int, row [][]byte) error {
		switch {
		case i == 0:
			head = s.watch.readHead(row)
			return nil
		case uint64(readInt(row[0])) > head:
			return nil
		}
		r, err := readRecorded(row)
		list = append(list, r)
		return err
	})
	if err != nil {
		return nil, from, err
	}
	scanned := min(head, p.end)
	if len(list) >= limit {
		scanned = list[len(list)-1].Position
	}
	return list, max(from, scanned), nil
}

func (s *store) readBackward(ctx context.Context, f *driver.Filter, from uint64, limit int) ([]driver.Recorded, uint64, error) {
	head, err := s.head(ctx)
	if err != nil {
		return nil, from, err
	}
	if from == 0 || from > head {
		from = head + 1
	}
	p := newPage(s, driver.Backward, from, limit)
	p.filter(f)
	var list []driver.Recorded
	err = s.run(ctx, p.statement(), func(row [][]byte) error {
		r, err := readRecorded(row)
		list = append(list, r)
		return err
	})
	switch {
	case err != nil:
		return nil, from, err
	case len(list) >= limit:
		return list, list[len(list)-1].Position, nil
	}
	return list, p.end, nil
}

// A page is a query for events of the log in the making: at most limit of them
// from a position on.
//
// Where a filter names streams, categories, types or tags there is an index for each
// of them in the order of positions. What comes of each is merged; the rest of
// the filter is applied to it.
type page struct {
	s         *store
	dir       driver.Direction
	from, end uint64 // exclusive, and inclusive: what is examined
	limit     int
	st        *statement
	sql       strings.Builder
}

func newPage(s *store, dir driver.Direction, from uint64, limit int) *page {
	p := &page{s: s, dir: dir, from: from, limit: limit, st: newStatement("")}
	if dir == driver.Forward {
		p.end = math.MaxInt64
	}
	p.st.position(from).int(int64(limit)) // $1 and $2
	return p
}

// statement returns the finished query.
func (p *page) statement() *statement {
	p.st.sql = p.s.sql.expand(p.sql.String())
	return p.st
}

// narrow lets the page end where it has examined a window of positions.
func (p *page) narrow() {
	if p.dir == driver.Forward {
		if p.from < math.MaxInt64-window {
			p.end = min(p.end, p.from+window)
		}
	} else if p.from > window {
		p.end = p.from - window
	}
}

// next is the number of the next parameter.
func (p *page) next() string { return placeholder(len(p.st.values) + 1) }

func (p *page) texts(list []string) string {
	n := p.next()
	var can []string
	for _, v := range list {
		if storable(v) && !contains(can, v) {
			can = append(can, v)
		}
	}
	p.st.texts(can)
	return n
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// within is the condition that column lies in the page.
func (p *page) within(column string) string {
	n := p.next()
	p.st.position(p.end)
	if p.dir == driver.Forward {
		return column + " > $1 AND " + column + " <= " + n
	}
	return column + " < $1 AND " + column + " >= " + n
}

// order is the ORDER BY and LIMIT of the page.
func (p *page) order(columns ...string) string {
	by := " DESC"
	if p.dir == driver.Forward {
		by = ""
	}
	return " ORDER BY " + strings.Join(columns, by+", ") + by + " LIMIT $2"
}

// filter lets the page select what f does.
func (p *page) filter(f *driver.Filter) {
	driven := 0
	for _, list := range [][]string{f.Streams, f.Categories, f.Types} {
		if len(list) > 0 {
			driven++
		}
	}
	system := !f.System && len(f.Streams) == 0 && len(f.Categories) == 0
	if driven > 1 || system {
		p.narrow()
	}
	within := p.within("e.position")
	where := ""
	if system {
		where += " AND NOT starts_with(e.stream, '$')"
	}
	category := func() string { return " AND e.category = ANY (" + p.texts(f.Categories) + ")" }
	typ := func() string { return " AND e.type = ANY (" + p.texts(f.Types) + ")" }
	const events = "SELECT e.* FROM @schema@.events e WHERE "
	var by, from string
	switch {
	case len(f.Streams) > 0:
		// In a stream the order of versions is that of positions.
		by = "unnest(" + p.texts(f.Streams) + ") AS k (name) JOIN @schema@.streams s ON s.name = k.name"
		if len(f.Categories) > 0 {
			where += category()
		}
		if len(f.Types) > 0 {
			where += typ()
		}
		if p.dir == driver.Forward {
			from = "e.stream_id = s.id AND e.version > @schema@.version_at(s.id, $1) AND " + within + where + p.order("e.version")
		} else {
			from = "e.stream_id = s.id AND e.version <= @schema@.version_at(s.id, $1 - 1) AND " + within + where + p.order("e.version")
		}
	case len(f.Categories) > 0:
		by = "unnest(" + p.texts(f.Categories) + ") AS k (category)"
		if len(f.Types) > 0 {
			where += typ()
		}
		from = "e.category = k.category AND " + within + where + p.order("e.category", "e.position")
	case len(f.Types) > 0:
		by = "unnest(" + p.texts(f.Types) + ") AS k (type)"
		from = "e.type = k.type AND " + within + where + p.order("e.type", "e.position")
	default:
		p.sql.WriteString("SELECT " + columns + " FROM @schema@.events e WHERE " + within + where + p.order("e.position"))
		return
	}
	p.sql.WriteString("SELECT " + columns + " FROM " + by + " CROSS JOIN LATERAL (" + events + from + ") AS e" + p.order("e.position"))
}

// query lets the page select what any of items does.
func (p *page) query(items []driver.QueryItem) {
	var parts []string
	for i := range items {
		q := &items[i]
		switch {
		case len(q.Tags) > 0:
			parts = append(parts, p.tagged(q))
		case len(q.Types) > 0:
			parts = append(parts, "SELECT t.position FROM unnest("+p.texts(q.Types)+") AS k (type) CROSS JOIN LATERAL (SELECT e.type, e.position FROM @schema@.events e WHERE e.type = k.type AND "+
				p.within("e.position")+p.order("e.type", "e.position")+") AS t"+p.order("t.position"))
		default:
			parts = append(parts, "SELECT e.position FROM @schema@.events e WHERE "+p.within("e.position")+p.order("e.position"))
		}
	}
	p.sql.WriteString("SELECT " + columns + " FROM (SELECT position FROM ((" + strings.Join(parts, ") UNION (") + ")) AS u" +
		p.order("position") + ") AS u JOIN @schema@.events e ON e.position = u.position" + p.order("e.position"))
}

// tagged is the query for the positions of an item with tags.
func (p *page) tagged(q *driver.QueryItem) string {
	id := func(tag string) string {
		n := p.next()
		p.st.text(tag)
		return "(SELECT g.id FROM @schema@.tags g WHERE g.name = " + n + ")"
	}
	for _, tag := range q.Tags {
		if !storable(tag) {
			return "SELECT 0::bigint AS position WHERE false"
		}
	}
	sql := "SELECT t.position FROM @schema@.event_tags t WHERE t.tag_id = " + id(q.Tags[0]) + " AND " + p.within("t.position")
	for _, tag := range q.Tags[1:] {
		sql += " AND EXISTS (SELECT FROM @schema@.event_tags x WHERE x.tag_id = " + id(tag) + " AND x.position = t.position)"
	}
	if len(q.Types) > 0 {
		sql += " AND (SELECT e.type FROM @schema@.events e WHERE e.position = t.position) = ANY (" + p.texts(q.Types) + ")"
	}
	return sql + p.order("t.tag_id", "t.position")
}

// Query implements [driver.Conditional].
func (s *store) Query(ctx context.Context, items []driver.QueryItem, after uint64, limit int) ([]driver.Recorded, uint64, error) {
	if err := s.enter(ctx); err != nil {
		return nil, 0, err
	}
	defer s.exit()
	return s.readForward(ctx, after, limit, func(p *page) {
		if len(items) == 0 {
			p.filter(&driver.Filter{})
		} else {
			p.query(items)
		}
	})
}

// PositionAt implements [driver.Dater].
func (s *store) PositionAt(ctx context.Context, t time.Time) (position uint64, err error) {
	if err := s.enter(ctx); err != nil {
		return 0, err
	}
	defer s.exit()
	err = s.run(ctx, newStatement(s.sql.positionAt).time(ceil(t)), func(row [][]byte) error {
		position = uint64(readInt(row[0]))
		return nil
	})
	return position, err
}

// ceil returns the first microsecond that is not before t.
func ceil(t time.Time) time.Time {
	if c := t.Truncate(time.Microsecond); c.Before(t) {
		return c.Add(time.Microsecond)
	}
	return t
}
