package sqlitestore

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/internal/attributes"
	"zombiezen.com/go/sqlite"
)

// How much a call of ReadAll or Query examines before it returns what it has.
const (
	maxScanned   = 16384   // rows of the log, or positions of an index
	maxPageBytes = 8 << 20 // of events
)

// read runs fn in a read transaction of a pooled connection, with the view that
// belongs to it. No transaction outlives the call.
func (s *store) read(ctx context.Context, fn func(c *conn, v *view) error) error {
	if err := s.gate.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	if err := ctx.Err(); err != nil {
		return err
	}
	c, err := s.pool.get(ctx)
	if err != nil {
		return err
	}
	broken := false
	defer func() {
		if broken {
			s.pool.drop(c)
		} else {
			s.pool.put(c)
		}
	}()
	if !s.opt.ReadOnly {
		// The view comes before the transaction, so that the tables hold at
		// least what the view says. What is removed in between is no longer
		// found, as if the view had been made later.
		s.reading.RLock()
		defer s.reading.RUnlock()
		s.mu.RLock()
		v := s.view
		s.mu.RUnlock()
		if s.opt.viewed != nil {
			s.opt.viewed()
		}
		if err := c.exec(stBegin); err != nil {
			broken = true
			return err
		}
		err = fn(c, &v)
		broken = c.exec(stCommit) != nil
		return err
	}
	for {
		if err := c.exec(stBegin); err != nil {
			broken = true
			return err
		}
		v, again, err := s.catchUpView(c)
		if err == nil && !again {
			err = fn(c, &v)
		}
		broken = c.exec(stCommit) != nil
		if err != nil || !again || broken {
			return err
		}
	}
}

func (s *store) ReadStream(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) (events []driver.Recorded, err error) {
	err = s.read(ctx, func(c *conn, v *view) error {
		h, err := s.lookupHead(c, v, stream)
		if err != nil {
			return err
		}
		if h.purged {
			return driver.ErrStreamDeleted
		}
		lo, hi := from, h.version // versions in (lo, hi]
		if dir == driver.Backward {
			if lo = 0; from > 0 {
				hi = min(hi, from-1)
			}
		}
		positions, err := s.streamPositions(c, v, h.id, lo, hi, dir, limit)
		if err != nil {
			return err
		}
		p := newPage(len(positions))
		for chunk := range slices.Chunk(positions, fetchRows) {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := c.fetch(chunk, func(st *sqlite.Stmt) (bool, error) { return true, c.recorded(st, p, nil) }); err != nil {
				return err
			}
		}
		if len(p.events) < len(positions) {
			return errRemoved
		}
		events = p.events
		return nil
	})
	if err == errRemoved {
		return s.ReadStream(ctx, stream, from, dir, limit)
	}
	return events, err
}

// errRemoved says that events were removed between the view and the transaction.
// There may be others in their place, up to the limit.
var errRemoved = errors.New("sqlitestore: events were removed meanwhile")

// streamPositions returns the positions of at most limit events of a stream
// with versions in (lo, hi], in the order of dir.
func (s *store) streamPositions(c *conn, v *view, id int64, lo, hi uint64, dir driver.Direction, limit int) ([]uint64, error) {
	if id == 0 || lo >= hi || limit <= 0 {
		return nil, nil
	}
	first, tail := s.tailStream(v, id)
	top := hi // of the versions in the table
	if len(tail) > 0 {
		top = min(hi, first-1)
		from, to := max(lo+1, first), min(hi+1, first+uint64(len(tail)))
		if from < to {
			tail = tail[from-first : to-first]
		} else {
			tail = nil
		}
	}
	return c.tableAndTail(stStreamUp, stStreamDown, id, lo, top, tail, dir, limit)
}

// tableAndTail returns at most limit positions in the order of dir, from a
// table, where the keys are in (lo, hi], and from the tail, which comes after.
func (c *conn) tableAndTail(up, down statement, id int64, lo, hi uint64, tail []uint64, dir driver.Direction, limit int) (pos []uint64, err error) {
	if dir == driver.Forward {
		if lo < hi {
			if pos, err = c.positions(nil, up, id, lo, hi, limit); err != nil {
				return nil, err
			}
		}
		return join(pos, tail[:min(len(tail), limit-len(pos))]), nil
	}
	pos = slices.Clone(tail[len(tail)-min(len(tail), limit):])
	slices.Reverse(pos)
	if lo < hi && len(pos) < limit {
		pos, err = c.positions(pos, down, id, lo, hi, limit-len(pos))
	}
	return pos, err
}

