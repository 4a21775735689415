package projection

import (
	"context"
	"errors"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/internal/system"
)

const (
	// An append handles at most so many events that are missing before its own,
	// and looks for them over at most so many positions.
	inlineEvents    = 64
	inlinePositions = 10_000
)

// errLeave leaves the events of an append to Group.Run.
var errLeave = errors.New("projection: not inline")

// within handles the events of an append in its transaction.
func (w *worker[T]) within(ctx context.Context, tx any, target InlineTarget[T], events []*eventstore.Recorded) error {
	if len(events) == 0 {
		return nil
	}
	left := system.TransactionOf(ctx).Left
	if left[w] {
		return nil
	}
	ctx = w.g.inHandler(ctx, w.base)
	handled, covered := 0, false
	err := target.UpdateIn(ctx, tx, w.name, func(tx T, at place) (place, error) {
		handled, covered = 0, false // a target may try again
		if at&(parking|replaced) != 0 {
			return at, nil
		}
		first, last, pos := events[0].Position, events[len(events)-1].Position, positionOf(at)
		missing, ok := w.missing(ctx, pos, first)
		if !ok {
			return at, nil
		}
		for _, r := range missing {
			if r.Err != nil || w.call(ctx, tx, r) != nil {
				return at, errLeave
			}
		}
		for _, r := range events {
			if r.Position <= pos || !w.filter.Match(r.Stream, r.Type) || !w.due(r) {
				continue
			}
			if r.Err != nil {
				return at, r.Err
			}
			if err := w.call(ctx, tx, r); err != nil {
				return at, err
			}
			handled++
		}
		handled += len(missing)
		covered = true
		return placeOf(lifeOf(at), max(pos, last)), nil
	})
	switch {
	case errors.Is(err, errLeave) || err == nil && !covered:
		left[w] = true
		return nil
	case err == nil:
		w.g.Handled(w.base, handled, 0)
	}
	return err // the append is not made
}

// missing returns the events to handle between two positions, if they are few. What
// the transaction under way has written is not among them: it was handled in it.
func (w *worker[T]) missing(ctx context.Context, after, before eventstore.Position) (events []*eventstore.Recorded, ok bool) {
	if after+1 >= before {
		return nil, true
	}
	if before-after > inlinePositions {
		return nil, false
	}
	for r, err := range w.g.Store.ReadAll(ctx, w.filter, after) {
		if err != nil {
			return nil, false
		}
		if r.Position >= before {
			break
		}
		if w.due(r) {
			events = append(events, r)
		}
		if len(events) > inlineEvents {
			return nil, false
		}
	}
	return events, true
}
