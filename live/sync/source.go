package sync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/projection"
)

// A Config says what a [Source] reads, and how it learns what has changed.
type Config[K comparable, V any] struct {
	// Store is where the events are, and Filter selects those that may change a value.
	Store  *eventstore.Store
	Filter eventstore.Filter

	// Keys returns the keys of the values that an event may have changed. Data is nil for events that cannot be
	// decoded. Without Keys every event the filter selects changes, for all that is known, every value.
	Keys func(r *eventstore.Recorded) []K

	// Read returns the values of keys; those that are not there it leaves out. The position is the one that
	// the values stand at, if the model can tell: a lower one than before, as while a projection is
	// built anew, is not shown. It is 0 if the model cannot tell. Values are shared by pages and must not be
	// modified once they were returned.
	Read func(ctx context.Context, keys []K) (map[K]V, eventstore.Position, error)

	// All returns all values, for [All] and [Stream], in the order of Compare. Both are needed for these. Values for
	// which Compare returns 0 stand in the order in which they came.
	//
	// Where Keys can tell what changed, only that is read again. So whether a value belongs to the list
	// must follow from the value alone; a list such as the ten best needs a source without Keys.
	All     func(ctx context.Context) (map[K]V, eventstore.Position, error)
	Compare func(a, b V) int

	// Equal reports whether pages need not be told that a has become b. Nil means reflect.DeepEqual.
	Equal func(a, b V) bool

	// Group and Projection name the projection that Read and All read the model of: they are called for an
	// event only after the projection has handled it. Without them, what they read must be as new as the store.
	Group      *projection.Group
	Projection string

	// Interval is the least time between two reads of one value. Default 20 ms; negative: none.
	Interval time.Duration
	// Wait is for how long binding a field waits for its first value, and for one that is not older than what
	// the page has shown before. Default 5 s.
	Wait time.Duration
	// Logger is told of what fails. Default slog.Default().
	Logger *slog.Logger
}

// A Source holds the values that pages look at, by their keys, and keeps them current. It is safe for
// concurrent use. There is nothing to close: it is at rest while no page looks.
type Source[K comparable, V any] struct {
	c   Config[K, V]
	hub hub[K, V]
}

// New returns a Source, or an error that says what is missing in c.
func New[K comparable, V any](c Config[K, V]) (*Source[K, V], error) {
	switch {
	case c.Store == nil:
		return nil, errors.New("sync: a source without Store")
	case c.Read == nil:
		return nil, errors.New("sync: a source without Read")
	case (c.All == nil) != (c.Compare == nil):
		return nil, errors.New("sync: a source with only one of All and Compare")
	case (c.Group == nil) != (c.Projection == ""):
		return nil, errors.New("sync: a source with only one of Group and Projection")
	}
	if c.Equal == nil {
		c.Equal = deepEqual[V]
	}
	if c.Interval == 0 {
		c.Interval = 20 * time.Millisecond
	}
	if c.Wait <= 0 {
		c.Wait = 5 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	s := &Source[K, V]{c: c}
	s.hub.c = &s.c
	return s, nil
}

// Get returns the value of a key as it is now, and whether there is one. It is for what is shown once.
func (s *Source[K, V]) Get(ctx context.Context, key K) (v V, ok bool, err error) {
	m, err := s.c.read(ctx, []K{key})
	v, ok = m[key]
	return v, ok, err
}

// All returns all values as they are now, in order. It fails for a source that has no list.
func (s *Source[K, V]) All(ctx context.Context) ([]V, error) {
	if s.c.All == nil {
		return nil, errNoList
	}
	m, err := s.c.read(ctx, nil)
	return s.c.sorted(m), err
}

var errNoList = errors.New("sync: the source has no list: All and Compare are not set")

// sorted returns the values of a list in order.
func (c *Config[K, V]) sorted(m map[K]V) []V {
	return slices.SortedStableFunc(maps.Values(m), c.Compare)
}

// read is Read without what the model's position is good for.
func (c *Config[K, V]) read(ctx context.Context, keys []K) (map[K]V, error) {
	m, _, err := c.safely(ctx, keys)
	return m, err
}

// safely calls Read, or All without keys, and turns a panic into an error.
func (c *Config[K, V]) safely(ctx context.Context, keys []K) (m map[K]V, at eventstore.Position, err error) {
	defer func() {
		if p := recover(); p != nil {
			m, err = nil, fmt.Errorf("sync: panic while reading: %v", p)
		}
	}()
	if keys == nil {
		m, at, err = c.All(ctx)
	} else {
		m, at, err = c.Read(ctx, keys)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("sync: read: %w", err)
	}
	return m, at, nil
}

// keys returns what the events may have changed; all if that cannot be told.
func (c *Config[K, V]) keys(events []*eventstore.Recorded) (keys map[K]struct{}, all bool) {
	if len(events) == 0 {
		return nil, false
	}
	if c.Keys == nil {
		return nil, true
	}
	keys = map[K]struct{}{}
	defer func() {
		if p := recover(); p != nil {
			c.Logger.Error("sync: Keys panicked; all values are read again", "panic", p)
			keys, all = nil, true
		}
	}()
	for _, r := range events {
		for _, k := range c.Keys(r) {
			keys[k] = struct{}{}
		}
	}
	return keys, false
}

// await returns when what is read reflects every event up to pos.
func (c *Config[K, V]) await(ctx context.Context, pos eventstore.Position) error {
	if c.Group == nil {
		return nil
	}
	return c.Group.Wait(ctx, pos, c.Projection)
}
