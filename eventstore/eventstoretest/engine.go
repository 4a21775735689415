package eventstoretest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
)

// An Engine is a driver with every optional interface of package driver, as memstore's
// is. Tests embed one to change some of its methods.
type Engine interface {
	driver.Store
	driver.Batcher
	driver.Inliner
	driver.Atomic
	driver.Lister
	driver.Deleter
	driver.Dater
	driver.Snapshotter
	driver.Checkpointer
	driver.Leaser
	driver.Conditional
	driver.Viewer
}

// Capabilities names the optional interfaces that d has, in the order of [Engine]
// and with a space between them, but for Viewer.
func Capabilities(d driver.Store) string {
	var list []string
	add := func(name string, ok bool) {
		if ok {
			list = append(list, name)
		}
	}
	add("Batcher", is[driver.Batcher](d))
	add("Inliner", is[driver.Inliner](d))
	add("Atomic", is[driver.Atomic](d))
	add("Lister", is[driver.Lister](d))
	add("Deleter", is[driver.Deleter](d))
	add("Dater", is[driver.Dater](d))
	add("Snapshotter", is[driver.Snapshotter](d))
	add("Checkpointer", is[driver.Checkpointer](d))
	add("Leaser", is[driver.Leaser](d))
	add("Conditional", is[driver.Conditional](d))
	return strings.Join(list, " ")
}

func is[T any](d driver.Store) bool {
	_, ok := d.(T)
	return ok
}

// engineOf returns d as an Engine. What d cannot do, the engine cannot either,
// though it has the methods: like hides them.
func engineOf(d driver.Store) Engine {
	if e, ok := d.(Engine); ok {
		return e
	}
	return partial{d}
}

// like returns e with the capabilities of d alone, since a store finds them by
// type assertion. There is a type for each set of capabilities that engines
// have.
func like(t testing.TB, e Engine, d driver.Store) driver.Store {
	t.Helper()
	type plain struct {
		driver.Store
		driver.Viewer
	}
	base := plain{e, viewer{e}}
	switch set := Capabilities(d); set {
	case "Batcher Inliner Atomic Lister Deleter Dater Snapshotter Checkpointer Leaser Conditional":
		return e
	case "Batcher Inliner Lister Deleter Dater Snapshotter Checkpointer Leaser Conditional":
		return struct {
			plain
			driver.Batcher
			driver.Inliner
			driver.Lister
			driver.Deleter
			driver.Dater
			driver.Snapshotter
			driver.Checkpointer
			driver.Leaser
			driver.Conditional
		}{base, e, e, e, e, e, e, e, e, e}
	case "Atomic Lister Deleter Dater Snapshotter Checkpointer Leaser":
		return struct {
			plain
			driver.Atomic
			driver.Lister
			driver.Deleter
			driver.Dater
			driver.Snapshotter
			driver.Checkpointer
			driver.Leaser
		}{base, e, e, e, e, e, e, e}
	case "Batcher Lister Deleter Dater Snapshotter Checkpointer Leaser Conditional":
		return struct {
			plain
			driver.Batcher
			driver.Lister
			driver.Deleter
			driver.Dater
			driver.Snapshotter
			driver.Checkpointer
			driver.Leaser
			driver.Conditional
		}{base, e, e, e, e, e, e, e, e}
	case "Lister Deleter Dater Snapshotter Checkpointer Leaser Conditional":
		return struct {
			plain
			driver.Lister
			driver.Deleter
			driver.Dater
			driver.Snapshotter
			driver.Checkpointer
			driver.Leaser
			driver.Conditional
		}{base, e, e, e, e, e, e, e}
	case "Lister Deleter Dater Snapshotter Checkpointer Leaser":
		return struct {
			plain
			driver.Lister
			driver.Deleter
			driver.Dater
			driver.Snapshotter
			driver.Checkpointer
			driver.Leaser
		}{base, e, e, e, e, e, e}
	case "Deleter Dater Snapshotter Checkpointer Leaser":
		return struct {
			plain
			driver.Deleter
			driver.Dater
			driver.Snapshotter
			driver.Checkpointer
			driver.Leaser
		}{base, e, e, e, e, e}
	case "Deleter Dater Checkpointer Leaser":
		return struct {
			plain
			driver.Deleter
			driver.Dater
			driver.Checkpointer
			driver.Leaser
		}{base, e, e, e, e}
	case "Deleter Snapshotter Checkpointer Leaser":
		return struct {
			plain
			driver.Deleter
			driver.Snapshotter
			driver.Checkpointer
			driver.Leaser
		}{base, e, e, e, e}
	case "Lister Deleter Dater Checkpointer Leaser":
		return struct {
			plain
			driver.Lister
			driver.Deleter
			driver.Dater
			driver.Checkpointer
			driver.Leaser
		}{base, e, e, e, e, e}
	case "Deleter Checkpointer Leaser":
		return struct {
			plain
			driver.Deleter
			driver.Checkpointer
			driver.Leaser
		}{base, e, e, e}
	case "Checkpointer Leaser":
		return struct {
			plain
			driver.Checkpointer
			driver.Leaser
		}{base, e, e}
	case "":
		return base
	default:
		t.Fatalf("eventstoretest: %T is a driver of a new kind: %s", d, set)
		return nil
	}
}

// A viewer gives the engine's own handles, if the engine does.
type viewer struct{ d driver.Store }

func (v viewer) As(target any) bool {
	x, ok := v.d.(driver.Viewer)
	return ok && x.As(target)
}

// A partial is a driver with the methods of every optional interface. Those that
// the driver does not have fail.
type partial struct{ driver.Store }

// have returns a driver as an optional interface.
func have[T any](d driver.Store) (T, error) {
	v, ok := d.(T)
	if !ok {
		return v, fmt.Errorf("%T: %w", d, errors.ErrUnsupported)
	}
	return v, nil
}

