package projection

import (
	"context"
	"fmt"
	"reflect"

	"github.com/levada-go/levada/eventstore"
)

// Load makes the read model of a projection on demand: it handles everything up to the
// present head into a new M, and returns it with that position. Nothing is kept, and
// p's Target is not used; it may be nil. It is for models of few events, with a Filter by
// streams, and for looking at what a model would be. An event that cannot be
// handled ends it with an error; OnError is not asked.
func Load[M any](ctx context.Context, store *eventstore.Store, p *Projection[*M]) (*M, eventstore.Position, error) {
	w, err := p.plan(store)
	if err != nil {
		return nil, 0, err
	}
	head, err := store.Head(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("projection: load %s: %w", p.Name, err)
	}
	model := new(M)
	for r, err := range store.ReadAll(ctx, w.filter, 0) {
		if err == nil && r.Position > head {
			break
		}
		if err == nil {
			err = w.fold(ctx, model, r)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("projection: load %s: %w", p.Name, err)
		}
	}
	return model, head, nil
}

// Apply calls p's handlers with events of the store, in order, and tx, which belongs to the
// caller: no position is moved, and p's Target is not used. Events that p does not
// handle, or its Filter leaves out, are passed over. The first error ends it.
func (p *Projection[T]) Apply(ctx context.Context, store *eventstore.Store, tx T, events ...*eventstore.Recorded) error {
	w, err := p.plan(store)
	if err != nil {
		return err
	}
	for _, r := range events {
		if !w.filter.Match(r.Stream, r.Type) {
			continue
		}
		if err := w.fold(ctx, tx, r); err != nil {
			return fmt.Errorf("projection: apply %s: %w", p.Name, err)
		}
	}
	return nil
}

// fold handles an event, if there is a handler for it.
func (p *plan[T]) fold(ctx context.Context, tx T, r *eventstore.Recorded) (err error) {
	if r.Err != nil {
		return r.Err
	}
	h, ok := p.handlers[reflect.TypeOf(r.Data)]
	if !ok {
		return nil
	}
	defer recovered(&err)
	if err := h.handle(eventstore.NewContext(ctx, r), tx, r); err != nil {
		return fmt.Errorf("%s version %d, a %s: %w", r.Stream, r.Version, r.Type, err)
	}
	return nil
}