// positions appends the positions that a statement of four parameters gives.
func (c *conn) positions(pos []uint64, s statement, id int64, lo, hi uint64, limit int) ([]uint64, error) {
	st, err := c.stmt(s)
	if err != nil {
		return nil, err
	}
	st.BindInt64(1, id)
	return collect(st, pos, lo, hi, limit)
}

// collect binds the parameters from the second on and appends the positions.
func collect(st *sqlite.Stmt, pos []uint64, lo, hi uint64, limit int) ([]uint64, error) {
	st.BindInt64(2, int64(lo))
	st.BindInt64(3, int64(hi))
	st.BindInt64(4, int64(limit))
	for {
		ok, err := st.Step()
		if err != nil {
			return nil, err
		}
		if !ok {
			return pos, st.Reset()
		}
		pos = append(pos, uint64(st.ColumnInt64(0)))
	}
}

func (s *store) ReadAll(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, limit int) (events []driver.Recorded, scanned uint64, err error) {
	err = s.read(ctx, func(c *conn, v *view) error {
		q := &scan{store: s, conn: c, view: v, from: from, dir: dir, limit: limit}
		q.match = func(stream, typ string, _ []string) bool { return f.Match(stream, typ) }
		switch {
		case len(f.Streams) > maxSources || len(f.Streams) == 0 && len(f.Categories) > maxSources:
		case len(f.Streams) > 0:
			q.sources = []source{}
			for _, name := range distinct(f.Streams) {
				q.sources = append(q.sources, streamSource(name))
			}
		case len(f.Categories) > 0:
			q.sources = []source{}
			for _, name := range distinct(f.Categories) {
				q.sources = append(q.sources, categorySource(name))
			}
		}
		if err := q.run(ctx); err != nil {
			return err
		}
		events, scanned = q.page.events, q.scanned
		return nil
	})
	return events, scanned, err
}

// maxSources is how many streams or categories are looked up by their indexes;
// for more than that the log is scanned.
const maxSources = 256

func distinct(names []string) []string {
	if len(names) < 2 {
		return names
	}
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names)
}

// A scan reads events in the order of their positions, from the log itself or,
// if it has sources, by the positions that those give.
type scan struct {
	store   *store
	conn    *conn
	view    *view
	sources []source // nil: the log
	match   func(stream, typ string, tags []string) bool
	tags    bool // match looks at the tags
	from    uint64
	dir     driver.Direction
	limit   int

	page    *page
	scanned uint64
}

// A source gives at most limit positions in (lo, hi], in the order of dir. If
// there may be more, edge is the last position that it looked at, else 0.
type source func(q *scan, lo, hi uint64, limit int) (pos []uint64, edge uint64, err error)

// edgeOf returns the edge of a source that examined these positions.
func edgeOf(pos []uint64, limit int) uint64 {
	if len(pos) < limit {
		return 0
	}
	return pos[len(pos)-1]
}

func (q *scan) run(ctx context.Context) error {
	lo, hi := q.from, q.view.head // positions in (lo, hi]
	end := max(q.from, q.view.head)
	if q.dir == driver.Backward {
		if lo = 0; q.from > 0 {
			hi = min(hi, q.from-1)
		}
		end = 0
	}
	q.page = &page{}
	q.scanned = q.from
	if q.dir == driver.Backward && q.from == 0 {
		q.scanned = q.view.head + 1
	}
	if q.limit <= 0 {
		return nil
	}
	if lo >= hi {
		q.scanned = end
		return nil
	}
	var more bool
	var err error
	if q.sources == nil {
		more, err = q.log(ctx, lo, hi)
	} else {
		more, err = q.index(ctx, lo, hi)
	}
	if err == nil && !more {
		q.scanned = end
	}
	return err
}

// log scans the log. It reports whether it stopped before the end.
func (q *scan) log(ctx context.Context, lo, hi uint64) (more bool, err error) {
	s := stScan
	if q.dir == driver.Backward {
		s = stScanBack
	}
	st, err := q.conn.stmt(s)
	if err != nil {
		return false, err
	}
	defer st.Reset()
	st.BindInt64(1, int64(lo))
	st.BindInt64(2, int64(hi))
	q.page = newPage(min(q.limit, 1024, int(min(hi-lo, maxScanned))))
	for n := 0; ; n++ {
		if n >= maxScanned || q.full() {
			return true, nil
		}
		if n%256 == 255 && ctx.Err() != nil {
			return false, ctx.Err()
		}
		ok, err := st.Step()
		if err != nil || !ok {
			return false, err
		}
		q.scanned = uint64(st.ColumnInt64(0))
		if err := q.conn.recorded(st, q.page, q); err != nil {
			return false, err
		}
	}
}

