package sqlitestore

import (
	"cmp"
	"slices"
)

// A merge writes a frozen segment into the tables, in the order of each table,
// a slice a transaction. Only the last slice moves the watermark: until then
// readers use the segment, and a crash leaves rows that are written again.
type merge struct {
	segment *segment
	sorted  chan struct{} // closed when the rows below are there
	rows    sortedRows
	at      mergeAt // what is in the transaction under way
	durable mergeAt // what has been committed
}

type sortedRows struct {
	streams    []streamRow
	names      []began
	categories []categoryRow
	catNames   []began
	tags       []tagRow
}

type mergeAt struct{ streams, names, categories, catNames, tags int }

type streamRow struct {
	id                int64
	version, position uint64
}
type categoryRow struct {
	id       int64
	position uint64
}
type tagRow struct {
	tag      string
	position uint64
}

// minSlice is the least number of rows a transaction merges, if any are left.
const minSlice = 256

// restart forgets what a transaction that was rolled back had merged.
func (m *merge) restart() { m.at = m.durable }

// growing returns the segment to which new events go. mu is held.
func (s *store) growing() *segment { return s.view.segments[len(s.view.segments)-1] }

// freeze begins to merge the growing segment. mu is held, and nothing is being
// merged. The rows are sorted beside the appends; nothing modifies a frozen
// segment, so that needs no lock.
func (s *store) freeze() {
	g := s.growing()
	m := &merge{segment: g, sorted: make(chan struct{})}
	s.merge = m
	s.view.segments = append(slices.Clip(s.view.segments), newSegment())
	s.growing().lastStream = g.lastStream
	go func() {
		defer close(m.sorted)
		m.rows = sortRows(g)
	}()
}

func sortRows(g *segment) sortedRows {
	r := sortedRows{streams: make([]streamRow, 0, g.events), categories: make([]categoryRow, 0, g.events)}
	for id, run := range g.streams {
		for i, p := range run.pos {
			r.streams = append(r.streams, streamRow{id, run.first + uint64(i), p})
		}
	}
	slices.SortFunc(r.streams, func(a, b streamRow) int {
		return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.version, b.version))
	})
	for id, l := range g.categories {
		for _, p := range l.pos {
			r.categories = append(r.categories, categoryRow{id, p})
		}
	}
	slices.SortFunc(r.categories, func(a, b categoryRow) int {
		return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.position, b.position))
	})
	for tag, l := range g.tags {
		for _, p := range l.pos {
			r.tags = append(r.tags, tagRow{tag, p})
		}
	}
	slices.SortFunc(r.tags, func(a, b tagRow) int {
		return cmp.Or(cmp.Compare(a.tag, b.tag), cmp.Compare(a.position, b.position))
	})
	r.names = sortNames(g.names)
	r.catNames = sortNames(g.catNames)
	return r
}

func sortNames(names map[string]int64) []began {
	list := make([]began, 0, len(names))
	for n, id := range names {
		list = append(list, began{n, id})
	}
	slices.SortFunc(list, func(a, b began) int { return cmp.Compare(a.name, b.name) })
	return list
}

func (r *sortedRows) total() int {
	return len(r.streams) + len(r.names) + len(r.categories) + len(r.catNames) + len(r.tags)
}

// mergeSome merges a slice inside the transaction under way, beside n new
// events: so many rows that the frozen segment is done well before the growing
// one is full. It returns how many.
func (s *store) mergeSome(n int) (int, error) {
	m := s.merge
	if m == nil {
		return 0, nil
	}
	select {
	case <-m.sorted:
	default:
		if s.growing().events < s.opt.unmerged {
			return 0, nil
		}
		<-m.sorted
	}
	k := max(minSlice, 2*n*m.rows.total()/max(1, m.segment.events))
	if err := s.mergeUpTo(k); err != nil {
		return 0, err
	}
	if s.opt.merging != nil {
		s.opt.merging()
	}
	return k, nil
}