func (p partial) As(target any) bool { return viewer{p.Store}.As(target) }

func (p partial) AppendBatch(ctx context.Context, as []driver.Append) []driver.Result {
	d, err := have[driver.Batcher](p.Store)
	if err != nil {
		return failed(len(as), err)
	}
	return d.AppendBatch(ctx, as)
}

func (p partial) AppendWith(ctx context.Context, as []driver.Append, fn func(tx any, events []driver.Recorded) error) []driver.Result {
	d, err := have[driver.Inliner](p.Store)
	if err != nil {
		return failed(len(as), err)
	}
	return d.AppendWith(ctx, as, fn)
}

func (p partial) AppendAtomic(ctx context.Context, as []driver.Append, fn func(tx any, events []driver.Recorded) error) ([]driver.Result, error) {
	d, err := have[driver.Atomic](p.Store)
	if err != nil {
		return nil, err
	}
	return d.AppendAtomic(ctx, as, fn)
}

// failed returns n results with an error.
func failed(n int, err error) []driver.Result {
	list := make([]driver.Result, n)
	for i := range list {
		list[i].Err = err
	}
	return list
}

func (p partial) Streams(ctx context.Context, category, after string, limit int) ([]driver.StreamInfo, error) {
	d, err := have[driver.Lister](p.Store)
	if err != nil {
		return nil, err
	}
	return d.Streams(ctx, category, after, limit)
}

func (p partial) Categories(ctx context.Context) ([]string, error) {
	d, err := have[driver.Lister](p.Store)
	if err != nil {
		return nil, err
	}
	return d.Categories(ctx)
}

func (p partial) Truncate(ctx context.Context, stream string, before uint64) error {
	d, err := have[driver.Deleter](p.Store)
	if err != nil {
		return err
	}
	return d.Truncate(ctx, stream, before)
}

func (p partial) Delete(ctx context.Context, stream string, expected int64) error {
	d, err := have[driver.Deleter](p.Store)
	if err != nil {
		return err
	}
	return d.Delete(ctx, stream, expected)
}

func (p partial) Purge(ctx context.Context, stream string) error {
	d, err := have[driver.Deleter](p.Store)
	if err != nil {
		return err
	}
	return d.Purge(ctx, stream)
}

func (p partial) PositionAt(ctx context.Context, t time.Time) (uint64, error) {
	d, err := have[driver.Dater](p.Store)
	if err != nil {
		return 0, err
	}
	return d.PositionAt(ctx, t)
}

func (p partial) SaveSnapshot(ctx context.Context, stream string, s driver.Snapshot) error {
	d, err := have[driver.Snapshotter](p.Store)
	if err != nil {
		return err
	}
	return d.SaveSnapshot(ctx, stream, s)
}

func (p partial) LoadSnapshot(ctx context.Context, stream string) (s driver.Snapshot, ok bool, err error) {
	d, err := have[driver.Snapshotter](p.Store)
	if err != nil {
		return s, false, err
	}
	return d.LoadSnapshot(ctx, stream)
}

func (p partial) DeleteSnapshot(ctx context.Context, stream string) error {
	d, err := have[driver.Snapshotter](p.Store)
	if err != nil {
		return err
	}
	return d.DeleteSnapshot(ctx, stream)
}

func (p partial) LoadCheckpoint(ctx context.Context, name string) (c driver.Checkpoint, ok bool, err error) {
	d, err := have[driver.Checkpointer](p.Store)
	if err != nil {
		return c, false, err
	}
	return d.LoadCheckpoint(ctx, name)
}

func (p partial) SaveCheckpoint(ctx context.Context, name string, from *driver.Checkpoint, to driver.Checkpoint) error {
	d, err := have[driver.Checkpointer](p.Store)
	if err != nil {
		return err
	}
	return d.SaveCheckpoint(ctx, name, from, to)
}

func (p partial) DeleteCheckpoint(ctx context.Context, name string) error {
	d, err := have[driver.Checkpointer](p.Store)
	if err != nil {
		return err
	}
	return d.DeleteCheckpoint(ctx, name)
}

func (p partial) Checkpoints(ctx context.Context, prefix string) (map[string]driver.Checkpoint, error) {
	d, err := have[driver.Checkpointer](p.Store)
	if err != nil {
		return nil, err
	}
	return d.Checkpoints(ctx, prefix)
}

func (p partial) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (fence uint64, ok bool, err error) {
	d, err := have[driver.Leaser](p.Store)
	if err != nil {
		return 0, false, err
	}
	return d.Acquire(ctx, name, owner, ttl)
}

func (p partial) Release(ctx context.Context, name, owner string, fence uint64) error {
	d, err := have[driver.Leaser](p.Store)
	if err != nil {
		return err
	}
	return d.Release(ctx, name, owner, fence)
}

func (p partial) Leases(ctx context.Context, prefix string) ([]driver.Lease, error) {
	d, err := have[driver.Leaser](p.Store)
	if err != nil {
		return nil, err
	}
	return d.Leases(ctx, prefix)
}

func (p partial) AppendIf(ctx context.Context, items []driver.QueryItem, after uint64, events []driver.StreamEvent, fn func(tx any, events []driver.Recorded) error) driver.Result {
	d, err := have[driver.Conditional](p.Store)
	if err != nil {
		return driver.Result{Err: err}
	}
	return d.AppendIf(ctx, items, after, events, fn)
}

func (p partial) Query(ctx context.Context, items []driver.QueryItem, after uint64, limit int) ([]driver.Recorded, uint64, error) {
	d, err := have[driver.Conditional](p.Store)
	if err != nil {
		return nil, 0, err
	}
	return d.Query(ctx, items, after, limit)
}
