package memstore

import (
	"context"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
)

// examine is how many events a call that filters looks at, unless its limit is
// higher. It bounds how long a call keeps writers waiting.
const examine = 4096

// ReadStream costs nothing but the events it returns.
func (d *store) ReadStream(ctx context.Context, name string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.ready(ctx); err != nil {
		return nil, err
	}
	s := d.streams[name]
	if s == nil {
		return nil, nil
	}
	if s.purged {
		return nil, driver.ErrStreamDeleted
	}
	// positions[lo:hi] are the versions asked for.
	lo, hi, skipped := uint64(0), uint64(len(s.positions)), s.first()-1
	if dir == driver.Forward {
		if from > skipped {
			lo = min(from-skipped, hi)
		}
	} else if from > 0 {
		hi = min(hi, max(from, skipped+1)-skipped-1)
	}
	n := hi - lo
	if n == 0 || limit <= 0 {
		return nil, nil
	}
	if uint64(limit) < n {
		n = uint64(limit)
	}
	events := make([]driver.Recorded, n)
	for i := range events {
		at := lo + uint64(i)
		if dir == driver.Backward {
			at = hi - 1 - uint64(i)
		}
		events[i] = *d.log.at(s.positions[at])
	}
	return events, nil
}

// ReadAll follows the index that leaves the fewest events to examine.
func (d *store) ReadAll(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, uint64, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.ready(ctx); err != nil {
		return nil, from, err
	}
	lists, all := d.plan(&f)
	w := newWalk(lists, all, from, dir, d.log.last)
	events, scanned := d.page(w, from, limit, func(r *driver.Recorded) bool { return f.Match(r.Stream, r.Type) })
	return events, scanned, nil
}

// plan returns the shortest lists that have every event that f selects. all
// says that there are none shorter than the log.
func (d *store) plan(f *driver.Filter) (lists [][]uint64, all bool) {
	all, least := true, int(d.log.last)
	try := func(l [][]uint64, total int) {
		if all || total < least {
			lists, all, least = l, false, total
		}
	}
	if len(f.Streams) > 0 {
		var l [][]uint64
		total := 0
		for _, name := range f.Streams {
			if s := d.streams[name]; s != nil {
				l = append(l, s.positions)
				total += len(s.positions)
			}
		}
		try(l, total)
	}
	if len(f.Categories) > 0 {
		var l [][]uint64
		total := 0
		for _, name := range f.Categories {
			if c := d.categories[name]; c != nil {
				l = append(l, c.positions)
				total += len(c.positions)
			}
		}
		try(l, total)
	}
	if len(f.Types) > 0 {
		try(d.types.lists(f.Types))
	}
	return lists, all
}

// page takes up to limit events from w that match. scanned is as ReadAll says.
func (d *store) page(w *walk, from uint64, limit int, match func(*driver.Recorded) bool) (events []driver.Recorded, scanned uint64) {
	scanned = from
	if w.back && (from == 0 || from > d.log.last) {
		scanned = d.log.last + 1
	}
	for left := max(limit, examine); len(events) < limit && left > 0; left-- {
		p := w.step()
		if p == 0 {
			if w.back {
				return events, 0
			}
			return events, max(from, d.log.last)
		}
		scanned = p
		if r := d.log.at(p); r != nil && match(r) {
			if events == nil {
				events = make([]driver.Recorded, 0, min(limit, 1+w.size(), examine))
			}
			events = append(events, *r)
		}
	}
	return events, scanned
}

// Wait returns as soon as there is an event above after.
func (d *store) Wait(ctx context.Context, after uint64) error {
	for {
		d.mu.Lock()
		if err := d.ready(ctx); err != nil {
			d.mu.Unlock()
			return err
		}
		if d.log.last > after {
			d.mu.Unlock()
			return nil
		}
		if d.grown == nil {
			d.grown = make(chan struct{})
		}
		grown := d.grown
		d.mu.Unlock()
		select {
		case <-grown:
		case <-d.done:
			return driver.ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Head returns the position of the last event that was not removed.
func (d *store) Head(ctx context.Context) (uint64, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.log.head, d.ready(ctx)
}

// Stream tells where a stream stands. A purged one is ErrStreamDeleted.
func (d *store) Stream(ctx context.Context, name string) (driver.StreamInfo, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.ready(ctx); err != nil {
		return driver.StreamInfo{Name: name}, err
	}
	s := d.streams[name]
	if s == nil {
		return driver.StreamInfo{Name: name}, nil
	}
	if s.purged {
		return driver.StreamInfo{Name: name}, driver.ErrStreamDeleted
	}
	return s.info(), nil
}

func (s *stream) info() driver.StreamInfo {
	return driver.StreamInfo{Name: s.name, Version: s.version, First: s.first(), Deleted: s.deleted, Origin: s.origin}
}

// PositionAt returns the greatest position recorded before t.
func (d *store) PositionAt(ctx context.Context, t time.Time) (uint64, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.log.before(t), d.ready(ctx)
}
