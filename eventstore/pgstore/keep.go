package pgstore

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
)

// SaveSnapshot implements [driver.Snapshotter].
func (s *store) SaveSnapshot(ctx context.Context, stream string, sn driver.Snapshot) error {
	if sn.Version > math.MaxInt64 {
		return fmt.Errorf("pgstore: a snapshot at version %d: more than %d", sn.Version, int64(math.MaxInt64))
	}
	return s.change(ctx, stream, newStatement(s.sql.saveSnapshot).text(stream).int(int64(sn.Version)).int(int64(sn.Schema)).bytes(sn.Data), nil)
}

// LoadSnapshot implements [driver.Snapshotter].
func (s *store) LoadSnapshot(ctx context.Context, stream string) (sn driver.Snapshot, ok bool, err error) {
	if err := s.enter(ctx); err != nil {
		return sn, false, err
	}
	defer s.exit()
	if !storable(stream) {
		return sn, false, nil
	}
	err = s.run(ctx, newStatement(s.sql.loadSnapshot).text(stream), func(row [][]byte) error {
		sn, ok = driver.Snapshot{Version: uint64(readInt(row[0])), Schema: int(readInt(row[1])), Data: readData(row[2])}, true
		return nil
	})
	return sn, ok, err
}

// readData copies bytes; none are nil.
func readData(b []byte) []byte { return append([]byte(nil), b...) }

// DeleteSnapshot implements [driver.Snapshotter].
func (s *store) DeleteSnapshot(ctx context.Context, stream string) error {
	return s.change(ctx, stream, newStatement(s.sql.deleteSnapshot).text(stream), nil)
}

// LoadCheckpoint implements [driver.Checkpointer].
func (s *store) LoadCheckpoint(ctx context.Context, name string) (c driver.Checkpoint, ok bool, err error) {
	err = s.named(ctx, newStatement(s.sql.loadCheckpoint).text(name), name, func(row [][]byte) error {
		_, c = readCheckpoint(row)
		ok = true
		return nil
	})
	return c, ok, err
}

func readCheckpoint(row [][]byte) (name string, c driver.Checkpoint) {
	return string(row[0]), driver.Checkpoint{Position: uint64(readInt(row[1])), Fence: uint64(readInt(row[2])), Data: readData(row[3])}
}

// named runs a statement about something with a name.
func (s *store) named(ctx context.Context, st *statement, name string, row func([][]byte) error) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.exit()
	if err := checkText(name); err != nil {
		return err
	}
	return s.run(ctx, st, row)
}

// SaveCheckpoint implements [driver.Checkpointer].
func (s *store) SaveCheckpoint(ctx context.Context, name string, from *driver.Checkpoint, to driver.Checkpoint) error {
	if to.Position > math.MaxInt64 || to.Fence > math.MaxInt64 {
		return fmt.Errorf("pgstore: checkpoint %.80q at position %d under fence %d: more than %d", name, to.Position, to.Fence, int64(math.MaxInt64))
	}
	sql := s.sql.insertCheckpoint
	if from != nil {
		sql = s.sql.updateCheckpoint
	}
	st := newStatement(sql).text(name).position(to.Position).position(to.Fence).bytes(to.Data)
	if from != nil {
		st.position(from.Position).position(from.Fence)
	}
	saved := false
	err := s.named(ctx, st, name, func([][]byte) error {
		saved = true
		return nil
	})
	if err == nil && !saved {
		err = driver.ErrMoved
	}
	return err
}

// DeleteCheckpoint implements [driver.Checkpointer].
func (s *store) DeleteCheckpoint(ctx context.Context, name string) error {
	return s.named(ctx, newStatement(s.sql.deleteCheckpoint).text(name), name, nil)
}

// Checkpoints implements [driver.Checkpointer].
func (s *store) Checkpoints(ctx context.Context, prefix string) (map[string]driver.Checkpoint, error) {
	all := map[string]driver.Checkpoint{}
	err := s.named(ctx, newStatement(s.sql.checkpoints).text(prefix), prefix, func(row [][]byte) error {
		name, c := readCheckpoint(row)
		all[name] = c
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// Acquire implements [driver.Leaser]. Time is the server's; a ttl counts in
// microseconds.
func (s *store) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (fence uint64, ok bool, err error) {
	if err := checkText(owner); err != nil {
		return 0, false, err
	}
	err = s.named(ctx, newStatement(s.sql.acquire).text(name).text(owner).int(ttl.Microseconds()), name, func(row [][]byte) error {
		fence, ok = uint64(readInt(row[0])), true
		return nil
	})
	return fence, ok, err
}

// Release implements [driver.Leaser].
func (s *store) Release(ctx context.Context, name, owner string, fence uint64) error {
	if err := checkText(owner); err != nil {
		return err
	}
	return s.named(ctx, newStatement(s.sql.release).text(name).text(owner).position(fence), name, nil)
}

// Leases implements [driver.Leaser].
func (s *store) Leases(ctx context.Context, prefix string) ([]driver.Lease, error) {
	var list []driver.Lease
	err := s.named(ctx, newStatement(s.sql.leases).text(prefix), prefix, func(row [][]byte) error {
		list = append(list, driver.Lease{Name: string(row[0]), Owner: string(row[1]), Fence: uint64(readInt(row[2])), Expires: readTime(row[3])})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}
