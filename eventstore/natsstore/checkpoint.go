package natsstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"

	"github.com/levada-go/levada/eventstore/driver"
)

// Checkpoints are kept in the bucket <name>-cp: 8 bytes of position, 8 of fence,
// big endian, then the data.

// A revisions remembers what this process saved last, so that the next save need
// not look.
type revisions struct {
	mu    sync.Mutex
	saved map[string]savedCheckpoint
}

type savedCheckpoint struct {
	position, fence, revision uint64
}

const rememberedRevisions = 4096

func (r *revisions) get(name string) (savedCheckpoint, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.saved[name]
	return c, ok
}

func (r *revisions) put(name string, c savedCheckpoint) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.saved == nil || len(r.saved) >= rememberedRevisions {
		r.saved = map[string]savedCheckpoint{}
	}
	r.saved[name] = c
}

func (r *revisions) drop(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.saved, name)
}

// LoadCheckpoint implements [driver.Checkpointer].
func (s *store) LoadCheckpoint(ctx context.Context, name string) (driver.Checkpoint, bool, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return driver.Checkpoint{}, false, err
	}
	defer leave()
	it, err := s.checkpoints.get(ctx, token(name))
	if err != nil || !it.found {
		return driver.Checkpoint{}, false, err
	}
	c, err := parseCheckpoint(it)
	return c, err == nil, err
}

func parseCheckpoint(it item) (driver.Checkpoint, error) {
	if len(it.value) < 16 {
		return driver.Checkpoint{}, fmt.Errorf("%w: the checkpoint %s has %d bytes", ErrNotStore, it.key, len(it.value))
	}
	c := driver.Checkpoint{Position: binary.BigEndian.Uint64(it.value), Fence: binary.BigEndian.Uint64(it.value[8:])}
	if len(it.value) > 16 {
		c.Data = bytes.Clone(it.value[16:])
	}
	return c, nil
}

// SaveCheckpoint implements [driver.Checkpointer].
func (s *store) SaveCheckpoint(ctx context.Context, name string, from *driver.Checkpoint, to driver.Checkpoint) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	b := &s.checkpoints
	if n := len(to.Data); n > b.payload-recordOverhead {
		return fmt.Errorf("%w: a checkpoint of %d bytes, of %d", driver.ErrTooLarge, n, b.payload-recordOverhead)
	}
	value := binary.BigEndian.AppendUint64(nil, to.Position)
	value = append(binary.BigEndian.AppendUint64(value, to.Fence), to.Data...)
	known, ok := s.saved.get(name)
	ok = ok && from != nil && known.position == from.Position && known.fence == from.Fence && to.Fence >= known.fence
	for {
		if !ok {
			it, err := b.get(ctx, token(name))
			if err != nil {
				return err
			}
			if it.found != (from != nil) {
				return driver.ErrMoved
			}
			if known = (savedCheckpoint{revision: it.revision}); it.found {
				have, err := parseCheckpoint(it)
				if err != nil {
					return err
				}
				if have.Position != from.Position || have.Fence != from.Fence || have.Fence > to.Fence {
					return driver.ErrMoved
				}
			}
		}
		revision, put, err := b.put(ctx, known.revision, b.value(token(name), nil, value))
		if err != nil {
			s.saved.drop(name)
			return err
		}
		if put {
			s.saved.put(name, savedCheckpoint{to.Position, to.Fence, revision})
			return nil
		}
		ok = false // what was remembered was old, or another was quicker
	}
}

// DeleteCheckpoint implements [driver.Checkpointer].
func (s *store) DeleteCheckpoint(ctx context.Context, name string) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	s.saved.drop(name)
	return s.checkpoints.remove(ctx, token(name))
}

// Checkpoints implements [driver.Checkpointer].
func (s *store) Checkpoints(ctx context.Context, prefix string) (map[string]driver.Checkpoint, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	list, _, err := s.checkpoints.list(ctx, hasPrefix(prefix))
	if err != nil {
		return nil, err
	}
	m := make(map[string]driver.Checkpoint, len(list))
	for _, it := range list {
		name, _ := untoken(it.key)
		if m[name], err = parseCheckpoint(it); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// hasPrefix matches the keys of names that start with a prefix.
func hasPrefix(prefix string) func(string) bool {
	return func(key string) bool {
		name, ok := untoken(key)
		return ok && strings.HasPrefix(name, prefix)
	}
}
