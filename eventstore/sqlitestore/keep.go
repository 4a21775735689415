package sqlitestore

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
	"zombiezen.com/go/sqlite"
)

// What the store keeps beside the log: snapshots, checkpoints and leases. Each
// write is a transaction of its own, as durable as an append.

func (s *store) SaveSnapshot(ctx context.Context, stream string, snap driver.Snapshot) error {
	if err := s.checkStream(stream); err != nil {
		return err
	}
	return unchangedIsNil(s.write(ctx, func(c *conn) error {
		v := s.current()
		h, err := s.lookupHead(c, &v, stream)
		if err != nil {
			return err
		}
		if h.purged {
			return driver.ErrStreamDeleted
		}
		stored, ok, err := c.snapshot(stream)
		if err != nil {
			return err
		}
		if ok && stored.Version > snap.Version {
			return errUnchanged
		}
		st, err := c.stmt(stSaveSnapshot)
		if err != nil {
			return err
		}
		st.BindText(1, stream)
		st.BindInt64(2, int64(snap.Version))
		st.BindInt64(3, int64(snap.Schema))
		bindData(st, 4, snap.Data)
		return finish(st)
	}))
}

// errUnchanged ends a transaction that turns out to have nothing to write.
var errUnchanged = errors.New("sqlitestore: nothing to write")

func unchangedIsNil(err error) error {
	if err == errUnchanged {
		return nil
	}
	return err
}

func bindData(st *sqlite.Stmt, param int, data []byte) {
	if data == nil {
		st.BindNull(param)
	} else {
		st.BindBytes(param, data)
	}
}

func columnData(st *sqlite.Stmt, col int) []byte {
	if st.ColumnType(col) == sqlite.TypeNull {
		return nil
	}
	b := make([]byte, st.ColumnLen(col))
	st.ColumnBytes(col, b)
	return b
}

func (c *conn) snapshot(stream string) (snap driver.Snapshot, ok bool, err error) {
	st, err := c.stmt(stLoadSnapshot)
	if err != nil {
		return snap, false, err
	}
	st.BindText(1, stream)
	err = one(st, func(st *sqlite.Stmt) {
		ok = true
		snap = driver.Snapshot{Version: uint64(st.ColumnInt64(0)), Schema: st.ColumnInt(1), Data: columnData(st, 2)}
	})
	return snap, ok, err
}

func (s *store) LoadSnapshot(ctx context.Context, stream string) (snap driver.Snapshot, ok bool, err error) {
	err = s.read(ctx, func(c *conn, _ *view) error {
		snap, ok, err = c.snapshot(stream)
		return err
	})
	return snap, ok, err
}

func (s *store) DeleteSnapshot(ctx context.Context, stream string) error {
	return s.write(ctx, func(c *conn) error { return c.execText(stDeleteSnapshot, stream) })
}

func (c *conn) checkpoint(name string) (p driver.Checkpoint, ok bool, err error) {
	st, err := c.stmt(stLoadCheckpoint)
	if err != nil {
		return p, false, err
	}
	st.BindText(1, name)
	err = one(st, func(st *sqlite.Stmt) {
		ok = true
		p = driver.Checkpoint{Position: uint64(st.ColumnInt64(0)), Fence: uint64(st.ColumnInt64(1)), Data: columnData(st, 2)}
	})
	return p, ok, err
}

func (s *store) LoadCheckpoint(ctx context.Context, name string) (p driver.Checkpoint, ok bool, err error) {
	err = s.read(ctx, func(c *conn, _ *view) error {
		p, ok, err = c.checkpoint(name)
		return err
	})
	return p, ok, err
}

