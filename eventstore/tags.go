package eventstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/levada-go/levada/eventstore/driver"
)

// A Query selects events by type and tag: those that match any of its items. An
// empty Query selects everything.
type Query []Item

// An Item matches events of any of Types that bear all of Tags. An empty field
// matches everything.
type Item struct{ Types, Tags []string }

// A TagStore appends under conditions that span streams (a "dynamic consistency
// boundary", https://dcb.events).
type TagStore struct {
	s *Store
	d driver.Conditional
}

// Tags returns s as a TagStore, or an ErrUnsupported if its driver cannot be
// one. Call it when wiring, so that the answer comes at startup.
func (s *Store) Tags() (*TagStore, error) {
	d, ok := s.d.(driver.Conditional)
	if !ok {
		return nil, fmt.Errorf("eventstore: conditional append: %w", ErrUnsupported)
	}
	return &TagStore{s, d}, nil
}

// items is q for the driver, with the names of old forms that may become what it selects.
func (t *TagStore) items(q Query) []driver.QueryItem {
	tab := t.s.Types.load()
	out := make([]driver.QueryItem, len(q))
	for i, it := range q {
		out[i] = driver.QueryItem{Types: tab.sources(it.Types), Tags: it.Tags}
	}
	return out
}

// Read returns the events q selects after a position, up to the present head, in
// order of their positions. The last batch's Position is what to append after;
// there is always at least one batch, and the last one may be empty.
func (t *TagStore) Read(ctx context.Context, q Query, after Position) iter.Seq2[Batch[*Recorded], error] {
	return func(yield func(Batch[*Recorded], error) bool) {
		items := t.items(q)
		for {
			stored, scanned, err := t.d.Query(ctx, items, uint64(after), t.s.opt.PageSize)
			if err != nil {
				yield(Batch[*Recorded]{}, fmt.Errorf("eventstore: query: %w", err))
				return
			}
			b := Batch[*Recorded]{t.s.decodePage(ctx, stored, driver.Forward), max(after, Position(scanned))}
			if !yield(b, nil) || b.Position == after {
				return
			}
			after = b.Position
		}
	}
}

// To says which stream an event goes to.
type To struct {
	Stream StreamName
	Event
}

// Append appends events, each at the end of its stream and all or none, unless
// one that unless selects lies after a position: then it returns an ErrConflict
// and nothing was written. Other errors are those of [Store.Append], and so is what becomes of an append
// whose ctx ends. What takes part by [Store.Inline] has all events in one call.
//
// An append that conflicts, and whose events, by the ids that they were given, are stored after the position already, is
// a repetition: it returns the position that the first one did. If only some of them are, it is an ErrDuplicate. So
// an append of events that unless selects can be repeated when its outcome is unknown.
func (t *TagStore) Append(ctx context.Context, unless Query, after Position, events ...To) (Position, error) {
	trace := t.s.opt.Trace
	if trace.AppendStart != nil {
		ctx = trace.AppendStart(ctx, conditionalInfo(events))
	}
	pos, err := t.decide(ctx, unless, after, events)
	if trace.AppendEnd != nil {
		trace.AppendEnd(ctx, Appended{Position: pos}, err)
	}
	return pos, err
}

// conditionalInfo is what a Trace is told of a conditional append.
func conditionalInfo(events []To) AppendInfo {
	info := AppendInfo{Events: len(events), Conditional: true}
	for i := range events {
		if !slices.Contains(info.Streams, events[i].Stream) {
			info.Streams = append(info.Streams, events[i].Stream)
		}
	}
	if len(events) > 0 {
		info.Stream = events[0].Stream
	}
	return info
}

// decide appends, and decides whether a conflict is the echo of the same append.
func (t *TagStore) decide(ctx context.Context, unless Query, after Position, events []To) (Position, error) {
	pos, err := t.append(ctx, unless, after, events)
	if _, ok := errors.AsType[*driver.ConflictError](err); ok {
		first, rerr := t.repeated(ctx, after, events)
		switch {
		case errors.Is(rerr, ErrDuplicate):
			err = rerr
		case rerr != nil: // they may be stored
			err = fmt.Errorf("%w: %w", ErrOutcomeUnknown, rerr)
		case first > 0:
			return first, nil
		}
	}
	if c, ok := errors.AsType[*driver.ConflictError](err); ok {
		return 0, fmt.Errorf("%w: an event that matches lies at position %d, after %d", ErrConflict, c.Actual, after)
	}
	if err != nil {
		return 0, fmt.Errorf("eventstore: conditional append: %w", err)
	}
	return pos, nil
}

func (t *TagStore) append(ctx context.Context, unless Query, after Position, events []To) (Position, error) {
	s := t.s
	if err := s.admits(len(events)); err != nil {
		return 0, err
	}
	out := make([]driver.StreamEvent, len(events))
	size := 0
	for i := range events {
		e := &events[i]
		if err := s.writable(ctx, e.Stream); err != nil {
			return 0, err
		}
		out[i].Stream = string(e.Stream)
		if err := s.encodeSized(ctx, &e.Event, &out[i].Event, &size); err != nil {
			return 0, err
		}
	}
	if err := distinct(len(out), func(i int) [16]byte { return out[i].ID }); err != nil {
		return 0, err
	}
	items := t.items(unless)
	res := s.alone(ctx, func(ctx context.Context) driver.Result {
		res := t.d.AppendIf(ctx, items, uint64(after), out, s.takingPart())
		if res.Err == nil {
			if n := len(res.Positions); n > 0 {
				res.Last = res.Positions[n-1]
			}
			for i := range out {
				s.changed(StreamName(out[i].Stream), 0)
			}
			s.tail.poke()
		}
		return res
	})
	return Position(res.Last), res.Err
}

// repeated returns the position of the last of events if all of them are stored after a position, 0 if none is.
func (t *TagStore) repeated(ctx context.Context, after Position, events []To) (last Position, err error) {
	stored := map[StreamName]map[ID]Position{}
	found := 0
	for _, e := range events {
		if e.ID == (ID{}) {
			return 0, nil
		}
		if stored[e.Stream] == nil {
			ids := map[ID]Position{}
			for r, err := range t.s.ReadStreamBackward(ctx, e.Stream, 0) {
				if errors.Is(err, ErrStreamDeleted) {
					break
				}
				if err != nil {
					return 0, err
				}
				if r.Position <= after {
					break
				}
				ids[r.ID] = r.Position
			}
			stored[e.Stream] = ids
		}
		if p, ok := stored[e.Stream][e.ID]; ok {
			found, last = found+1, max(last, p)
		}
	}
	if found > 0 && found < len(events) {
		return 0, fmt.Errorf("%w: %d of %d events", ErrDuplicate, found, len(events))
	}
	return last, nil
}
