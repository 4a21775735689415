package retention

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/levada-go/levada/eventstore"
)

// A Reader knows how far those who follow the store are, by name. A *projection.Group is one.
type Reader interface {
	Positions(ctx context.Context) (map[string]eventstore.Position, error)
}

// A Keeper removes events that everybody has seen. It is safe for concurrent use, if its fields are not changed.
type Keeper struct {
	Store *eventstore.Store
	// Readers are asked before anything is removed, besides the consumers of the store ([eventstore.Store.Consume]). A Group
	// also tells of events that are parked, and of those that instances of its processes are stuck at.
	// Aggregates need their own streams always: what they still fold must not be truncated without a snapshot.
	Readers []Reader
}

// A BehindError reports that events cannot be removed yet: somebody has to see them first. Nothing was changed.
type BehindError struct {
	Stream   eventstore.StreamName
	Reader   string              // a consumer or a projection
	Position eventstore.Position // that it has reached
	Needs    eventstore.Position // of the last event that was to be removed
}

func (e *BehindError) Error() string {
	return fmt.Sprintf("retention: %s: %s is at position %d and has yet to see what is at %d", e.Stream, e.Reader, e.Position, e.Needs)
}

// Truncate is [eventstore.Store.Truncate] for events that everybody has seen; else its error is a *[BehindError].
func (k *Keeper) Truncate(ctx context.Context, stream eventstore.StreamName, before eventstore.Version) error {
	if err := k.seen(ctx, stream, before); err != nil {
		return err
	}
	return k.Store.Truncate(ctx, stream, before)
}

// Delete is [eventstore.Store.Delete] for a stream that everybody has seen; else its error is a *[BehindError].
// What is appended in the meantime is only seen by an expectation.
func (k *Keeper) Delete(ctx context.Context, stream eventstore.StreamName, expected eventstore.Expected) error {
	if err := k.seen(ctx, stream, 0); err != nil {
		return err
	}
	return k.Store.Delete(ctx, stream, expected)
}

// Purge is [eventstore.Store.Purge] for a stream that everybody has seen; else its error is a *[BehindError]. Nobody should
// append to the stream any more: what is appended in the meantime is removed unseen.
func (k *Keeper) Purge(ctx context.Context, stream eventstore.StreamName) error {
	if err := k.seen(ctx, stream, 0); err != nil {
		return err
	}
	return k.Store.Purge(ctx, stream)
}

// seen returns an error if somebody has not passed the last event of stream before a version; 0 is the end.
func (k *Keeper) seen(ctx context.Context, stream eventstore.StreamName, before eventstore.Version) error {
	var last eventstore.Position
	for r, err := range k.Store.ReadStreamBackward(ctx, stream, before) {
		if errors.Is(err, eventstore.ErrStreamDeleted) {
			return nil // nothing is left to be seen
		}
		if err != nil {
			return err
		}
		last = r.Position
		break
	}
	if last == 0 {
		return nil
	}
	positions, err := k.positions(ctx)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(positions)) {
		if pos := positions[name]; pos < last {
			return &BehindError{stream, name, pos, last}
		}
	}
	return nil
}

func (k *Keeper) positions(ctx context.Context) (map[string]eventstore.Position, error) {
	all := map[string]eventstore.Position{}
	consumers, err := k.Store.Consumers(ctx)
	if err != nil && !errors.Is(err, eventstore.ErrUnsupported) { // a store without leases has no consumers
		return nil, err
	}
	for _, c := range consumers {
		all["consumer "+c.Name] = c.Position
	}
	for _, r := range k.Readers {
		positions, err := r.Positions(ctx)
		if err != nil {
			return nil, fmt.Errorf("retention: %w", err)
		}
		for name, pos := range positions {
			if old, ok := all[name]; !ok || pos < old {
				all[name] = pos
			}
		}
	}
	return all, nil
}
