package sync

import (
	"context"
	"errors"
	"time"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/eventstore"
)

// An At says where an aggregate stands: at its last event.
type At struct {
	ID       string
	Version  eventstore.Version
	Position eventstore.Position
	Time     time.Time // UTC
}

// Aggregates returns the aggregates of a type as a source of what view makes of them, by their ids. View must not
// retain anything of state, as what its pointers, maps and slices refer to goes on changing; it returns false for
// one that is not there for the page, such as one whose events say that it was removed. It is not called for an
// aggregate without events. An aggregate whose stream is deleted in this process is gone, too.
//
// With compare the source has a list as well, for [All] and [Stream], of all aggregates that view does not leave
// out; it needs a store that can list streams. It may be nil.
func Aggregates[S, V any](store *eventstore.Store, t *aggregate.Type[S], view func(state *S, at At) (V, bool), compare func(a, b V) int) (*Source[string, V], error) {
	// Its own repository reads the states, so that looking at an aggregate does not hold up its commands.
	repo, err := aggregate.New(store, t)
	if err != nil {
		return nil, err
	}
	a := &aggregates[S, V]{store: store, repo: repo, view: view}
	c := Config[string, V]{
		Store:  store,
		Filter: eventstore.Filter{Categories: []string{t.Name}},
		Keys:   func(r *eventstore.Recorded) []string { return []string{r.Stream.ID()} },
		Read:   a.read,
	}
	if compare != nil {
		c.All, c.Compare = a.all, compare
	}
	s, err := New(c)
	if err != nil {
		return nil, err
	}
	// A deletion is no event.
	s.hub.watch = func(changed func(string)) (stop func()) {
		return store.Watch(t.Name, func(stream eventstore.StreamName, v eventstore.Version) {
			if v == 0 {
				changed(stream.ID())
			}
		})
	}
	return s, nil
}

type aggregates[S, V any] struct {
	store *eventstore.Store
	repo  *aggregate.Repository[S]
	view  func(*S, At) (V, bool)
}

func (a *aggregates[S, V]) read(ctx context.Context, ids []string) (map[string]V, eventstore.Position, error) {
	m := make(map[string]V, len(ids))
	for _, id := range ids {
		if err := a.one(ctx, id, m); err != nil {
			return nil, 0, err
		}
	}
	return m, 0, nil
}

func (a *aggregates[S, V]) all(ctx context.Context) (map[string]V, eventstore.Position, error) {
	m := map[string]V{}
	for info, err := range a.store.Streams(ctx, a.repo.Category()) {
		if err == nil && !info.Deleted {
			err = a.one(ctx, info.Name.ID(), m)
		}
		if err != nil {
			return nil, 0, err
		}
	}
	return m, 0, nil
}

// one puts what is shown of an aggregate into m.
func (a *aggregates[S, V]) one(ctx context.Context, id string, m map[string]V) error {
	stream := eventstore.Stream(a.repo.Category(), id)
	last, err := a.last(ctx, stream, 0)
	if errors.Is(err, eventstore.ErrStreamDeleted) {
		return nil // it was purged
	}
	if err != nil {
		return err
	}
	for pause := 50 * time.Microsecond; ; pause = min(2*pause, 10*time.Millisecond) {
		stale := false
		var failed error
		err := a.repo.View(ctx, id, func(state *S, v eventstore.Version) {
			// Readers may see an event before the repository is told of it.
			if stale = last.Version > v; stale || v == 0 {
				return
			}
			at := last
			if v > last.Version {
				// Reading within View holds up nobody: the repository executes no commands.
				if at, failed = a.last(ctx, stream, v+1); failed != nil {
					return
				}
			}
			at.ID, at.Version = id, v // an upcast may have left nothing of the last event
			if value, ok := a.view(state, at); ok {
				m[id] = value
			}
		})
		if err != nil || failed != nil {
			return either(err, failed)
		}
		if !stale {
			return nil
		}
		if !sleep(ctx, pause) {
			return ctx.Err()
		}
		if last, err = a.last(ctx, stream, 0); err != nil { // it may be gone
			return err
		}
	}
}

// last returns where the last event of stream before a version stands; 0 is the end.
func (a *aggregates[S, V]) last(ctx context.Context, stream eventstore.StreamName, before eventstore.Version) (at At, err error) {
	for r, err := range a.store.ReadStreamBackward(ctx, stream, before) {
		if err != nil {
			return At{}, err
		}
		return At{Version: r.Version, Position: r.Position, Time: r.Time}, nil
	}
	return At{}, nil
}