// mergeUpTo merges at most k rows, and moves the watermark if none is left. The
// two tables that get a row for every event are written by many rows at once.
func (s *store) mergeUpTo(k int) error {
	m, c := s.merge, s.w
	r, at := &m.rows, &m.at
	for ; k >= mergeRows && at.streams+mergeRows <= len(r.streams); k -= mergeRows {
		st, err := c.stmt(stMergeStreams)
		if err != nil {
			return err
		}
		for i := range mergeRows {
			e := &r.streams[at.streams+i]
			st.BindInt64(3*i+1, e.id)
			st.BindInt64(3*i+2, int64(e.version))
			st.BindInt64(3*i+3, int64(e.position))
		}
		at.streams += mergeRows
		if err := finish(st); err != nil {
			return err
		}
	}
	for ; k > 0 && at.streams < len(r.streams); k-- {
		e := &r.streams[at.streams]
		at.streams++
		if err := c.exec(stMergeStream, e.id, int64(e.version), int64(e.position)); err != nil {
			return err
		}
	}
	if err := c.mergeNames(stMergeName, r.names, &at.names, &k); err != nil {
		return err
	}
	for ; k >= mergeRows && at.categories+mergeRows <= len(r.categories); k -= mergeRows {
		st, err := c.stmt(stMergeCategories)
		if err != nil {
			return err
		}
		for i := range mergeRows {
			e := &r.categories[at.categories+i]
			st.BindInt64(2*i+1, e.id)
			st.BindInt64(2*i+2, int64(e.position))
		}
		at.categories += mergeRows
		if err := finish(st); err != nil {
			return err
		}
	}
	for ; k > 0 && at.categories < len(r.categories); k-- {
		e := &r.categories[at.categories]
		at.categories++
		if err := c.exec(stMergeCategory, e.id, int64(e.position)); err != nil {
			return err
		}
	}
	if err := c.mergeNames(stMergeCategoryName, r.catNames, &at.catNames, &k); err != nil {
		return err
	}
	for ; k > 0 && at.tags < len(r.tags); k-- {
		e := &r.tags[at.tags]
		at.tags++
		st, err := c.stmt(stMergeTag)
		if err != nil {
			return err
		}
		st.BindText(1, e.tag)
		st.BindInt64(2, int64(e.position))
		if err := finish(st); err != nil {
			return err
		}
	}
	if !m.merged() {
		return nil
	}
	return c.exec(stSetMark, int64(m.segment.last), m.segment.lastStream)
}

func (c *conn) mergeNames(s statement, rows []began, at, k *int) error {
	for ; *k > 0 && *at < len(rows); *k-- {
		st, err := c.stmt(s)
		if err != nil {
			return err
		}
		st.BindText(1, rows[*at].name)
		st.BindInt64(2, rows[*at].id)
		*at++
		if err := finish(st); err != nil {
			return err
		}
	}
	return nil
}

// merged reports whether all rows are in the tables, with the transaction under
// way.
func (m *merge) merged() bool {
	r := &m.rows
	return m.at == mergeAt{len(r.streams), len(r.names), len(r.categories), len(r.catNames), len(r.tags)}
}

// retire is called when a transaction that merged has been committed: it lets
// go of the segment if that was its last slice. mu is held.
func (s *store) retire() {
	m := s.merge
	if m == nil {
		return
	}
	select {
	case <-m.sorted:
	default:
		return
	}
	if m.durable = m.at; m.merged() {
		s.view.mark = m.segment.last
		s.view.segments = slices.Clone(s.view.segments[1:])
		s.merge = nil
	}
}

// mergeAll merges all there is, in transactions of bounded size, so that the
// tables alone tell everything. The caller has the turn, or is the last one.
func (s *store) mergeAll() error {
	if s.stale {
		if err := s.reload(); err != nil {
			return err
		}
	}
	for {
		if s.merge == nil {
			s.mu.Lock()
			if s.growing().events > 0 {
				s.freeze()
			}
			s.mu.Unlock()
			if s.merge == nil {
				return nil
			}
		}
		<-s.merge.sorted
		if err := s.transact(func(*conn) error { return s.mergeUpTo(s.opt.slice) }); err != nil {
			return err
		}
		s.mu.Lock()
		s.retire()
		s.mu.Unlock()
	}
}
