package eventstoretest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
)

// Share returns a handle on d as another process would have it, which tests what
// several processes do with one store, in one process and without an engine:
//
//	d := memstore.NewDriver()
//	a, b := eventstore.New(eventstoretest.Share(t, d), nil), eventstore.New(eventstoretest.Share(t, d), nil)
//
// A handle says that it is not Exclusive, and knows nothing of the others. Closing
// one ends its own calls and leaves d open, and the other handles. Sharing a handle
// makes another one on what it is a handle on. Faults lie between the two:
// Faulty(t, Share(t, d)) is a process that has trouble alone.
//
// It has the capabilities that d has.
func Share(t testing.TB, d driver.Store) driver.Store {
	t.Helper()
	var h *handle
	if (viewer{d}).As(&h) {
		return like(t, &handle{engine: h.engine, closing: make(chan struct{})}, d)
	}
	return like(t, &handle{engine: engineOf(d), closing: make(chan struct{})}, d)
}

// A handle is an engine that can be closed without closing it.
type handle struct {
	engine  Engine
	mu      sync.RWMutex // read-locked by calls under way
	once    sync.Once
	closing chan struct{}
}

func (h *handle) Close() error {
	h.once.Do(func() { close(h.closing) })
	h.mu.Lock()
	defer h.mu.Unlock()
	return nil
}

// do makes a call, unless the handle is closed.
func (h *handle) do(call func() error) error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	select {
	case <-h.closing:
		return driver.ErrClosed
	default:
		return call()
	}
}

// ask is do for a call that returns something.
func ask[T any](h *handle, call func() (T, error)) (v T, err error) {
	err = h.do(func() error {
		v, err = call()
		return err
	})
	return v, err
}

// all is do for several appends.
func (h *handle) all(n int, call func() []driver.Result) (list []driver.Result) {
	if err := h.do(func() error {
		list = call()
		return nil
	}); err != nil {
		return failed(n, err)
	}
	return list
}

func (h *handle) Limits() driver.Limits {
	l := h.engine.Limits()
	l.Exclusive = false
	return l
}

func (h *handle) Append(ctx context.Context, a driver.Append) driver.Result {
	return h.all(1, func() []driver.Result { return []driver.Result{h.engine.Append(ctx, a)} })[0]
}

func (h *handle) AppendBatch(ctx context.Context, as []driver.Append) []driver.Result {
	return h.all(len(as), func() []driver.Result { return h.engine.AppendBatch(ctx, as) })
}

func (h *handle) AppendWith(ctx context.Context, as []driver.Append, fn func(tx any, events []driver.Recorded) error) []driver.Result {
	return h.all(len(as), func() []driver.Result { return h.engine.AppendWith(ctx, as, fn) })
}

func (h *handle) AppendAtomic(ctx context.Context, as []driver.Append, fn func(tx any, events []driver.Recorded) error) ([]driver.Result, error) {
	return ask(h, func() ([]driver.Result, error) { return h.engine.AppendAtomic(ctx, as, fn) })
}

func (h *handle) AppendIf(ctx context.Context, items []driver.QueryItem, after uint64, events []driver.StreamEvent, fn func(tx any, events []driver.Recorded) error) driver.Result {
	return h.all(1, func() []driver.Result { return []driver.Result{h.engine.AppendIf(ctx, items, after, events, fn)} })[0]
}

func (h *handle) ReadStream(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
	return ask(h, func() ([]driver.Recorded, error) { return h.engine.ReadStream(ctx, stream, from, dir, limit) })
}

func (h *handle) ReadAll(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, limit int) (events []driver.Recorded, scanned uint64, err error) {
	err = h.do(func() error {
		events, scanned, err = h.engine.ReadAll(ctx, f, from, dir, limit)
		return err
	})
	return events, scanned, err
}

func (h *handle) Query(ctx context.Context, items []driver.QueryItem, after uint64, limit int) (events []driver.Recorded, scanned uint64, err error) {
	err = h.do(func() error {
		events, scanned, err = h.engine.Query(ctx, items, after, limit)
		return err
	})
	return events, scanned, err
}

