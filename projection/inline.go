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

// within handles the events of an append, to however many streams, in its transaction.
func (w *worker[T]) within(ctx context.Context, tx any, target InlineTarget[T], events []*eventstore.Recorded) error {
	if len(events) == 0 {
		return nil
	}
	left := system.TransactionOf(ctx).Left
	if left[w] {
		return nil
	}
	m := w.g.partaking(w.base)
	if m == nil {
		left[w] = true
		return nil
	}
	last := events[len(events)-1].Position
	ctx = w.g.inHandler(ctx, w.base)
	own := *w // what is found out about the predecessor is so in this transaction
	if !own.heir(ctx, tx, m, last) {
		left[w] = true
		return nil
	}
	waits := own.old != nil && !own.frozen // it keeps up with its predecessor, which answers
	handled, covered := 0, false
	err := target.UpdateIn(ctx, tx, w.name, func(tx T, at place) (place, error) {
		handled, covered = 0, false // a target may try again
		if at&(parking|replaced) != 0 {
			return at, nil
		}
		first, pos := events[0].Position, positionOf(at)
		missing, ok := own.missing(ctx, pos, first)
		if !ok {
			return at, nil
		}
		for _, r := range missing {
			if r.Err != nil || own.call(ctx, tx, r) != nil {
				return at, errLeave
			}
		}
		for _, r := range events {
			if r.Position <= pos || !own.filter.Match(r.Stream, r.Type) || !own.due(r) {
				continue
			}
			err := r.Err
			if err == nil {
				err = own.call(ctx, tx, r)
			}
			if err != nil && waits {
				err = errLeave // this is not the one to refuse it
			}
			if err != nil {
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
		if waits {
			// If this fails, they only go on side by side.
			_, _ = own.old.task.inlineAt(ctx, tx, func(at place) place { return at | replaced })
		}
	}
	return err // the append is not made
}

// heir finds out, for a projection that replaces another, how the other stands in the transaction of an append that ends
// at last. It reports whether the projection may handle the append's events.
func (w *worker[T]) heir(ctx context.Context, tx any, m *member, last eventstore.Position) bool {
	w.g.mu.Lock()
	w.old, w.frozen, w.mark = m.old, m.taken, m.mark
	w.g.mu.Unlock()
	if w.old == nil || w.frozen {
		return true
	}
	if w.old.task.inlineAt == nil { // Group.Run finds out
		return false
	}
	var old place
	called, err := w.old.task.inlineAt(ctx, tx, func(at place) place {
		old = at
		return at
	})
	w.mark, w.frozen = positionOf(old), old&replaced != 0
	return err == nil && called && old&parking == 0 && (w.frozen || w.mark >= last)
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
