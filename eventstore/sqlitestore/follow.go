package sqlitestore

import (
	"slices"

	"zombiezen.com/go/sqlite"
)

// segmentEvents is how many events a segment of a reader process takes.
const segmentEvents = 8192

// catchUpView returns the view that belongs to the read transaction of c, in a
// process that only reads. The watermark and all rows above it are read in that
// one transaction, so they fit together whatever the writer does meanwhile. If
// another goroutine has gone on to a later transaction in a way that this one
// cannot use, again is true and the caller begins a new one.
func (s *store) catchUpView(c *conn) (v view, again bool, err error) {
	if err := c.row(stMark, func(st *sqlite.Stmt) {
		v.mark = uint64(st.ColumnInt64(0))
	}); err != nil {
		return v, false, err
	}
	if err := c.row(stLast, func(st *sqlite.Stmt) { v.head = uint64(st.ColumnInt64(0)) }); err != nil {
		return v, false, err
	}
	// fits completes v from what is in memory. mu is held.
	fits := func() bool {
		if s.view.mark != v.mark || s.view.head < v.head {
			return false
		}
		v.segments = s.view.segments
		return true
	}
	s.mu.RLock()
	ok := fits()
	s.mu.RUnlock()
	if ok {
		return v, false, nil
	}
	s.catchUp.Lock()
	defer s.catchUp.Unlock()
	// Only who holds catchUp changes the view.
	old := s.view
	if fits() {
		return v, false, nil
	}
	if old.mark > v.mark {
		return v, true, nil
	}
	// A removal needs no more than this, since it merges all there is first.
	keep := slices.DeleteFunc(slices.Clone(old.segments), func(g *segment) bool { return g.last <= v.mark })
	done := v.mark
	if n := len(keep); n > 0 {
		done = max(done, keep[n-1].last)
	}
	added := view{segments: keep, mark: v.mark, head: v.head}
	fresh := make(map[string]int64)
	category := func(name string, first int64) (int64, error) {
		if id, ok := fresh[name]; ok {
			return id, nil
		}
		id, err := s.categoryID(c, &added, name)
		if err == nil && id == 0 {
			id = first
			fresh[name] = id
		}
		return id, err
	}
	var entries []entry
	names := make(map[int]string)
	if err := c.readUnmerged(done, v.head, category, func(e *entry, name string, began bool) error {
		if began {
			names[len(entries)] = name
		}
		entries = append(entries, *e)
		return nil
	}); err != nil {
		return v, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range entries {
		var g *segment
		if n := len(keep); n > 0 && keep[n-1].events < segmentEvents {
			g = keep[n-1]
		} else {
			g = newSegment()
			keep = append(keep, g)
		}
		if name, ok := names[i]; ok {
			g.names[name] = entries[i].stream
		}
		g.add(&entries[i])
	}
	if n := len(keep); n > 0 {
		for name, id := range fresh {
			keep[n-1].catNames[name] = id
		}
	}
	v.segments = keep
	s.view = v
	return v, false, nil
}
