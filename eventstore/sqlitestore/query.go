package sqlitestore

import (
	"context"
	"strings"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/internal/appends"
	"zombiezen.com/go/sqlite"
)

// AppendIf decides under the turn to write: nothing can be appended between the
// look and the append. It looks at the index of tags and at the tail; for an item
// without tags it looks at the log itself from after on, so after should be
// recent. Events of streams that start with "$" match no item.
func (s *store) AppendIf(ctx context.Context, items []driver.QueryItem, after uint64, events []driver.StreamEvent, fn func(tx any, events []driver.Recorded) error) driver.Result {
	if err := s.checkEvents(events); err != nil {
		return driver.Result{Err: err}
	}
	as := appends.Runs(events)
	rs, err := s.appendWhole(ctx, as, fn, func(w *writing) (refused, err error) { return s.judge(ctx, w, items, after, as) })
	if err != nil {
		return driver.Result{Err: err}
	}
	return appends.Join(rs)
}

func (s *store) checkEvents(events []driver.StreamEvent) error {
	if err := s.checkWhole(len(events), 0); err != nil {
		return err
	}
	total := 0
	for i := range events {
		if err := s.checkStream(events[i].Stream); err != nil {
			return err
		}
		n, err := s.checkEvent(&events[i].Event)
		if err != nil {
			return err
		}
		total += n
	}
	return s.checkWhole(len(events), total)
}

// judge returns why appends are refused under a condition.
func (s *store) judge(ctx context.Context, w *writing, items []driver.QueryItem, after uint64, as []driver.Append) (refused, err error) {
	for len(items) > 0 && after < w.view.head {
		q := querying(s, s.w, &w.view, items, after, 1)
		if err := q.run(ctx); err != nil {
			return nil, err
		}
		if len(q.page.events) > 0 {
			return &driver.ConflictError{Actual: q.page.events[0].Position}, nil
		}
		after = q.scanned
	}
	for i := range as {
		h, err := s.head(w, as[i].Stream)
		if err != nil {
			return nil, err
		}
		if err := h.expect(as[i].Expected); err != nil {
			return err, nil
		}
	}
	return nil, nil
}

func (s *store) Query(ctx context.Context, items []driver.QueryItem, after uint64, limit int) (events []driver.Recorded, scanned uint64, err error) {
	err = s.read(ctx, func(c *conn, v *view) error {
		q := querying(s, c, v, items, after, limit)
		if err := q.run(ctx); err != nil {
			return err
		}
		events, scanned = q.page.events, q.scanned
		return nil
	})
	return events, scanned, err
}

// querying returns the scan for a query. If every item has a tag, it goes by the
// tag index, one source an item.
func querying(s *store, c *conn, v *view, items []driver.QueryItem, after uint64, limit int) *scan {
	q := &scan{store: s, conn: c, view: v, from: after, dir: driver.Forward, limit: limit, tags: len(items) > 0}
	q.match = func(stream, typ string, tags []string) bool {
		if strings.HasPrefix(stream, "$") {
			return false
		}
		for i := range items {
			if items[i].Match(typ, tags) {
				return true
			}
		}
		return len(items) == 0
	}
	if len(items) == 0 || len(items) > maxSources {
		return q
	}
	sources := []source{}
	for i := range items {
		if len(items[i].Tags) == 0 {
			return q
		}
		sources = append(sources, tagSource(items[i].Tags))
	}
	q.sources = sources
	return q
}

// tagSource gives the positions that bear all of tags. It walks the tag that is
// on the fewest events, as far as a short look can tell, and looks the others
// up.
func tagSource(tags []string) source {
	tags = distinct(tags)
	return func(q *scan, lo, hi uint64, limit int) ([]uint64, uint64, error) {
		rare := 0
		if len(tags) > 1 {
			const look = 64
			least := look
			for i, t := range tags {
				pos, err := q.tagged(t, lo, hi, look)
				if err != nil {
					return nil, 0, err
				}
				if len(pos) < least {
					rare, least = i, len(pos)
				}
			}
		}
		all, err := q.tagged(tags[rare], lo, hi, limit)
		if err != nil {
			return nil, 0, err
		}
		pos := all
		if len(tags) > 1 {
			pos = make([]uint64, 0, len(all))
			for _, p := range all {
				ok, err := q.hasAll(tags, rare, p)
				if err != nil {
					return nil, 0, err
				}
				if ok {
					pos = append(pos, p)
				}
			}
		}
		return pos, edgeOf(all, limit), nil
	}
}

// tagged returns at most limit positions in (lo, hi] that bear a tag.
func (q *scan) tagged(tag string, lo, hi uint64, limit int) ([]uint64, error) {
	var pos []uint64
	if top := min(hi, q.view.mark); lo < top {
		st, err := q.conn.stmt(stTagUp)
		if err != nil {
			return nil, err
		}
		st.BindText(1, tag)
		if pos, err = collect(st, nil, lo, top, limit); err != nil {
			return nil, err
		}
	}
	tail := within(q.store.tailTag(q.view, tag), lo, hi)
	return join(pos, tail[:min(len(tail), limit-len(pos))]), nil
}

func (q *scan) hasAll(tags []string, but int, position uint64) (bool, error) {
	if position > q.view.mark {
		return true, nil // in the tail; the match looks at the event
	}
	for i, t := range tags {
		if i == but {
			continue
		}
		st, err := q.conn.stmt(stTagHas)
		if err != nil {
			return false, err
		}
		found := false
		st.BindText(1, t)
		st.BindInt64(2, int64(position))
		if err := one(st, func(*sqlite.Stmt) { found = true }); err != nil || !found {
			return false, err
		}
	}
	return true, nil
}