func (q *scan) full() bool { return len(q.page.events) >= q.limit || q.page.bytes >= maxPageBytes }

// index merges what the sources give. Where a source may have more, only what
// comes before its edge is complete.
func (q *scan) index(ctx context.Context, lo, hi uint64) (more bool, err error) {
	ask := max(16, min(2*q.limit, maxScanned)/max(1, len(q.sources)))
	if len(q.sources) == 1 {
		ask = max(16, min(q.limit, maxScanned))
	}
	var all []uint64
	for _, src := range q.sources {
		pos, edge, err := src(q, lo, hi, ask)
		if err != nil {
			return false, err
		}
		if edge > 0 {
			more = true
			if q.dir == driver.Forward {
				hi = min(hi, edge)
			} else {
				lo = max(lo, edge-1)
			}
		}
		all = join(all, pos)
	}
	if len(q.sources) > 1 {
		slices.Sort(all)
		all = slices.Compact(all)
		all = within(all, lo, hi)
		if q.dir == driver.Backward {
			all = slices.Clone(all)
			slices.Reverse(all)
		}
	}
	q.page = newPage(min(q.limit, 1024, len(all)))
	for chunk := range slices.Chunk(all, fetchRows) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if q.full() {
			return true, nil
		}
		if err := q.conn.fetch(chunk, func(st *sqlite.Stmt) (bool, error) {
			if q.full() {
				return false, nil
			}
			q.scanned = uint64(st.ColumnInt64(0))
			return true, q.conn.recorded(st, q.page, q)
		}); err != nil {
			return false, err
		}
	}
	if q.full() {
		return true, nil
	}
	if more {
		if q.scanned = hi; q.dir == driver.Backward {
			q.scanned = lo + 1
		}
	}
	return more, nil
}

func categorySource(name string) source {
	return func(q *scan, lo, hi uint64, limit int) ([]uint64, uint64, error) {
		id, err := q.store.categoryID(q.conn, q.view, name)
		if err != nil || id == 0 {
			return nil, 0, err
		}
		tail := within(q.store.tailCategory(q.view, id), lo, hi)
		pos, err := q.conn.tableAndTail(stCategoryUp, stCategoryDown, id, lo, min(hi, q.view.mark), tail, q.dir, limit)
		return pos, edgeOf(pos, limit), err
	}
}

// streamSource finds the versions between two positions by bisection: within a
// stream both rise together.
func streamSource(name string) source {
	return func(q *scan, lo, hi uint64, limit int) ([]uint64, uint64, error) {
		h, err := q.store.lookupHead(q.conn, q.view, name)
		if err != nil || h.id == 0 || h.purged {
			return nil, 0, err
		}
		a, err := q.versionAt(h, lo)
		if err != nil {
			return nil, 0, err
		}
		b, err := q.versionAt(h, hi)
		if err != nil {
			return nil, 0, err
		}
		pos, err := q.store.streamPositions(q.conn, q.view, h.id, a, b, q.dir, limit)
		return pos, edgeOf(pos, limit), err
	}
}

