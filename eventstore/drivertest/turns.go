package drivertest

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
)

// A turns is one store under two handles, each call by one of them: what holds
// for a store must hold for it, since a driver may remember nothing that another
// process can change. It has the methods of every optional interface; as tells
// which count.
type turns struct {
	handles [2]driver.Store
	calls   atomic.Uint64
}

func newTurns(a, b driver.Store) *turns { return &turns{handles: [2]driver.Store{a, b}} }

// as returns d as an optional interface, if it is one.
func as[T any](d driver.Store) (v T, ok bool) {
	if t, is := d.(*turns); is {
		if _, ok := t.handles[0].(T); !ok {
			return v, false
		}
	}
	v, ok = d.(T)
	return v, ok
}

// next returns the handle whose turn it is. The order is always the same, and
// neither handle has all writes or all reads of a test that alternates.
func (t *turns) next() driver.Store {
	x := t.calls.Add(1) * 0x9E3779B97F4A7C15 // as splitmix64 does
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	return t.handles[x>>63]
}

func turn[T any](t *turns) T { return t.next().(T) }

func (t *turns) Close() error { return errors.Join(t.handles[0].Close(), t.handles[1].Close()) }

func (t *turns) Limits() driver.Limits { return t.next().Limits() }

func (t *turns) Append(ctx context.Context, a driver.Append) driver.Result {
	return t.next().Append(ctx, a)
}

func (t *turns) ReadStream(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
	return t.next().ReadStream(ctx, stream, from, dir, limit)
}

func (t *turns) ReadAll(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, uint64, error) {
	return t.next().ReadAll(ctx, f, from, dir, limit)
}

func (t *turns) Wait(ctx context.Context, after uint64) error { return t.next().Wait(ctx, after) }

func (t *turns) Head(ctx context.Context) (uint64, error) { return t.next().Head(ctx) }

func (t *turns) Stream(ctx context.Context, stream string) (driver.StreamInfo, error) {
	return t.next().Stream(ctx, stream)
}

func (t *turns) AppendBatch(ctx context.Context, as []driver.Append) []driver.Result {
	return turn[driver.Batcher](t).AppendBatch(ctx, as)
}

func (t *turns) AppendWith(ctx context.Context, as []driver.Append, fn func(tx any, events []driver.Recorded) error) []driver.Result {
	return turn[driver.Inliner](t).AppendWith(ctx, as, fn)
}

func (t *turns) AppendAtomic(ctx context.Context, as []driver.Append, fn func(tx any, events []driver.Recorded) error) ([]driver.Result, error) {
	return turn[driver.Atomic](t).AppendAtomic(ctx, as, fn)
}

func (t *turns) Streams(ctx context.Context, category, after string, limit int) ([]driver.StreamInfo, error) {
	return turn[driver.Lister](t).Streams(ctx, category, after, limit)
}

func (t *turns) Categories(ctx context.Context) ([]string, error) {
	return turn[driver.Lister](t).Categories(ctx)
}

func (t *turns) Truncate(ctx context.Context, stream string, before uint64) error {
	return turn[driver.Deleter](t).Truncate(ctx, stream, before)
}

func (t *turns) Delete(ctx context.Context, stream string, expected int64) error {
	return turn[driver.Deleter](t).Delete(ctx, stream, expected)
}

func (t *turns) Purge(ctx context.Context, stream string) error {
	return turn[driver.Deleter](t).Purge(ctx, stream)
}

func (t *turns) PositionAt(ctx context.Context, at time.Time) (uint64, error) {
	return turn[driver.Dater](t).PositionAt(ctx, at)
}

func (t *turns) SaveSnapshot(ctx context.Context, stream string, s driver.Snapshot) error {
	return turn[driver.Snapshotter](t).SaveSnapshot(ctx, stream, s)
}

func (t *turns) LoadSnapshot(ctx context.Context, stream string) (driver.Snapshot, bool, error) {
	return turn[driver.Snapshotter](t).LoadSnapshot(ctx, stream)
}

func (t *turns) DeleteSnapshot(ctx context.Context, stream string) error {
	return turn[driver.Snapshotter](t).DeleteSnapshot(ctx, stream)
}

func (t *turns) LoadCheckpoint(ctx context.Context, name string) (driver.Checkpoint, bool, error) {
	return turn[driver.Checkpointer](t).LoadCheckpoint(ctx, name)
}

func (t *turns) SaveCheckpoint(ctx context.Context, name string, from *driver.Checkpoint, to driver.Checkpoint) error {
	return turn[driver.Checkpointer](t).SaveCheckpoint(ctx, name, from, to)
}

func (t *turns) DeleteCheckpoint(ctx context.Context, name string) error {
	return turn[driver.Checkpointer](t).DeleteCheckpoint(ctx, name)
}

func (t *turns) Checkpoints(ctx context.Context, prefix string) (map[string]driver.Checkpoint, error) {
	return turn[driver.Checkpointer](t).Checkpoints(ctx, prefix)
}

func (t *turns) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (uint64, bool, error) {
	return turn[driver.Leaser](t).Acquire(ctx, name, owner, ttl)
}

func (t *turns) Release(ctx context.Context, name, owner string, fence uint64) error {
	return turn[driver.Leaser](t).Release(ctx, name, owner, fence)
}

func (t *turns) Leases(ctx context.Context, prefix string) ([]driver.Lease, error) {
	return turn[driver.Leaser](t).Leases(ctx, prefix)
}

func (t *turns) AppendIf(ctx context.Context, items []driver.QueryItem, after uint64, events []driver.StreamEvent, fn func(tx any, events []driver.Recorded) error) driver.Result {
	return turn[driver.Conditional](t).AppendIf(ctx, items, after, events, fn)
}

func (t *turns) Query(ctx context.Context, items []driver.QueryItem, after uint64, limit int) ([]driver.Recorded, uint64, error) {
	return turn[driver.Conditional](t).Query(ctx, items, after, limit)
}
