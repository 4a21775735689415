package memstore

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
)

// SaveSnapshot keeps a copy of s as the snapshot of a stream, which need not
// exist yet.
func (d *store) SaveSnapshot(ctx context.Context, name string, s driver.Snapshot) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.ready(ctx); err != nil {
		return err
	}
	if st := d.streams[name]; st != nil && st.purged {
		return driver.ErrStreamDeleted
	}
	if old, ok := d.snapshots[name]; ok && old.Version > s.Version {
		return nil
	}
	s.Data = bytes.Clone(s.Data)
	d.snapshots[name] = s
	return nil
}

// LoadSnapshot returns a copy of the snapshot of a stream.
func (d *store) LoadSnapshot(ctx context.Context, name string) (driver.Snapshot, bool, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.ready(ctx); err != nil {
		return driver.Snapshot{}, false, err
	}
	s, ok := d.snapshots[name]
	s.Data = bytes.Clone(s.Data)
	return s, ok, nil
}

// DeleteSnapshot forgets the snapshot of a stream.
func (d *store) DeleteSnapshot(ctx context.Context, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.ready(ctx); err != nil {
		return err
	}
	delete(d.snapshots, name)
	return nil
}

// LoadCheckpoint returns a copy of the named checkpoint.
func (d *store) LoadCheckpoint(ctx context.Context, name string) (driver.Checkpoint, bool, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.ready(ctx); err != nil {
		return driver.Checkpoint{}, false, err
	}
	c, ok := d.checkpoints[name]
	c.Data = bytes.Clone(c.Data)
	return c, ok, nil
}

// SaveCheckpoint replaces the checkpoint from with a copy of to.
func (d *store) SaveCheckpoint(ctx context.Context, name string, from *driver.Checkpoint, to driver.Checkpoint) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.ready(ctx); err != nil {
		return err
	}
	old, ok := d.checkpoints[name]
	if ok != (from != nil) || ok && (old.Position != from.Position || old.Fence != from.Fence || old.Fence > to.Fence) {
		return driver.ErrMoved
	}
	to.Data = bytes.Clone(to.Data)
	d.checkpoints[name] = to
	return nil
}

// DeleteCheckpoint forgets the named checkpoint.
func (d *store) DeleteCheckpoint(ctx context.Context, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.ready(ctx); err != nil {
		return err
	}
	delete(d.checkpoints, name)
	return nil
}

// Checkpoints returns copies. It looks at every checkpoint there is.
func (d *store) Checkpoints(ctx context.Context, prefix string) (map[string]driver.Checkpoint, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.ready(ctx); err != nil {
		return nil, err
	}
	found := map[string]driver.Checkpoint{}
	for name, c := range d.checkpoints {
		if strings.HasPrefix(name, prefix) {
			c.Data = bytes.Clone(c.Data)
			found[name] = c
		}
	}
	return found, nil
}

// Acquire grants or renews a lease. An owner whose lease has expired is a new
// holder, even if nobody else held it since.
func (d *store) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (fence uint64, ok bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.ready(ctx); err != nil {
		return 0, false, err
	}
	now := time.Now()
	l := d.leases[name]
	if l == nil {
		l = &driver.Lease{Name: name}
		d.leases[name] = l
	}
	if !l.Expires.After(now) {
		l.Owner = owner
		l.Fence++
	}
	if l.Owner != owner {
		return 0, false, nil
	}
	l.Expires = now.Add(ttl)
	return l.Fence, true, nil
}

// Release lets go of a lease. Its fence is remembered for the next holder.
func (d *store) Release(ctx context.Context, name, owner string, fence uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.ready(ctx); err != nil {
		return err
	}
	if l := d.leases[name]; l != nil && l.Owner == owner && l.Fence == fence {
		l.Expires = time.Time{}
	}
	return nil
}

// Leases looks at every lease that there ever was.
func (d *store) Leases(ctx context.Context, prefix string) ([]driver.Lease, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.ready(ctx); err != nil {
		return nil, err
	}
	now := time.Now()
	var held []driver.Lease
	for name, l := range d.leases {
		if strings.HasPrefix(name, prefix) && l.Expires.After(now) {
			held = append(held, *l)
		}
	}
	slices.SortFunc(held, func(a, b driver.Lease) int { return cmp.Compare(a.Name, b.Name) })
	return held, nil
}