// versionAt returns the version of the last event of a stream at or below a
// position, or the one before its first.
func (q *scan) versionAt(h *head, position uint64) (uint64, error) {
	if position >= q.view.head {
		return h.version, nil
	}
	first, tail := q.store.tailStream(q.view, h.id)
	lo, hi := h.first-1, h.version // the answer is in [lo, hi]
	if len(tail) > 0 {
		if n := len(within(tail, 0, position)); n > 0 {
			return first + uint64(n) - 1, nil
		}
		hi = first - 1
	}
	for lo < hi {
		mid := hi - (hi-lo)/2
		at := uint64(0)
		if err := q.conn.row(stStreamAt, func(st *sqlite.Stmt) { at = uint64(st.ColumnInt64(0)) }, h.id, int64(mid)); err != nil {
			return 0, err
		}
		if at <= position {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return lo, nil
}

// A page collects events. Their bytes share a few large blocks.
type page struct {
	events []driver.Recorded
	block  []byte
	bytes  int
}

func newPage(events int) *page {
	p := &page{}
	if events > 0 {
		p.events = make([]driver.Recorded, 0, events)
	}
	return p
}

// Blocks grow from one to the next, so that a lone event costs little and a page
// of many few allocations.
const maxBlock = 128 << 10

// bytesOf copies a column. NULL reads as nil.
func (p *page) bytesOf(st *sqlite.Stmt, col int) []byte {
	n := st.ColumnLen(col)
	if n == 0 {
		if st.ColumnType(col) == sqlite.TypeNull {
			return nil
		}
		return []byte{}
	}
	if n > cap(p.block)-len(p.block) {
		room := cap(p.events) - len(p.events)
		p.block = make([]byte, 0, max(n, min(maxBlock, n*max(1, room)*5/4)))
	}
	at := len(p.block)
	p.block = p.block[:at+n]
	b := p.block[at : at+n : at+n]
	st.ColumnBytes(col, b)
	p.bytes += n
	return b
}

// fetch calls fn for the rows of eventColumns at the positions, at most
// fetchRows of them, in their order, until it returns false. A position without
// an event is passed over.
func (c *conn) fetch(positions []uint64, fn func(*sqlite.Stmt) (bool, error)) error {
	st, err := c.stmt(stFetch)
	if err != nil {
		return err
	}
	for i := range fetchRows {
		if i < len(positions) {
			st.BindInt64(i+1, int64(positions[i]))
		} else {
			st.BindNull(i + 1)
		}
	}
	for {
		ok, err := st.Step()
		if err != nil {
			return err
		}
		if ok {
			ok, err = fn(st)
		}
		if !ok || err != nil {
			return errors.Join(err, st.Reset())
		}
	}
}

// recorded adds the event in a row of eventColumns to the page, if it matches.
func (c *conn) recorded(st *sqlite.Stmt, p *page, q *scan) (err error) {
	stream, typ := c.text(st, 4), c.text(st, 5)
	var tags []string
	if q == nil || q.tags {
		if tags, err = tagsOf(st); err != nil {
			return err
		}
	}
	if q != nil && !q.match(stream, typ, tags) {
		return nil
	}
	if q != nil && !q.tags {
		if tags, err = tagsOf(st); err != nil {
			return err
		}
	}
	p.events = append(p.events, driver.Recorded{})
	r := &p.events[len(p.events)-1]
	r.Stream, r.Type, r.Tags = stream, typ, tags
	r.Position = uint64(st.ColumnInt64(0))
	r.Version = uint64(st.ColumnInt64(1))
	r.Time = time.UnixMicro(st.ColumnInt64(2)).UTC()
	st.ColumnBytes(3, r.ID[:])
	if r.ContentType = c.text(st, 6); r.ContentType == "" && st.ColumnType(6) == sqlite.TypeNull {
		r.ContentType = jsonContent
	}
	st.ColumnBytes(7, r.Correlation[:])
	st.ColumnBytes(8, r.Causation[:])
	if n := st.ColumnLen(10); n > 0 {
		if r.Metadata, err = attributes.Metadata(st.ColumnText(10)); err != nil {
			return err
		}
		p.bytes += n
	}
	r.Data = p.bytesOf(st, 11)
	p.bytes += len(r.Type) + len(r.Stream) + 3*16
	return nil
}

func tagsOf(st *sqlite.Stmt) ([]string, error) {
	if st.ColumnLen(9) == 0 {
		return nil, nil
	}
	return attributes.Tags(st.ColumnText(9))
}

func (s *store) Stream(ctx context.Context, stream string) (info driver.StreamInfo, err error) {
	info.Name = stream
	err = s.read(ctx, func(c *conn, v *view) error {
		h, err := s.lookupHead(c, v, stream)
		if err != nil {
			return err
		}
		if h.purged {
			return driver.ErrStreamDeleted
		}
		info = h.info(stream)
		return nil
	})
	return info, err
}

func (h *head) info(name string) driver.StreamInfo {
	info := driver.StreamInfo{Name: name}
	if h.version > 0 {
		info.Version, info.First = h.version, h.first
		info.Deleted, info.Origin = h.deletedAt == h.version, h.deletedAt
	}
	return info
}

// PositionAt bisects the log by time: times never decrease from one position to
// the next.
func (s *store) PositionAt(ctx context.Context, t time.Time) (position uint64, err error) {
	err = s.read(ctx, func(c *conn, v *view) error {
		lo, hi := uint64(0), v.head // the answer is in [lo, hi]
		for lo < hi {
			mid := hi - (hi-lo)/2
			at, before := uint64(0), false
			err := c.row(stTimeAt, func(st *sqlite.Stmt) {
				at, before = uint64(st.ColumnInt64(0)), time.UnixMicro(st.ColumnInt64(1)).Before(t)
			}, int64(mid))
			switch {
			case err != nil:
				return err
			case before:
				lo = min(at, hi)
			default:
				hi = mid - 1
			}
		}
		position = lo
		return nil
	})
	return position, err
}
