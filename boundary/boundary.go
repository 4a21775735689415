package boundary

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/levada-go/levada/eventstore"
)

// A Model is what a decision depends on: which events, and what they add up to.
type Model[S any] struct {
	// Query selects the events. It must have an item; one item without types and tags, {{}}, stands for everything
	// there is, and makes every decision wait for all others.
	Query eventstore.Query
	// Apply folds one event into the state; the first gets the zero S. r.Data is never nil and never
	// [eventstore.Erased]: erased events are passed over. Apply must not fail and must not keep or change r.
	Apply func(state *S, r *eventstore.Recorded)
}

// attempts is how often a decision is made anew when others keep coming in between, as for aggregates.
const attempts = 8

// Decide folds the model's events, calls decide with the result, and appends what it returns: all or nothing, each
// event at the end of its stream. It returns the position of the last one, which is what to wait for. If an event
// of the model came in meanwhile, Decide folds that too and calls decide again, up to eight times in all, with
// growing random pauses of at most 64 ms; then the error Is [eventstore.ErrConflict]. With one decider at a time
// decide is called once.
//
// An error of decide is returned untouched, and nothing is appended; nor is anything when it returns no events,
// and the position is 0 then. decide must not change what the state refers to. An event of the model that cannot
// be decoded, or has a type that the store does not know, is an error: a decision must not rest on half of what
// happened. All other errors are those of [eventstore.TagStore.Append] and Read.
//
// With the context of an event handler, or of a router.Func, the events continue its conversation.
func Decide[S any](ctx context.Context, t *eventstore.TagStore, m Model[S], decide func(S) ([]eventstore.To, error)) (eventstore.Position, error) {
	var state S
	var at eventstore.Position
	for attempt := 1; ; attempt++ {
		var err error
		if at, err = m.fold(ctx, t, &state, at); err != nil {
			return 0, err
		}
		events, err := decide(state)
		if err != nil || len(events) == 0 {
			return 0, err
		}
		pos, err := t.Append(ctx, m.Query, at, events...)
		if !errors.Is(err, eventstore.ErrConflict) {
			return pos, err
		}
		if attempt == attempts {
			return 0, fmt.Errorf("boundary: decided %d times: %w", attempts, err)
		}
		if err := pause(ctx, attempt); err != nil {
			return 0, err
		}
	}
}

// Load folds the model's events and returns the result and the position it stands at, for those who only want to know.
func Load[S any](ctx context.Context, t *eventstore.TagStore, m Model[S]) (S, eventstore.Position, error) {
	var state S
	at, err := m.fold(ctx, t, &state, 0)
	return state, at, err
}

// fold applies the events after a position and returns the position up to which the state is known.
func (m Model[S]) fold(ctx context.Context, t *eventstore.TagStore, state *S, after eventstore.Position) (eventstore.Position, error) {
	if len(m.Query) == 0 || m.Apply == nil {
		return 0, fmt.Errorf("boundary: a model needs a query with at least one item, and Apply: %w", eventstore.ErrInvalid)
	}
	for b, err := range t.Read(ctx, m.Query, after) {
		if err != nil {
			return 0, err
		}
		for _, r := range b.Events {
			switch r.Data.(type) {
			case eventstore.Erased:
				continue
			case nil:
				err := r.Err
				if err == nil {
					err = eventstore.ErrUnregistered
				}
				return 0, fmt.Errorf("boundary: %s at position %d: %w", r.Type, r.Position, err)
			}
			m.Apply(state, r)
		}
		after = b.Position
	}
	return after, nil
}

// pause waits a random time, up to half a millisecond doubled with every attempt.
func pause(ctx context.Context, attempt int) error {
	timer := time.NewTimer(rand.N(time.Millisecond / 2 << attempt))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
