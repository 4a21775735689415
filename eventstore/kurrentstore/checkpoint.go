package kurrentstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/levada-go/levada/eventstore/driver"
)

// A checkpoint is the last event of a stream of its own, which keeps one event.
// That it is compared and set is the stream's exact revision.
const (
	typeCheckpoint = "levada.checkpoint"
	typeForgotten  = "levada.forgotten" // it was deleted
)

type storedCheckpoint struct {
	Position uint64 `json:"position"`
	Fence    uint64 `json:"fence"`
	Data     []byte `json:"data,omitempty"`
}

// loadCheckpoint returns a checkpoint and the version of its stream.
func (d *store) loadCheckpoint(ctx context.Context, name string) (c driver.Checkpoint, ok bool, version uint64, err error) {
	cell, err := d.loadCell(ctx, checkpointPrefix+name)
	if err != nil || cell.event == nil || cell.event.GetMetadata()[wireType] != typeCheckpoint {
		return driver.Checkpoint{}, false, cell.version, err
	}
	var s storedCheckpoint
	if err := json.Unmarshal(cell.event.GetData(), &s); err != nil {
		return driver.Checkpoint{}, false, 0, fmt.Errorf("%w: checkpoint %q: %w", ErrServer, name, err)
	}
	return driver.Checkpoint{Position: s.Position, Fence: s.Fence, Data: s.Data}, true, cell.version, nil
}

// LoadCheckpoint reads a checkpoint, as the leader has it.
func (d *store) LoadCheckpoint(ctx context.Context, name string) (c driver.Checkpoint, ok bool, err error) {
	ctx, done, err := d.g.begin(ctx)
	if err != nil {
		return driver.Checkpoint{}, false, err
	}
	defer done()
	c, ok, _, err = d.loadCheckpoint(ctx, name)
	return c, ok, err
}

// SaveCheckpoint compares and sets a checkpoint.
func (d *store) SaveCheckpoint(ctx context.Context, name string, from *driver.Checkpoint, to driver.Checkpoint) error {
	ctx, done, err := d.g.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	if !validCheckpoint(name) {
		return fmt.Errorf("kurrentstore: bad name of a checkpoint: %.40q", name)
	}
	data, err := json.Marshal(storedCheckpoint{to.Position, to.Fence, to.Data})
	if err != nil {
		return err
	}
	e := driver.Event{ID: uuid.New(), Type: typeCheckpoint, ContentType: wireJSON, Data: data}
	for pause := minRetry; ; pause = min(2*pause, maxRetry) {
		have, ok, version, err := d.loadCheckpoint(ctx, name)
		if err != nil {
			return err
		}
		if ok != (from != nil) || ok && (have.Position != from.Position || have.Fence != from.Fence || have.Fence > to.Fence) {
			return driver.ErrMoved
		}
		if !d.checkpoints.known(name) {
			if err := d.set(ctx, &d.checkpoints, name, true); err != nil {
				return err
			}
		}
		if version == 0 {
			if err := d.keepOne(ctx, checkpointPrefix+name); err != nil {
				return err
			}
		}
		_, err = d.put(ctx, checkpointPrefix+name, version, e)
		if err == nil && !ok {
			// Who has just deleted it may have taken it off the list in between.
			return d.set(ctx, &d.checkpoints, name, true)
		}
		var wrong *errWrongVersion
		if !errors.As(err, &wrong) {
			return err
		}
		if err := d.pause(ctx, pause); err != nil {
			return err
		}
	}
}

func validCheckpoint(name string) bool { return name != "" && !strings.ContainsRune(name, 0) }

// DeleteCheckpoint forgets a checkpoint. Its stream stays, with an event that says so.
func (d *store) DeleteCheckpoint(ctx context.Context, name string) error {
	ctx, done, err := d.g.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	for pause := minRetry; ; pause = min(2*pause, maxRetry) {
		_, ok, version, err := d.loadCheckpoint(ctx, name)
		if err != nil || !ok {
			return err
		}
		_, err = d.put(ctx, checkpointPrefix+name, version, driver.Event{ID: uuid.New(), Type: typeForgotten, ContentType: wireJSON, Data: []byte("{}")})
		if err == nil {
			return d.unlist(ctx, name)
		}
		var wrong *errWrongVersion
		if !errors.As(err, &wrong) {
			return err
		}
		if err := d.pause(ctx, pause); err != nil {
			return err
		}
	}
}

// unlist takes a deleted checkpoint off the list, and puts it back if another
// process has saved one in between. That one looks at the list after it has saved, so one of the two notices.
func (d *store) unlist(ctx context.Context, name string) error {
	if err := d.set(ctx, &d.checkpoints, name, false); err != nil {
		return err
	}
	_, ok, _, err := d.loadCheckpoint(ctx, name)
	if err != nil || !ok {
		return err
	}
	return d.set(ctx, &d.checkpoints, name, true)
}

// Checkpoints reads the list of checkpoints, and then each of those that are asked for.
func (d *store) Checkpoints(ctx context.Context, prefix string) (map[string]driver.Checkpoint, error) {
	ctx, done, err := d.g.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	names, err := d.list(ctx, &d.checkpoints)
	if err != nil {
		return nil, err
	}
	var wanted []string
	for _, name := range names {
		if strings.HasPrefix(name, prefix) {
			wanted = append(wanted, name)
		}
	}
	list := make([]*driver.Checkpoint, len(wanted))
	err = each(ctx, len(wanted), func(ctx context.Context, i int) error {
		c, ok, _, err := d.loadCheckpoint(ctx, wanted[i])
		if ok {
			list[i] = &c
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	out := map[string]driver.Checkpoint{}
	for i, c := range list {
		if c != nil {
			out[wanted[i]] = *c
		}
	}
	return out, nil
}

// atOnce is how many reads of a list are under way together.
const atOnce = 16

// each calls do for 0 … n-1, several at once, and returns one of the errors.
func each(ctx context.Context, n int, do func(context.Context, int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	done := make(chan struct{})
	workers := min(n, atOnce)
	for range workers {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range next {
				if err := do(ctx, i); err != nil {
					cancel(err)
				}
			}
		}()
	}
	for i := range n {
		next <- i
	}
	close(next)
	for range workers {
		<-done
	}
	return context.Cause(ctx)
}
