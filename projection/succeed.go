package projection

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/levada-go/levada/eventstore"
)

// A projection succeeds another, its predecessor, in these steps.
//
//  1. It handles the history beside the predecessor, and nothing that the predecessor
//     has not handled.
//  2. When it has caught up with where the predecessor was when it last looked, it
//     moves the predecessor's place to the same position with the mark replaced, by
//     compare-and-set: from here no process moves that again.
//  3. It handles the few events up to there. From then on it is the one to read from.

// replaced marks the place of a projection that has a successor.
const replaced place = 1 << 60

// errReplaced ends a worker whose projection has a successor.
var errReplaced = errors.New("projection: replaced by another")

// Replaying reports whether ctx comes from the handler of a projection that
// Replaces another, for an event that the other has handled: side effects that are not to be
// repeated, such as mails, are left out then. Every event is handled without it by
// one of the two.
func Replaying(ctx context.Context) bool {
	yes, _ := ctx.Value(replaying{}).(bool)
	return yes
}

type replaying struct{}

// Current returns the name of the projection to read from: name itself, or what has
// replaced it, or, if name is to replace another that it has not caught up with yet,
// that other. It looks into the targets until the replacement is complete.
func (g *Group) Current(ctx context.Context, name string) (string, error) {
	m := g.member(name)
	if m == nil {
		return "", &StoppedError{Name: name}
	}
	g.mu.Lock()
	for m.old != nil { // the first of all
		m = m.old
	}
	g.mu.Unlock()
	for m.next != nil {
		done, err := g.succeeded(ctx, m)
		if err != nil {
			return "", fmt.Errorf("projection: current of %s: %w", name, err)
		}
		if !done {
			break
		}
		m = m.next
	}
	return m.task.Name, nil
}

// succeeded reports whether the successor of m is the one to read from.
func (g *Group) succeeded(ctx context.Context, m *member) (bool, error) {
	g.mu.Lock()
	done, at := m.succeeded, m.next.at
	g.mu.Unlock()
	if done {
		return true, nil
	}
	mark, frozen, err := m.task.ended(ctx)
	if err != nil || !frozen {
		return false, err
	}
	if at < mark {
		if at, err = m.next.task.Load(ctx); err != nil {
			return false, err
		}
	}
	if at < mark {
		return false, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	m.succeeded = true
	return true, nil
}

// A Live answers from whichever version of a read model is current, where a
// projection Replaces another. It must not be modified after its first use, and is
// then safe for concurrent use.
type Live[V any] struct {
	Group *Group
	// Models are what to read from, by the names of the projections that fill them. They
	// are all versions of one. Those that the Group does not have, because they were removed, are passed over.
	Models map[string]V
}

// Model returns the current version. It may be used until the next event, and a little longer:
// the predecessor stays as it was when it was replaced, until it is reset.
func (l *Live[V]) Model(ctx context.Context) (V, error) {
	var none V
	var gone error
	for name := range l.Models {
		name, err := l.Group.Current(ctx, name)
		if _, ok := errors.AsType[*StoppedError](err); ok { // it was removed; another one tells
			gone = err
			continue
		}
		if err != nil {
			return none, err
		}
		v, ok := l.Models[name]
		if !ok {
			return none, fmt.Errorf("projection: no model of %s", name)
		}
		return v, nil
	}
	if gone != nil {
		return none, gone
	}
	return none, errors.New("projection: a Live without Models")
}

// Rebuild is Reset, and then waits until everything up to the present head has been handled.
// While it waits it calls progress, unless that is nil, every second and at the end. If ctx ends
// before, the projection goes on all the same, from where it is, also after a restart of the
// process. For a read model that must answer meanwhile, see Projection.Replaces.
func (g *Group) Rebuild(ctx context.Context, name string, progress func(Status)) error {
	head, err := g.Store.Head(ctx)
	if err != nil {
		return fmt.Errorf("projection: rebuild %s: %w", name, err)
	}
	if err := g.Reset(ctx, name); err != nil {
		return err
	}
	tell := func() error {
		if progress == nil {
			return nil
		}
		s, err := g.status(ctx, g.member(name))
		if err == nil {
			progress(s)
		}
		return err
	}
	for {
		second, cancel := context.WithTimeout(ctx, time.Second)
		err := g.Wait(second, head, name)
		cancel()
		if err == nil {
			return tell()
		}
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		if err := tell(); err != nil {
			return err
		}
	}
}

// predecessor returns what m replaces, or is to; nil if there is none.
func (g *Group) predecessor(m *member) *member {
	if m == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return m.old
}

// tookOver records that m has taken over from its predecessor, which ended at mark.
func (g *Group) tookOver(m *member, mark eventstore.Position) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m.taken, m.mark = true, mark
}