func (h *handle) Wait(ctx context.Context, after uint64) error {
	return h.do(func() error {
		until, cancel := context.WithCancel(ctx)
		defer cancel()
		over := make(chan struct{})
		defer close(over)
		go func() {
			select {
			case <-h.closing:
				cancel()
			case <-over:
			}
		}()
		err := h.engine.Wait(until, after)
		if until.Err() != nil && ctx.Err() == nil {
			return driver.ErrClosed
		}
		return err
	})
}

func (h *handle) Head(ctx context.Context) (uint64, error) {
	return ask(h, func() (uint64, error) { return h.engine.Head(ctx) })
}

func (h *handle) Stream(ctx context.Context, stream string) (driver.StreamInfo, error) {
	return ask(h, func() (driver.StreamInfo, error) { return h.engine.Stream(ctx, stream) })
}

func (h *handle) Streams(ctx context.Context, category, after string, limit int) ([]driver.StreamInfo, error) {
	return ask(h, func() ([]driver.StreamInfo, error) { return h.engine.Streams(ctx, category, after, limit) })
}

func (h *handle) Categories(ctx context.Context) ([]string, error) {
	return ask(h, func() ([]string, error) { return h.engine.Categories(ctx) })
}

func (h *handle) Truncate(ctx context.Context, stream string, before uint64) error {
	return h.do(func() error { return h.engine.Truncate(ctx, stream, before) })
}

func (h *handle) Delete(ctx context.Context, stream string, expected int64) error {
	return h.do(func() error { return h.engine.Delete(ctx, stream, expected) })
}

func (h *handle) Purge(ctx context.Context, stream string) error {
	return h.do(func() error { return h.engine.Purge(ctx, stream) })
}

func (h *handle) PositionAt(ctx context.Context, t time.Time) (uint64, error) {
	return ask(h, func() (uint64, error) { return h.engine.PositionAt(ctx, t) })
}

func (h *handle) SaveSnapshot(ctx context.Context, stream string, s driver.Snapshot) error {
	return h.do(func() error { return h.engine.SaveSnapshot(ctx, stream, s) })
}

func (h *handle) LoadSnapshot(ctx context.Context, stream string) (s driver.Snapshot, ok bool, err error) {
	err = h.do(func() error {
		s, ok, err = h.engine.LoadSnapshot(ctx, stream)
		return err
	})
	return s, ok, err
}

func (h *handle) DeleteSnapshot(ctx context.Context, stream string) error {
	return h.do(func() error { return h.engine.DeleteSnapshot(ctx, stream) })
}

func (h *handle) LoadCheckpoint(ctx context.Context, name string) (c driver.Checkpoint, ok bool, err error) {
	err = h.do(func() error {
		c, ok, err = h.engine.LoadCheckpoint(ctx, name)
		return err
	})
	return c, ok, err
}

func (h *handle) SaveCheckpoint(ctx context.Context, name string, from *driver.Checkpoint, to driver.Checkpoint) error {
	return h.do(func() error { return h.engine.SaveCheckpoint(ctx, name, from, to) })
}

func (h *handle) DeleteCheckpoint(ctx context.Context, name string) error {
	return h.do(func() error { return h.engine.DeleteCheckpoint(ctx, name) })
}

func (h *handle) Checkpoints(ctx context.Context, prefix string) (map[string]driver.Checkpoint, error) {
	return ask(h, func() (map[string]driver.Checkpoint, error) { return h.engine.Checkpoints(ctx, prefix) })
}

func (h *handle) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (fence uint64, ok bool, err error) {
	err = h.do(func() error {
		fence, ok, err = h.engine.Acquire(ctx, name, owner, ttl)
		return err
	})
	return fence, ok, err
}

func (h *handle) Release(ctx context.Context, name, owner string, fence uint64) error {
	return h.do(func() error { return h.engine.Release(ctx, name, owner, fence) })
}

func (h *handle) Leases(ctx context.Context, prefix string) ([]driver.Lease, error) {
	return ask(h, func() ([]driver.Lease, error) { return h.engine.Leases(ctx, prefix) })
}

// As gives the handle itself to Share, and what the engine gives.
func (h *handle) As(target any) bool {
	if p, ok := target.(**handle); ok {
		*p = h
		return true
	}
	return viewer{h.engine}.As(target)
}
