package projection

import (
	"context"
	"time"

	"github.com/levada-go/levada/eventstore"
)

// A Target is where a read model and its position are kept together. T is what
// handlers write through: a transaction, or a pointer to a struct. Methods are
// safe for concurrent use, also by several projections with different names,
// unless the target says otherwise.
//
// A projection that parks events, or has partitions, moves more than one position: those
// of names that begin with its own and a slash. Positions are below 1<<63.
type Target[T any] interface {
	// Load returns the position reached by the named projection, 0 if it has
	// never run.
	Load(ctx context.Context, name string) (eventstore.Position, error)

	// Update calls fn and moves the projection from one position to another,
	// both or neither. If the projection is not at from, because another
	// process runs it too, Update changes nothing and returns ErrMoved. If fn
	// fails, Update changes nothing and returns fn's error, which it may wrap.
	// fn may be called more than once if what it did before was undone.
	Update(ctx context.Context, name string, from, to eventstore.Position, fn func(T) error) error

	// Reset empties the read model of the named projection and sets its position to 0,
	// and forgets those of names that begin with it and a slash.
	Reset(ctx context.Context, name string) error
}

// A Remover is a Target that can forget a read model for good.
type Remover interface {
	// Remove is Reset, but that nothing is left of the model, not even what it is empty.
	Remove(ctx context.Context, name string) error
}

// A Limiter is a Target that asks for short transactions, because others wait for
// it meanwhile.
type Limiter interface {
	// BatchLimit returns how many events one Update should handle at most, and
	// how long its handlers should take; 0 is no limit. The time is kept by
	// handling as many events as the last ones let expect to fit, and at least one.
	BatchLimit() (events int, hold time.Duration)
}

// An InlineTarget is a Target whose read model can be in a store's own database, and
// be written in the transactions of its appends: see Projection.Inline.
type InlineTarget[T any] interface {
	Target[T]

	// Shares reports whether the model is in the database of the store.
	Shares(store *eventstore.Store) bool

	// UpdateIn calls fn, with the position that the named projection has reached, inside the
	// transaction tx that eventstore.Store.Inline gives, and moves the projection to what
	// fn returns. If fn fails, nothing that it did remains, UpdateIn returns its error, and the
	// transaction can go on.
	UpdateIn(ctx context.Context, tx any, name string, fn func(tx T, at eventstore.Position) (eventstore.Position, error)) error
}

// ErrMoved reports that another process has moved the projection. It is the
// same value as eventstore.ErrMoved.
var ErrMoved = eventstore.ErrMoved