// retire lets a member that has ended for good find out.
func (g *Group) retire(m *member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m.stop != nil {
		m.told = true
		m.stop()
	}
}

// link checks which tasks replace which.
func (g *Group) link(tasks []Task, find func(name string) *Task) error {
	var faults []error
	fault := func(t Task, format string, args ...any) {
		faults = append(faults, fmt.Errorf("projection %s: Replaces: "+format, append([]any{t.Name}, args...)...))
	}
	taken := map[string]bool{}
	for _, t := range tasks {
		if t.replaces == "" {
			continue
		}
		switch old := find(t.replaces); {
		case t.replaces == t.Name:
			fault(t, "itself")
		case old == nil:
			fault(t, "there is no %q", t.replaces)
		case old.freeze == nil || t.freeze == nil:
			fault(t, "%q cannot be replaced by it: one of them has partitions, or is no Projection", t.replaces)
		case taken[t.replaces] || g.byName[t.replaces] != nil && g.byName[t.replaces].next != nil:
			fault(t, "%q is replaced twice", t.replaces)
		default:
			seen := 0
			for o := old; o != nil && o.replaces != "" && seen <= len(tasks)+len(g.members); seen++ {
				o = find(o.replaces)
			}
			if seen > len(tasks)+len(g.members) {
				fault(t, "they go round in a circle")
			}
		}
		taken[t.replaces] = true
	}
	return errors.Join(faults...)
}

// ended tells whether the projection has a successor, and where it ended.
func (w *worker[T]) ended(ctx context.Context) (mark eventstore.Position, yes bool, err error) {
	at, err := w.loadCell(ctx, w.name)
	return positionOf(at), at&replaced != 0, err
}

// freeze ends the projection for ever, until it is reset, and returns where.
func (w *worker[T]) freeze(ctx context.Context) (eventstore.Position, error) {
	for attempt := 1; ; attempt++ {
		at, err := w.loadCell(ctx, w.name)
		if err != nil {
			return 0, err
		}
		if at&replaced != 0 {
			return positionOf(at), nil
		}
		if at&parking == 0 {
			if err := w.move(ctx, w.name, at, at|replaced); err == nil {
				return positionOf(at), nil
			} else if !errors.Is(err, ErrMoved) {
				return 0, err
			}
		}
		if err := sleep(ctx, pause(attempt)); err != nil {
			return 0, err
		}
	}
}

// behind returns up to where the worker may handle events, which is where its
// predecessor is, and freezes that once it has come there. When its predecessor has
// ended, there is no bound.
func (w *worker[T]) behind(ctx context.Context) (bound eventstore.Position, bounded bool, err error) {
	if w.old == nil || w.frozen {
		return 0, false, nil
	}
	err = w.patiently(ctx, "replace "+w.old.task.Name, func(ctx context.Context) error {
		mark, frozen, err := w.old.task.ended(ctx)
		if err == nil && !frozen && w.at >= mark {
			mark, err = w.old.task.freeze(ctx)
			frozen = err == nil
			if frozen {
				w.g.retire(w.old)
				w.log.InfoContext(ctx, "projection takes over", "replaces", w.old.task.Name, "position", mark)
			}
		}
		if w.mark, w.frozen = mark, frozen; frozen {
			w.g.tookOver(w.m, mark)
		}
		return err
	})
	return w.mark, !w.frozen, err
}

// heed handles what of a batch the predecessor has handled, and returns the rest of it
// once that may be handled too.
func (w *worker[T]) heed(ctx context.Context, b eventstore.Batch[*eventstore.Recorded]) (eventstore.Batch[*eventstore.Recorded], error) {
	for w.old != nil && !w.frozen && b.Position > w.mark {
		bound, bounded, err := w.behind(ctx)
		if err != nil || !bounded || b.Position <= bound {
			return b, err
		}
		n := 0
		for n < len(b.Events) && b.Events[n].Position <= bound {
			n++
		}
		if err := w.handleBatch(ctx, eventstore.Batch[*eventstore.Recorded]{Events: b.Events[:n], Position: bound}); err != nil {
			return b, err
		}
		b.Events = b.Events[n:]
	}
	return b, nil
}
