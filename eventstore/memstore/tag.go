package memstore

import (
	"context"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
)

// AppendIf examines only events that bear one of the tags, or are of one of
// the types, that the items name. Version in the result is that of the last
// event's stream. It calls fn, unless it is nil, as AppendWith does.
func (d *store) AppendIf(ctx context.Context, items []driver.QueryItem, after uint64, events []driver.StreamEvent, fn func(tx any, events []driver.Recorded) error) driver.Result {
	d.write.Lock()
	defer d.write.Unlock()
	if err := d.serves(ctx); err != nil {
		return driver.Result{Err: err}
	}
	var result driver.Result
	err := d.decide(func() error { return d.permits(items, after, events) }, func(yield func(string, *driver.Event) bool) {
		for i := range events {
			if !yield(events[i].Stream, &events[i].Event) {
				return
			}
		}
	}, fn, func(now time.Time) {
		result.Time = now
		for i := range events {
			e := &events[i]
			s := d.open(d.streams[e.Stream], e.Stream)
			result.Last, _ = d.add(s, &e.Event, make([]byte, 0, len(e.Data)), now)
			result.Positions = append(result.Positions, result.Last)
			result.Version = s.version
		}
	})
	if err != nil {
		return driver.Result{Err: err}
	}
	return result
}

// permits returns why events cannot be appended under a condition.
func (d *store) permits(items []driver.QueryItem, after uint64, events []driver.StreamEvent) error {
	for i := range events {
		if s := d.streams[events[i].Stream]; s != nil && s.purged {
			return driver.ErrStreamDeleted
		}
	}
	if len(items) == 0 {
		return nil
	}
	w := d.query(items, after)
	for p := w.step(); p != 0; p = w.step() {
		if r := d.log.at(p); r != nil && matches(items, r) {
			return &driver.ConflictError{Actual: p}
		}
	}
	return nil
}

// Query examines the events that AppendIf would.
func (d *store) Query(ctx context.Context, items []driver.QueryItem, after uint64, limit int) ([]driver.Recorded, uint64, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.ready(ctx); err != nil {
		return nil, after, err
	}
	events, scanned := d.page(d.query(items, after), after, limit, func(r *driver.Recorded) bool { return matches(items, r) })
	return events, scanned, nil
}

// matches reports whether r matches an item, or, if there are none, is not of
// a system stream.
func matches(items []driver.QueryItem, r *driver.Recorded) bool {
	for i := range items {
		if items[i].Match(r.Type, r.Tags) {
			return true
		}
	}
	return len(items) == 0 && !system(r.Stream)
}

// query returns a walk over the events above after that may match an item:
// for each item the shortest lists that have all of them.
func (d *store) query(items []driver.QueryItem, after uint64) *walk {
	var lists [][]uint64
	all := len(items) == 0
	for _, item := range items {
		var best [][]uint64
		least := -1
		if len(item.Types) > 0 {
			best, least = d.types.lists(item.Types)
		}
		for _, tag := range item.Tags {
			if l, n := d.tags.lists([]string{tag}); least < 0 || n < least {
				best, least = l, n
			}
		}
		if least < 0 {
			all = true
			break
		}
		lists = append(lists, best...)
	}
	return newWalk(lists, all, after, driver.Forward, d.log.last)
}
