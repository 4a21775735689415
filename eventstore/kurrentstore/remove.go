package kurrentstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/levada-go/levada/eventstore/driver"
)

// Truncate sets $tb among the metadata of the stream, and leaves the others as
// they are. The events are gone for readers of the stream at once; readers of
// everything see them until the server scavenges.
func (d *store) Truncate(ctx context.Context, stream string, before uint64) error {
	return d.remove(ctx, stream, func(ctx context.Context, name string) error {
		p, m, err := d.findWithMeta(ctx, name)
		switch {
		case err != nil:
			return err
		case p.version == 0:
			return fmt.Errorf("kurrentstore: truncate %q: there is no such stream", stream)
		case before > p.version+1:
			return fmt.Errorf("kurrentstore: truncate %q before %d: it ends at %d", stream, before, p.version)
		case before <= 1 || before-1 <= m.truncateBefore():
			return nil
		}
		return d.saveMeta(ctx, name, m.with(metaOrigin, m.origin()).with(metaDeleting, 0).with(metaTruncate, before-1))
	})
}

// Delete is the server's own soft delete, which checks the version. First it is
// noted among the metadata that this call is about to delete the stream there: so it is known
// where a stream began that came back, whose deletion it was, and whether an answer that was lost was a success.
func (d *store) Delete(ctx context.Context, stream string, expected int64) error {
	call := uuid.NewString()
	return d.remove(ctx, stream, func(ctx context.Context, name string) error {
		p, m, err := d.findWithMeta(ctx, name)
		if err != nil {
			return err
		}
		if !holds(expected, &p) {
			if p.deleted && expected == driver.Any {
				return nil
			}
			c := &driver.ConflictError{}
			if !p.absent() {
				c.Actual = p.version
			}
			return c
		}
		if p.absent() {
			return nil
		}
		m = m.deleting(p.version, call)
		if err := d.saveMeta(ctx, name, m); err != nil {
			return err
		}
		_, err = d.g.do(ctx, func(ctx context.Context, n *node) error {
			return d.g.delete(ctx, n, name, p.version)
		})
		var wrong *errWrongVersion
		if err != nil && !errors.As(err, &wrong) {
			return err
		}
		now, err2 := d.loadMeta(ctx, name)
		switch {
		case err2 != nil:
			return err2
		case now.truncateBefore() < p.version: // it is there: it was appended to
			if err == nil {
				err = &errWrongVersion{}
			}
			return err
		case now.deleter() == call:
			return nil
		case now.deleter() == "":
			return d.restoreMeta(ctx, name, m)
		case expected == driver.Any:
			return nil // somebody else has
		}
		return &driver.ConflictError{}
	})
}

// restoreMeta gives a stream back the metadata that it had before the server
// deleted it, where the server forgets them, but for what can be read of it. It may have come back in the meantime.
func (d *store) restoreMeta(ctx context.Context, name string, was *streamMeta) error {
	for {
		m, err := d.loadMeta(ctx, name)
		if err != nil || m.deleter() != "" {
			return err
		}
		m = m.clone()
		for k, v := range was.members {
			if _, ok := m.members[k]; !ok && k != metaTruncate {
				m.members[k] = v
			}
		}
		err = d.saveMeta(ctx, name, m)
		var wrong *errWrongVersion
		if !errors.As(err, &wrong) {
			return err
		}
	}
}

// Purge writes the server's tombstone: nobody can read or append to the stream
// any more. Readers of everything see its events until the server scavenges.
func (d *store) Purge(ctx context.Context, stream string) error {
	return d.remove(ctx, stream, func(ctx context.Context, name string) error {
		_, err := d.g.do(ctx, func(ctx context.Context, n *node) error {
			return d.g.tombstone(ctx, n, name)
		})
		if errors.Is(err, driver.ErrStreamDeleted) {
			return nil
		}
		return err
	})
}

// remove runs do, again when somebody else changed the stream in between.
func (d *store) remove(ctx context.Context, stream string, do func(context.Context, string) error) error {
	ctx, done, err := d.g.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	name, err := serverName(stream)
	if err != nil {
		return err
	}
	leave, err := d.turns.take(ctx, name)
	if err != nil {
		return err
	}
	defer leave()
	defer d.head.forget()
	for pause := minRetry; ; pause = min(2*pause, maxRetry) {
		err := do(ctx, name)
		var wrong *errWrongVersion
		if !errors.As(err, &wrong) {
			return err
		}
		if err := d.pause(ctx, pause); err != nil {
			return err
		}
	}
}
