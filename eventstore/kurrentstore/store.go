package kurrentstore

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"

	"github.com/levada-go/levada/eventstore/driver"
)

// A store is the driver.
type store struct {
	g      *guard
	limits driver.Limits
	bytes  int // that the server takes in one append

	turns turns
	head  head
	watch watch

	lists       lists
	categories  categories
	checkpoints registry
	leases      registry
	clock       clock
}

var (
	_ driver.Store        = (*store)(nil)
	_ driver.Lister       = (*store)(nil)
	_ driver.Deleter      = (*store)(nil)
	_ driver.Dater        = (*store)(nil)
	_ driver.Checkpointer = (*store)(nil)
	_ driver.Leaser       = (*store)(nil)
)

func newStore(g *guard, bytes int) *store {
	if bytes <= 0 {
		bytes = DefaultAppendBytes
	}
	bytes = max(bytes, minAppendBytes)
	most := bytes - bytes/8 // the rest is for what JSON adds to metadata and tags
	d := &store{g: g, bytes: bytes, limits: driver.Limits{EventBytes: most, AppendBytes: most, NameBytes: nameBytes}}
	d.checkpoints.stream, d.leases.stream = checkpointNames, leaseGroups
	d.turns.init()
	d.lists.init()
	d.categories.init()
	d.watch.init(d)
	return d
}

func (d *store) Limits() driver.Limits { return d.limits }

// Close waits for calls under way, at most for five seconds; those that take longer are cut off.
func (d *store) Close() error {
	d.g.close()
	return nil
}

// reach asks the server for something, to see that it is there.
func (d *store) reach(ctx context.Context) error {
	ctx, done, err := d.g.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	_, err = d.g.one(ctx, readAll(0, 1, true))
	return err
}

// turns make what this process changes of one stream go one after another.
// Appends would only get in each other's way; and the server, which looks at
// the version alone, takes an append to a stream that was deleted after it was found.
type turns struct {
	seed  maphash.Seed
	slots [1024]turn
}

func (t *turns) init() {
	t.seed = maphash.MakeSeed()
	for i := range t.slots {
		t.slots[i] = newTurn()
	}
}

func (t *turns) take(ctx context.Context, stream string) (func(), error) {
	slot := t.slots[maphash.String(t.seed, stream)%uint64(len(t.slots))]
	return slot.leave, slot.take(ctx)
}

// A turn is held by one at a time.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) leave() { <-t }

// A place is where the server has a stream.
type place struct {
	version uint64    // of its last event, deleted or not
	deleted bool      // it counts as absent and goes on at version+1
	last    *recorded // its last event, nil if that cannot be read
}

// absent reports whether expectations count the stream as absent.
func (p *place) absent() bool { return p.deleted || p.version == 0 }

// find asks the leader where a stream is, named as on the server. Its last event
// tells, if there is one; else the metadata, read after it, tell why there is none.
func (d *store) find(ctx context.Context, name string) (place, error) {
	for {
		e, err := d.g.one(ctx, readStream(name, 0, 1, true))
		switch {
		case err == nil && e != nil:
			return place{version: e.GetStreamRevision() + 1, last: e}, nil
		case err != nil && !errors.Is(err, errNoStream):
			return place{}, err
		}
		m, err := d.loadMeta(ctx, name)
		if err != nil {
			return place{}, err
		}
		before := m.truncateBefore()
		if before == 0 {
			return place{}, nil
		}
		// It is deleted, or all of it is truncated, or was when the last event was asked for.
		v, err := d.probe(ctx, name)
		if err != nil {
			return place{}, err
		}
		if !m.deleted() {
			if v <= before {
				return place{version: v}, nil
			}
			continue
		}
		now, err := d.loadMeta(ctx, name)
		if err != nil {
			return place{}, err
		}
		if now.version == m.version { // it did not come back before it was asked for its version
			return place{version: v, deleted: v > 0}, nil
		}
	}
}

// impossible is a revision that no stream will ever stand at.
const impossible = 1 << 62

// probe asks the leader at which version a stream is of which nothing can be
// read. Only an append that is refused tells.
func (d *store) probe(ctx context.Context, name string) (uint64, error) {
	e, _, err := encode(&driver.Event{Type: "levada.probe", ContentType: wireJSON, Data: []byte("{}")})
	if err != nil {
		return 0, err
	}
	_, err = d.g.do(ctx, func(ctx context.Context, n *node) error {
		_, err := d.g.append(ctx, n, name, expectation{revision: impossible}, []*proposed{e})
		return err
	})
	var wrong *errWrongVersion
	if errors.As(err, &wrong) {
		return wrong.version, nil
	}
	if err == nil {
		err = fmt.Errorf("%w: an append at revision %d of %s was taken", ErrServer, uint64(impossible), name)
	}
	return 0, err
}

// Stream tells where a stream stands, as the leader has it.
func (d *store) Stream(ctx context.Context, stream string) (driver.StreamInfo, error) {
	ctx, done, err := d.g.begin(ctx)
	if err != nil {
		return driver.StreamInfo{Name: stream}, err
	}
	defer done()
	return d.info(ctx, stream)
}

func (d *store) info(ctx context.Context, stream string) (driver.StreamInfo, error) {
	info := driver.StreamInfo{Name: stream}
	name, err := serverName(stream)
	if err != nil {
		return info, err
	}
	p, m, err := d.findWithMeta(ctx, name)
	if err != nil || p.version == 0 {
		return info, err
	}
	info.Version, info.Deleted, info.First, info.Origin = p.version, p.deleted, p.version+1, m.origin()
	if p.deleted {
		info.Origin = p.version
	} else if p.last != nil {
		info.First, err = d.first(ctx, name, p.version, m)
	}
	return info, err
}

// findWithMeta is find and the metadata that the stream had when it was there. As versions only rise,
// it was there all the time between two looks that see the same.
func (d *store) findWithMeta(ctx context.Context, name string) (place, *streamMeta, error) {
	p, err := d.find(ctx, name)
	for was := uint64(0); ; {
		if err != nil {
			return place{}, nil, err
		}
		m, err := d.loadMeta(ctx, name)
		if err != nil {
			return place{}, nil, err
		}
		if m.version == 0 {
			return p, m, nil // it never had any
		}
		again, err := d.find(ctx, name)
		if err != nil {
			return place{}, nil, err
		}
		// It may have been deleted where it was, and not yet when it was first looked at. Metadata
		// that stay like that are another program's mistake.
		if again.version == p.version && again.deleted == p.deleted && (p.deleted || m.origin() < max(p.version, 1) || m.version == was) {
			return p, m, nil
		}
		p, was = again, m.version
	}
}

// first returns the version of the first event that can be read.
func (d *store) first(ctx context.Context, name string, version uint64, m *streamMeta) (uint64, error) {
	if m.version == 0 {
		return 1, nil
	}
	first := max(1, m.truncateBefore()+1)
	if n, ok := m.number("$maxCount"); ok && n > 0 && n < version {
		first = max(first, version-n+1)
	}
	if _, ok := m.number("$maxAge"); ok {
		e, err := d.g.one(ctx, readStream(name, 0, 1, false))
		if err != nil && !errors.Is(err, errNoStream) {
			return 0, err
		}
		if e == nil {
			return version + 1, nil
		}
		first = e.GetStreamRevision() + 1
	}
	return min(first, version+1), nil
}