func (s *store) SaveCheckpoint(ctx context.Context, name string, from *driver.Checkpoint, to driver.Checkpoint) error {
	return s.write(ctx, func(c *conn) error {
		p, ok, err := c.checkpoint(name)
		if err != nil {
			return err
		}
		if ok != (from != nil) || ok && (p.Position != from.Position || p.Fence != from.Fence || p.Fence > to.Fence) {
			return driver.ErrMoved
		}
		st, err := c.stmt(stSaveCheckpoint)
		if err != nil {
			return err
		}
		st.BindText(1, name)
		st.BindInt64(2, int64(to.Position))
		st.BindInt64(3, int64(to.Fence))
		bindData(st, 4, to.Data)
		return finish(st)
	})
}

func (s *store) DeleteCheckpoint(ctx context.Context, name string) error {
	return s.write(ctx, func(c *conn) error { return c.execText(stDeleteCheckpoint, name) })
}

func (s *store) Checkpoints(ctx context.Context, prefix string) (all map[string]driver.Checkpoint, err error) {
	all = make(map[string]driver.Checkpoint)
	err = s.read(ctx, func(c *conn, _ *view) error {
		st, err := c.stmt(stCheckpoints)
		if err != nil {
			return err
		}
		st.BindText(1, prefix)
		return rows(st, func() bool {
			name := st.ColumnText(0)
			if !strings.HasPrefix(name, prefix) {
				return false
			}
			all[name] = driver.Checkpoint{Position: uint64(st.ColumnInt64(1)), Fence: uint64(st.ColumnInt64(2)), Data: columnData(st, 3)}
			return true
		})
	})
	return all, err
}

// rows calls fn for the rows of a bound statement, until it returns false.
func rows(st *sqlite.Stmt, fn func() bool) error {
	for {
		ok, err := st.Step()
		if err != nil {
			return err
		}
		if !ok || !fn() {
			return st.Reset()
		}
	}
}

// Acquire counts time by the clock of this process, which is the only one that
// can hold leases of this store. A lease that expired or was released is a new
// one when it is acquired again, whoever does.
func (s *store) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (fence uint64, ok bool, err error) {
	err = unchangedIsNil(s.write(ctx, func(c *conn) error {
		now := s.opt.clock()
		st, err := c.stmt(stLoadLease)
		if err != nil {
			return err
		}
		var holder string
		var expires int64
		st.BindText(1, name)
		if err := one(st, func(st *sqlite.Stmt) {
			holder, fence, expires = st.ColumnText(0), uint64(st.ColumnInt64(1)), st.ColumnInt64(2)
		}); err != nil {
			return err
		}
		held := expires > now.UnixMicro()
		if held && holder != owner {
			fence = 0
			return errUnchanged
		}
		if !held {
			fence++
		}
		if st, err = c.stmt(stSaveLease); err != nil {
			return err
		}
		st.BindText(1, name)
		st.BindText(2, owner)
		st.BindInt64(3, int64(fence))
		st.BindInt64(4, now.Add(ttl).UnixMicro())
		ok = true
		return finish(st)
	}))
	if err != nil {
		return 0, false, err
	}
	return fence, ok, nil
}

func (s *store) Release(ctx context.Context, name, owner string, fence uint64) error {
	return s.write(ctx, func(c *conn) error {
		st, err := c.stmt(stReleaseLease)
		if err != nil {
			return err
		}
		st.BindText(1, name)
		st.BindText(2, owner)
		st.BindInt64(3, int64(fence))
		return finish(st)
	})
}

func (s *store) Leases(ctx context.Context, prefix string) (leases []driver.Lease, err error) {
	err = s.read(ctx, func(c *conn, _ *view) error {
		st, err := c.stmt(stLeases)
		if err != nil {
			return err
		}
		st.BindText(1, prefix)
		st.BindInt64(2, s.opt.clock().UnixMicro())
		return rows(st, func() bool {
			name := st.ColumnText(0)
			if !strings.HasPrefix(name, prefix) {
				return false
			}
			leases = append(leases, driver.Lease{
				Name: name, Owner: st.ColumnText(1), Fence: uint64(st.ColumnInt64(2)),
				Expires: time.UnixMicro(st.ColumnInt64(3)).UTC(),
			})
			return true
		})
	})
	return leases, err
}
