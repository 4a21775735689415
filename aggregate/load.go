package aggregate

import (
	"context"
	"fmt"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
)

// appended is told of every append of this process to a stream of the category.
func (r *Repository[S]) appended(stream eventstore.StreamName, v eventstore.Version) {
	r.mu.Lock()
	in := r.instances[stream.ID()]
	r.mu.Unlock()
	if in == nil || in.stream != stream {
		return
	}
	if v == 0 {
		in.forget.Store(true)
		return
	}
	for {
		have := in.latest.Load()
		if have >= uint64(v) || in.latest.CompareAndSwap(have, uint64(v)) {
			return
		}
	}
}

// stale reports whether the state is known not to be the latest.
func (in *instance[S]) stale() bool {
	return in.suspect || in.forget.Load() || eventstore.Version(in.latest.Load()) > in.version
}

// current brings in up to date as far as this process knows.
func (r *Repository[S]) current(ctx context.Context, in *instance[S]) error {
	if in.forget.Swap(false) {
		in.loaded = false
	}
	if in.loaded && !in.stale() {
		return nil
	}
	told := in.latest.Load()
	if err := r.load(ctx, in); err != nil {
		in.loaded = false // it may be half folded
		return fmt.Errorf("aggregate %s: %w", in.stream, err)
	}
	in.loaded, in.suspect = true, false
	if told > uint64(in.version) {
		// What was appended before the load and is not there now, another process has
		// deleted.
		in.latest.CompareAndSwap(told, uint64(in.version))
	}
	return nil
}

func (in *instance[S]) clear() {
	in.state, in.version, in.keys, in.owners.have = *new(S), 0, keyMemory{}, nil
}

// load folds into in what it has not seen.
func (r *Repository[S]) load(ctx context.Context, in *instance[S]) error {
	if !in.loaded {
		in.clear()
		if err := r.restore(ctx, in); err != nil {
			return err
		}
	}
	if in.version > 0 {
		// The state counts only if it belongs to what the stream holds now. A
		// snapshot may also have been written after the stream was deleted, or stem
		// from events that a backup does not have.
		info, err := r.store.Stream(ctx, in.stream)
		if err != nil {
			return err
		}
		switch {
		case info.Origin >= in.version || info.Version < in.version: // a deleted stream ends at its origin
			in.clear()
		case info.Version == in.version:
			return nil
		}
	}
	fresh, err := r.fold(ctx, in)
	if err != nil || !fresh {
		return err
	}
	// An event may have been read before somebody was erased whom it is about.
	if lost, err := r.lost(ctx, in); err != nil || !lost {
		return err
	}
	in.loaded = false
	return r.load(ctx, in)
}

// fold applies the events after in.version. It reports whether they are about somebody whom none was about before.
func (r *Repository[S]) fold(ctx context.Context, in *instance[S]) (fresh bool, err error) {
	var last lastKey
	for page, err := range r.store.ReadStreamPages(ctx, in.stream, in.version) {
		if err != nil {
			return fresh, err
		}
		if page.First > in.version+1 {
			info, err := r.store.Stream(ctx, in.stream)
			if err != nil {
				return fresh, err
			}
			if info.Origin+1 != page.First {
				return fresh, fmt.Errorf("%w: it starts at version %d, and version %d is needed", ErrTruncated, page.First, in.version+1)
			}
			in.clear() // the stream was deleted and began anew
		}
		for _, rec := range page.Events {
			if err := in.apply(rec); err != nil {
				return fresh, err
			}
			if r.seals() && in.owners.add(r.copies.Subjects(&rec.Event)) {
				fresh = true
			}
			if rec.Part == 0 {
				last.see(&in.keys, rec, r.t.Keys)
			}
		}
		in.version = page.Last
	}
	if in.version == 0 && in.suspect {
		// An append found the stream not to be empty.
		info, err := r.store.Stream(ctx, in.stream)
		if err != nil {
			return fresh, err
		}
		if info.Version > 0 && !info.Deleted {
			return fresh, fmt.Errorf("%w: nothing is left below version %d", ErrTruncated, info.Version+1)
		}
	}
	return fresh, nil
}

// seen returns the version that expectations see.
func seen(info eventstore.StreamInfo) eventstore.Version {
	if info.Deleted {
		return 0
	}
	return info.Version
}

// apply folds one stored event into the state.
func (in *instance[S]) apply(rec *eventstore.Recorded) (err error) {
	if rec.Err != nil {
		return rec.Err // names stream, version and type
	}
	if _, erased := rec.Data.(eventstore.Erased); erased {
		return nil
	}
	ev, ok := rec.Data.(Event[S])
	if !ok {
		return fmt.Errorf("version %d, a %s: %w: not an event of this aggregate", rec.Version, rec.Type, eventstore.ErrUnregistered)
	}
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("version %d, a %s: %w", rec.Version, rec.Type, command.NewPanicError(v))
		}
	}()
	ev.Apply(&in.state)
	return nil
}

// A lastKey is the command whose events are being read, if it has a key. All its
// events have the command as their cause, and only the first has the key.
type lastKey struct {
	key   string
	cause eventstore.ID
}

func (l *lastKey) see(m *keyMemory, rec *eventstore.Recorded, max int) {
	if key := rec.Metadata[keyMeta]; key != "" {
		*l = lastKey{key, rec.Causation}
		m.add(eventstore.KeyAt{Key: key, Version: rec.Version, Position: rec.Position}, max)
		return
	}
	if l.key == "" || rec.Causation != l.cause || rec.Causation == (eventstore.ID{}) {
		*l = lastKey{}
		return
	}
	m.extend(l.key, rec.Version, rec.Position)
}
