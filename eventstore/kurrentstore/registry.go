package kurrentstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/levada-go/levada/eventstore/driver"
)

// A server without its projections has no list of streams. So the driver keeps
// lists of what it has itself, each in a stream: an event for a name that comes,
// and one for a name that goes. Each process reads the list once, and then what is new.
type registry struct {
	stream string

	mu    sync.Mutex
	names map[string]bool
	read  uint64 // versions of the stream that names holds
}

// The driver's own streams, see name.go.
const (
	checkpointNames  = selfPrefix + "checkpoints"
	checkpointPrefix = selfPrefix + "checkpoint-"
	leaseGroups      = selfPrefix + "leases"
	leasePrefix      = selfPrefix + "lease-"
	clockStream      = selfPrefix + "clock"
)

const (
	typeListed   = "levada.listed"
	typeUnlisted = "levada.unlisted"
)

type listing struct {
	Name string `json:"name"`
}

// list returns the names that are listed, as the leader has them.
func (d *store) list(ctx context.Context, r *registry) ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := d.follow(ctx, r); err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(r.names)), nil
}

// follow reads what is new. It is called with the lock held.
func (d *store) follow(ctx context.Context, r *registry) error {
	const page = 500
	for {
		var batch []*recorded
		err := d.g.page(ctx, readStream(r.stream, r.read+1, page, false), func() { batch = nil }, func(e *recorded) error {
			batch = append(batch, e)
			return nil
		})
		if errors.Is(err, errNoStream) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, e := range batch {
			var l listing
			if err := json.Unmarshal(e.GetData(), &l); err != nil {
				return fmt.Errorf("%w: %s: %w", ErrServer, r.stream, err)
			}
			if r.names == nil {
				r.names = map[string]bool{}
			}
			if e.GetMetadata()[wireType] == typeListed {
				r.names[l.Name] = true
			} else {
				delete(r.names, l.Name)
			}
			r.read = e.GetStreamRevision() + 1
		}
		if len(batch) < page {
			return nil
		}
	}
}

// known reports whether this process has seen that a name is listed.
func (r *registry) known(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.names[name]
}

// set makes the leader list a name, or not list it any more.
func (d *store) set(ctx context.Context, r *registry, name string, listed bool) error {
	data, err := json.Marshal(listing{name})
	if err != nil {
		return err
	}
	e := driver.Event{ID: uuid.New(), Type: typeListed, ContentType: wireJSON, Data: data}
	if !listed {
		e.Type = typeUnlisted
	}
	for pause := minRetry; ; pause = min(2*pause, maxRetry) {
		r.mu.Lock()
		err := d.follow(ctx, r)
		at, is := r.read, r.names[name]
		r.mu.Unlock()
		if err != nil || is == listed {
			return err
		}
		_, err = d.put(ctx, r.stream, at, e)
		var wrong *errWrongVersion
		if !errors.As(err, &wrong) {
			return err
		}
		if err := d.pause(ctx, pause); err != nil {
			return err
		}
	}
}

// A cell is a stream of which only the last event counts.
type cell struct {
	version uint64 // of the stream, 0 if there is none
	event   *recorded
}

func (d *store) loadCell(ctx context.Context, name string) (cell, error) {
	e, err := d.g.one(ctx, readStream(name, 0, 1, true))
	if errors.Is(err, errNoStream) || err == nil && e == nil {
		return cell{}, nil
	}
	if err != nil {
		return cell{}, err
	}
	return cell{version: e.GetStreamRevision() + 1, event: e}, nil
}

// keepOne makes the server forget all events of a stream but the last. It is
// done before the first one is written.
func (d *store) keepOne(ctx context.Context, name string) error {
	m, err := d.loadMeta(ctx, name)
	if err != nil {
		return err
	}
	if _, ok := m.number(metaMaxCount); ok {
		return nil
	}
	err = d.saveMeta(ctx, name, m.with(metaMaxCount, 1))
	var wrong *errWrongVersion
	if errors.As(err, &wrong) {
		return nil // somebody does the same
	}
	return err
}
