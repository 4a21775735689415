package aggregate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
)

// jsonSnapshot returns the default SnapshotCodec, unless it would lose part of S.
func jsonSnapshot[S any]() (*SnapshotCodec[S], error) {
	t := reflect.TypeFor[S]()
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	// The rules for events hold for states as well.
	var types eventstore.Types
	if err := types.Register("snapshot", reflect.Zero(t).Interface()); err != nil {
		return nil, fmt.Errorf("a snapshot would not restore the state: %w", err)
	}
	return &SnapshotCodec[S]{
		Encode: func(state *S) ([]byte, error) { return json.Marshal(state) },
		Decode: func(data []byte, state *S) error { return json.Unmarshal(data, state) },
	}, nil
}

// restore sets in to its snapshot, if there is one that fits. One that cannot be
// read is as good as none.
func (r *Repository[S]) restore(ctx context.Context, in *instance[S]) error {
	if r.t.SnapshotEvery <= 0 {
		return nil
	}
	snap, err := r.store.LoadSnapshot(ctx, in.stream)
	switch {
	case errors.Is(err, eventstore.ErrCodec):
		r.t.Logger.WarnContext(ctx, "aggregate: snapshot cannot be read", "stream", in.stream, "err", err)
		return nil
	case err != nil:
		return err
	case snap.Version == 0 || snap.Schema != r.t.SnapshotSchema:
		return nil
	}
	data, subjects, err := r.opened(ctx, in.stream, snap.Data)
	if errors.Is(err, eventstore.ErrErased) { // with somebody whose data the state held
		return nil
	}
	if err != nil {
		r.t.Logger.WarnContext(ctx, "aggregate: snapshot cannot be opened", "stream", in.stream, "version", snap.Version, "err", err)
		return nil
	}
	if err := guard(func() error { return r.t.Snapshot.Decode(data, &in.state) }); err != nil {
		r.t.Logger.WarnContext(ctx, "aggregate: snapshot cannot be decoded", "stream", in.stream, "version", snap.Version, "err", err)
		in.clear()
		return nil
	}
	in.version = snap.Version
	in.owners.add(subjects)
	for _, k := range snap.Keys {
		in.keys.add(k, r.t.Keys)
	}
	return nil
}

// A snapshot is one to be written.
type snapshot struct {
	eventstore.Snapshot
	owners []string // whose data it holds
}

// snapshot encodes the state as it stands and has it written in the background,
// after the one that may be on its way.
func (r *Repository[S]) snapshot(in *instance[S]) {
	snap := &snapshot{Snapshot: eventstore.Snapshot{Version: in.version, Schema: r.t.SnapshotSchema, Keys: in.keys.list()}}
	if r.seals() {
		snap.owners = in.owners.list()
	}
	err := guard(func() (err error) {
		snap.Data, err = r.t.Snapshot.Encode(&in.state)
		return err
	})
	if err != nil {
		r.t.Logger.Warn("aggregate: snapshot cannot be encoded", "stream", in.stream, "version", snap.Version, "err", err)
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.snapshot = snap
	if !in.saving {
		in.saving = true
		go r.save(in)
	}
}

// save writes snapshots until there is no newer one.
func (r *Repository[S]) save(in *instance[S]) {
	for {
		in.mu.Lock()
		snap := in.snapshot
		in.snapshot = nil
		in.mu.Unlock()
		if snap == nil {
			if r.saved(in) {
				return
			}
			continue
		}
		data, err := r.sealed(context.Background(), in.stream, snap.Data, snap.owners)
		if err == nil {
			snap.Data = data
			err = r.store.SaveSnapshot(context.Background(), in.stream, snap.Snapshot)
		}
		if err != nil && !errors.Is(err, eventstore.ErrClosed) { // the next one to load reads some more events
			r.t.Logger.Warn("aggregate: snapshot cannot be written", "stream", in.stream, "version", snap.Version, "err", err)
		}
	}
}

// saved reports that no more snapshots of in are to be written. It may be evicted then.
func (r *Repository[S]) saved(in *instance[S]) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.snapshot != nil {
		return false
	}
	in.saving = false
	r.settle(in)
	return true
}

// guard calls fn and turns a panic into an error.
func guard(fn func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = command.NewPanicError(v)
		}
	}()
	return fn()
}
