package projection

import (
	"context"
	"errors"
	"fmt"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
)

// Checkpointed returns a Target for what has no transactions: a search index, a cache, another
// service. Handlers write to it by themselves, and are given nothing to write through; the
// position is kept in the store, as a checkpoint named "$projection." and the projection's name.
//
// It is written after the handlers of a batch have returned. So an event is handled at least
// once, and again when a later one of its batch fails, when the position could not be
// written, when a process ends at the wrong time, or when another process handles the same
// projection: handlers must make no difference between once and twice, for instance by
// writing what is so rather than what has changed, under a key of the event. Package
// projectiontest has a check for that. What Skip and Park leave out may have been
// written in part.
//
// Reset sets the position to 0 and empties nothing. A store without checkpoints gives
// eventstore.ErrUnsupported when the projection runs.
func Checkpointed(store *eventstore.Store) Target[struct{}] { return &checkpointed{store} }

type checkpointed struct{ store *eventstore.Store }

const checkpointPrefix = "$projection."

func (c *checkpointed) load(ctx context.Context, name string) (driver.Checkpointer, driver.Checkpoint, bool, error) {
	points, err := c.store.Checkpoints()
	if err != nil {
		return nil, driver.Checkpoint{}, false, err
	}
	p, ok, err := points.LoadCheckpoint(ctx, checkpointPrefix+name)
	return points, p, ok, err
}

// Load implements Target.
func (c *checkpointed) Load(ctx context.Context, name string) (eventstore.Position, error) {
	_, p, _, err := c.load(ctx, name)
	return eventstore.Position(p.Position), err
}

// Update implements Target, but that what fn does stays if it fails, or the position
// cannot be moved.
func (c *checkpointed) Update(ctx context.Context, name string, from, to eventstore.Position, fn func(struct{}) error) error {
	points, p, ok, err := c.load(ctx, name)
	if err != nil {
		return err
	}
	if eventstore.Position(p.Position) != from {
		return ErrMoved
	}
	if err := fn(struct{}{}); err != nil {
		return err
	}
	expected := &p
	if !ok {
		expected = nil
	}
	return points.SaveCheckpoint(ctx, checkpointPrefix+name, expected, driver.Checkpoint{Position: uint64(to), Fence: p.Fence})
}

// Reset implements Target.
func (c *checkpointed) Reset(ctx context.Context, name string) error {
	points, err := c.store.Checkpoints()
	if err != nil {
		return err
	}
	below, err := points.Checkpoints(ctx, checkpointPrefix+name+"/")
	if err != nil {
		return err
	}
	errs := []error{points.DeleteCheckpoint(ctx, checkpointPrefix+name)}
	for name := range below {
		errs = append(errs, points.DeleteCheckpoint(ctx, name))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("projection: reset %s: %w", name, err)
	}
	return nil
}
