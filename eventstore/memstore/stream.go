package memstore

import (
	"context"
	"fmt"
	"slices"
	"sort"

	"github.com/levada-go/levada/eventstore/driver"
)

// Streams lists by name. The first call after new streams appeared sorts them.
func (d *store) Streams(ctx context.Context, name, after string, limit int) ([]driver.StreamInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.ready(ctx); err != nil {
		return nil, err
	}
	dir := &d.all
	if name != "" {
		c := d.categories[name]
		if c == nil {
			return nil, nil
		}
		dir = &c.directory
	}
	var infos []driver.StreamInfo
	list := dir.list()
	for _, s := range list[sort.Search(len(list), func(i int) bool { return list[i].name > after }):] {
		if len(infos) >= limit {
			break
		}
		if !s.purged {
			infos = append(infos, s.info())
		}
	}
	return infos, nil
}

// Categories returns the categories of all streams that were not purged.
func (d *store) Categories(ctx context.Context) ([]string, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.ready(ctx); err != nil {
		return nil, err
	}
	var names []string
	for name, c := range d.categories {
		if c.count > 0 && !system(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Truncate removes the events of a stream below version before. It takes time
// in proportion to their number.
func (d *store) Truncate(ctx context.Context, name string, before uint64) error {
	if err := d.lock(ctx); err != nil {
		return err
	}
	defer d.unlock()
	s := d.streams[name]
	switch {
	case s == nil:
		return fmt.Errorf("memstore: truncate %q: there is no such stream", name)
	case s.purged:
		return driver.ErrStreamDeleted
	case before > s.version+1:
		return fmt.Errorf("memstore: truncate %q before %d: it ends at %d", name, before, s.version)
	case before > s.first():
		d.truncate(s, before)
	}
	return nil
}

// truncate removes the events of s below version before, which must be above
// that of the first and at most one beyond the last.
func (d *store) truncate(s *stream, before uint64) {
	n := before - s.first()
	for _, p := range s.positions[:n] {
		r := d.log.at(p)
		kind, tags := r.Type, r.Tags
		d.log.remove(p)
		s.category.drop(&d.log)
		d.types.drop(kind, &d.log)
		for i, tag := range tags {
			if !slices.Contains(tags[:i], tag) {
				d.tags.drop(tag, &d.log)
			}
		}
	}
	s.positions = slices.Clone(s.positions[n:])
}

// Delete removes all events of a stream, if it is as expected. Readers of any
// kind no longer see them. A purged stream is ErrStreamDeleted.
func (d *store) Delete(ctx context.Context, name string, expected int64) error {
	if err := d.lock(ctx); err != nil {
		return err
	}
	defer d.unlock()
	s := d.streams[name]
	if s != nil && s.deleted && !s.purged {
		return nil
	}
	if err := d.check(s, expected); err != nil || s == nil {
		return err
	}
	d.truncate(s, s.version+1)
	s.deleted, s.origin = true, s.version
	return nil
}

// Purge removes all events of a stream and its snapshot, and bars its name.
func (d *store) Purge(ctx context.Context, name string) error {
	if err := d.lock(ctx); err != nil {
		return err
	}
	defer d.unlock()
	delete(d.snapshots, name)
	s := d.streams[name]
	if s == nil {
		d.streams[name] = &stream{name: name, purged: true}
		return nil
	}
	if s.purged {
		return nil
	}
	d.truncate(s, s.version+1)
	s.purged = true
	s.category.count--
	if !system(name) {
		d.all.count--
	}
	s.category = nil
	return nil
}
