package sqlitestore

import (
	"slices"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/internal/attributes"
	"zombiezen.com/go/sqlite"
)

// The derived tables are complete up to the watermark. What lies above it, the
// tail, is indexed in memory, by segments: a process that writes has one that
// grows and one that is being merged; a process that only reads has as many as
// it takes, and drops them as the watermark passes them.
//
//	events    ────────────────────────────────────────────────────────►
//	tables    ───────────── watermark
//	memory                  ├── frozen segment ──┼── growing segment ──┤ head

// A segment indexes a run of the log. A store's mu guards it; its lists only
// grow, so that a list read under mu may be used after.
type segment struct {
	events     int
	last       uint64 // position of its last event
	lastStream int64  // highest stream id given out up to then
	streams    map[int64]*run
	names      map[string]int64 // streams that began in it
	categories map[int64]*list
	catNames   map[string]int64 // categories that began in it
	tags       map[string]*list

	runs  []run    // slabs, because most streams have few events
	lists []uint64 // in a segment
}

// A run is a part of a stream: versions first, first+1 … and their positions.
type run struct {
	first uint64
	list
}

// A list is positions in ascending order.
type list struct{ pos []uint64 }

// An entry is what a segment needs to know of an event.
type entry struct {
	position, version uint64
	stream, category  int64
	tags              []string
}

func newSegment() *segment {
	return &segment{
		streams:    make(map[int64]*run),
		names:      make(map[string]int64),
		categories: make(map[int64]*list),
		catNames:   make(map[string]int64),
		tags:       make(map[string]*list),
	}
}

func (g *segment) add(e *entry) {
	r := g.streams[e.stream]
	if r == nil {
		if len(g.runs) == 0 {
			g.runs = make([]run, 256)
		}
		r = &g.runs[0]
		g.runs = g.runs[1:]
		r.first, r.pos = e.version, g.slab()
		g.streams[e.stream] = r
	}
	r.pos = append(r.pos, e.position)
	c := g.categories[e.category]
	if c == nil {
		c = &list{pos: g.slab()}
		g.categories[e.category] = c
	}
	c.pos = append(c.pos, e.position)
	for _, t := range e.tags {
		l := g.tags[t]
		if l == nil {
			l = &list{pos: g.slab()}
			g.tags[t] = l
		}
		if n := len(l.pos); n == 0 || l.pos[n-1] != e.position { // a tag given twice counts once
			l.pos = append(l.pos, e.position)
		}
	}
	g.events++
	g.last = e.position
}

// slab returns room for the first positions of a list.
func (g *segment) slab() []uint64 {
	const few = 4
	if len(g.lists) < few {
		g.lists = make([]uint64, 256*few)
	}
	s := g.lists[:0:few]
	g.lists = g.lists[few:]
	return s
}

// A view is what a read may see: the log up to head, of which the tables index
// what is not above mark.
type view struct {
	segments   []*segment // oldest first; not modified once in a view
	mark, head uint64
}

// within returns the positions of pos in (lo, hi].
func within(pos []uint64, lo, hi uint64) []uint64 {
	i, _ := slices.BinarySearch(pos, lo+1)
	j, found := slices.BinarySearch(pos, hi)
	if found {
		j++
	}
	if i >= j {
		return nil
	}
	return pos[i:j:j]
}

// join appends b to a, without a copy if one of them is empty.
func join(a, b []uint64) []uint64 {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	return append(slices.Clip(a), b...)
}

// tailStream returns the positions of a stream above the watermark, and the
// version of the first; they are those of consecutive versions.
func (s *store) tailStream(v *view, id int64) (first uint64, pos []uint64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, g := range v.segments {
		r := g.streams[id]
		if r == nil {
			continue
		}
		part := within(r.pos, v.mark, v.head)
		if len(part) > 0 && len(pos) == 0 {
			i, _ := slices.BinarySearch(r.pos, part[0])
			first = r.first + uint64(i)
		}
		pos = join(pos, part)
	}
	return first, pos
}

func (s *store) tailCategory(v *view, id int64) (pos []uint64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, g := range v.segments {
		if l := g.categories[id]; l != nil {
			pos = join(pos, within(l.pos, v.mark, v.head))
		}
	}
	return pos
}

func (s *store) tailTag(v *view, tag string) (pos []uint64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, g := range v.segments {
		if l := g.tags[tag]; l != nil {
			pos = join(pos, within(l.pos, v.mark, v.head))
		}
	}
	return pos
}

// tailName returns the id of a stream that began above the watermark. A name
// may be found though its first event is above the view's head; then the stream
// has no events in the view.
func (s *store) tailName(v *view, name string) (int64, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, g := range v.segments {
		if id, ok := g.names[name]; ok {
			return id, true
		}
	}
	return 0, false
}

func (s *store) tailCategoryName(v *view, name string) (int64, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, g := range v.segments {
		if id, ok := g.catNames[name]; ok {
			return id, true
		}
	}
	return 0, false
}

// streamID looks a stream up; 0 is that there is none.
func (s *store) streamID(c *conn, v *view, name string) (id int64, err error) {
	if id, ok := s.tailName(v, name); ok {
		return id, nil
	}
	return c.lookup(stStreamID, name)
}

func (s *store) categoryID(c *conn, v *view, name string) (id int64, err error) {
	if id, ok := s.tailCategoryName(v, name); ok {
		return id, nil
	}
	return c.lookup(stCategoryID, name)
}

// lookup runs a statement that gives the id of a name, 0 if it has none.
func (c *conn) lookup(s statement, name string) (id int64, err error) {
	st, err := c.stmt(s)
	if err != nil {
		return 0, err
	}
	st.BindText(1, name)
	err = one(st, func(st *sqlite.Stmt) { id = st.ColumnInt64(0) })
	return id, err
}

// readUnmerged reads what a segment needs to know of the events in (lo, hi] and
// passes it on in order. category must give the id of a category; it is called
// only for streams not seen before.
func (c *conn) readUnmerged(lo, hi uint64, category func(name string, first int64) (int64, error), fn func(e *entry, name string, began bool) error) error {
	st, err := c.stmt(stUnmerged)
	if err != nil {
		return err
	}
	defer st.Reset()
	st.BindInt64(1, int64(lo))
	st.BindInt64(2, int64(hi))
	categories := make(map[int64]int64) // of the streams seen
	for {
		ok, err := st.Step()
		if err != nil || !ok {
			return err
		}
		e := entry{position: uint64(st.ColumnInt64(0)), stream: st.ColumnInt64(1), version: uint64(st.ColumnInt64(2))}
		began := e.version == 1
		var name string
		var seen bool
		if e.category, seen = categories[e.stream]; !seen {
			name = st.ColumnText(3)
			if e.category, err = category(driver.Category(name), e.stream); err != nil {
				return err
			}
			categories[e.stream] = e.category
		}
		if st.ColumnLen(4) > 0 {
			if e.tags, err = attributes.Tags(st.ColumnText(4)); err != nil {
				return err
			}
		}
		if err := fn(&e, name, began); err != nil {
			return err
		}
	}
}
