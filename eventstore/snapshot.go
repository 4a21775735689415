package eventstore

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/internal/system"
)

// A Snapshot is the state of a stream at a version.
type Snapshot struct {
	Version Version
	// Schema lets a reader ignore snapshots of another shape.
	Schema int
	Data   []byte
	// Keys are the idempotency keys of the latest commands, oldest first.
	Keys []KeyAt
}

// A KeyAt is an idempotency key and where its command's events ended.
type KeyAt struct {
	Key      string   `json:"key"`
	Version  Version  `json:"version"`
	Position Position `json:"position"`
}

// storedSnapshot is what drivers keep as a snapshot's data: JSON, with the state
// as it is where that is JSON too, so that people can read it.
type storedSnapshot struct {
	State json.RawMessage `json:"state,omitempty"`
	Bytes []byte          `json:"bytes,omitempty"`
	Keys  []KeyAt         `json:"keys,omitempty"`
}

// LoadSnapshot returns the latest snapshot of stream; its zero value if there is none.
func (s *Store) LoadSnapshot(ctx context.Context, stream StreamName) (Snapshot, error) {
	stored, ok, err := s.loadSnapshot(ctx, stream)
	if err != nil || !ok {
		return Snapshot{}, err
	}
	var env storedSnapshot
	if err := json.Unmarshal(stored.Data, &env); err != nil {
		return Snapshot{}, fmt.Errorf("eventstore: snapshot of %s: %w: %w", stream, ErrCodec, err)
	}
	snap := Snapshot{Version: Version(stored.Version), Schema: stored.Schema, Data: env.Bytes, Keys: env.Keys}
	if env.State != nil {
		snap.Data = env.State
	}
	return snap, nil
}

// SaveSnapshot replaces the snapshot of stream, unless the stored one has a
// higher version: then it does nothing.
func (s *Store) SaveSnapshot(ctx context.Context, stream StreamName, snap Snapshot) error {
	if err := stream.Validate(); err != nil {
		return fmt.Errorf("eventstore: snapshot: %w", err)
	}
	env := storedSnapshot{Keys: snap.Keys}
	if json.Valid(snap.Data) {
		env.State = snap.Data
	} else {
		env.Bytes = snap.Data
	}
	data, err := json.Marshal(env)
	if err != nil {
		return fmt.Errorf("eventstore: snapshot of %s: %w: %w", stream, ErrCodec, err)
	}
	stored := driver.Snapshot{Version: uint64(snap.Version), Schema: snap.Schema, Data: data}
	if d, ok := s.d.(driver.Snapshotter); ok {
		err = d.SaveSnapshot(ctx, string(stream), stored)
	} else {
		err = s.appendSnapshot(ctx, stream, stored)
	}
	if err != nil {
		return fmt.Errorf("eventstore: snapshot of %s: %w", stream, err)
	}
	return nil
}

// Where the driver keeps no snapshots, a stream beside the stream does: one
// event a snapshot, of which the last counts.
const (
	snapshotCategory = "$snapshot"
	snapshotType     = "$snapshot"
	schemaMeta       = "$schema"
	versionMeta      = "$version"
)

func snapshotStream(stream StreamName) StreamName { return snapshotCategory + "-" + stream }

func (s *Store) loadSnapshot(ctx context.Context, stream StreamName) (driver.Snapshot, bool, error) {
	if d, ok := s.d.(driver.Snapshotter); ok {
		snap, ok, err := d.LoadSnapshot(ctx, string(stream))
		if err != nil {
			return snap, false, fmt.Errorf("eventstore: snapshot of %s: %w", stream, err)
		}
		return snap, ok, nil
	}
	for r, err := range s.ReadStreamBackward(ctx, snapshotStream(stream), 0) {
		if err != nil {
			return driver.Snapshot{}, false, err
		}
		snap := driver.Snapshot{Data: r.Raw}
		if _, err := fmt.Sscan(r.Metadata[versionMeta]+" "+r.Metadata[schemaMeta], &snap.Version, &snap.Schema); err != nil {
			return snap, false, fmt.Errorf("eventstore: snapshot of %s: %w: %w", stream, ErrCodec, err)
		}
		return snap, true, nil
	}
	return driver.Snapshot{}, false, nil
}

func (s *Store) appendSnapshot(ctx context.Context, stream StreamName, snap driver.Snapshot) error {
	name := snapshotStream(stream)
	if err := name.Validate(); err != nil {
		return err
	}
	have, ok, err := s.loadSnapshot(ctx, stream)
	if err != nil || ok && have.Version > snap.Version {
		return err
	}
	at, err := s.Append(system.Context(ctx), name, Any, Event{
		Type: snapshotType, Raw: snap.Data, ContentType: JSON.ContentType(),
		Metadata: map[string]string{versionMeta: fmt.Sprint(snap.Version), schemaMeta: fmt.Sprint(snap.Schema)},
	})
	if err != nil {
		return err
	}
	if d, ok := s.d.(driver.Deleter); ok {
		return d.Truncate(ctx, string(name), uint64(at.Version))
	}
	return nil
}

// dropSnapshot forgets the snapshot of a stream whose events are gone.
func (s *Store) dropSnapshot(ctx context.Context, stream StreamName) error {
	if d, ok := s.d.(driver.Snapshotter); ok {
		return d.DeleteSnapshot(ctx, string(stream))
	}
	if d, ok := s.d.(driver.Deleter); ok {
		return d.Delete(ctx, string(snapshotStream(stream)), driver.Any)
	}
	return nil
}
