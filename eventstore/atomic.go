package eventstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/levada-go/levada/eventstore/driver"
)

// An AtomicStore appends to several streams at once.
type AtomicStore struct {
	s *Store
	d driver.Atomic
}

// Atomic returns s as an AtomicStore, or an ErrUnsupported if its driver cannot be
// one. Call it when wiring, so that the answer comes at startup.
func (s *Store) Atomic() (*AtomicStore, error) {
	d, ok := s.d.(driver.Atomic)
	if !ok {
		return nil, fmt.Errorf("eventstore: append to several streams: %w", ErrUnsupported)
	}
	return &AtomicStore{s, d}, nil
}

// A Part is what one stream gets of an append to several.
type Part struct {
	Stream   StreamName
	Expected Expected
	Events   []Event
}

// Append appends every part or none, and says where each ended, in order. The events
// have their positions in the order of the parts, and no reader of the log sees some of
// them without the others. Each part has another stream, and events; together they keep
// within the store's [Limits] for one append, and no ID is in them twice.
//
// If a stream is not as its part expects, the error is the *[ConflictError] of the first
// of those, and nothing was written; unless the very same events, by their IDs, stand in
// their places already: then Append returns what it returned when it wrote them. So an
// append of which at least one part expects an exact version or NoStream can be
// repeated when its outcome is unknown. Parts that expect neither have no
// places: their events are looked for in their streams. If only some of the events stand where they should, it is
// ErrDuplicate; if it cannot be read what stands there, ErrOutcomeUnknown.
//
// Everything else is as [Store.Append] has it: the errors, what becomes of an append whose
// ctx ends, and what takes part by [Store.Inline], which has the events of all parts in
// one call. The append is committed by itself, not together with those of others.
func (a *AtomicStore) Append(ctx context.Context, parts ...Part) ([]Appended, error) {
	trace := a.s.opt.Trace
	if trace.AppendStart != nil {
		ctx = trace.AppendStart(ctx, infoOf(parts))
	}
	at, err := a.append(ctx, parts)
	if trace.AppendEnd != nil {
		var last Appended
		if err == nil {
			last.Position = at[len(at)-1].Position
		}
		trace.AppendEnd(ctx, last, err)
	}
	return at, err
}

// infoOf is what a Trace is told of an append of parts.
func infoOf(parts []Part) AppendInfo {
	info := AppendInfo{Streams: make([]StreamName, len(parts))}
	for i := range parts {
		info.Streams[i] = parts[i].Stream
		info.Events += len(parts[i].Events)
	}
	if len(parts) > 0 {
		info.Stream, info.Expected = parts[0].Stream, parts[0].Expected
	}
	return info
}

func (a *AtomicStore) append(ctx context.Context, parts []Part) ([]Appended, error) {
	s := a.s
	prepared, err := a.prepare(ctx, parts)
	if err != nil {
		return nil, err
	}
	as := make([]driver.Append, len(prepared))
	for i := range prepared {
		as[i] = prepared[i].Append
	}
	var results []driver.Result // of the driver, if alone says that it was made
	res := s.alone(ctx, func(ctx context.Context) driver.Result {
		list, err := a.d.AppendAtomic(ctx, as, s.takingPart())
		if err != nil {
			return driver.Result{Err: err}
		}
		for i := range list {
			s.appended(&prepared[i], &list[i])
		}
		results = list
		return driver.Result{}
	})
	if res.Err == nil {
		at := make([]Appended, len(results))
		for i, r := range results {
			at[i] = Appended{Version(r.Version), Position(r.Last)}
		}
		return at, nil
	}
	if c, ok := errors.AsType[*driver.ConflictError](res.Err); ok {
		for i := range parts {
			if p := &parts[i]; string(p.Stream) == c.Stream {
				return a.appendedBefore(ctx, as, i, &ConflictError{p.Stream, p.Expected, Version(c.Actual)})
			}
		}
	}
	return nil, fmt.Errorf("eventstore: append to %d streams: %w", len(parts), res.Err)
}

// prepare encodes parts and checks everything about them that needs no driver.
func (a *AtomicStore) prepare(ctx context.Context, parts []Part) ([]prepared, error) {
	n := 0
	for i := range parts {
		n += len(parts[i].Events)
	}
	fault := func(err error) error {
		return fmt.Errorf("eventstore: append to %d streams: %w", len(parts), err)
	}
	if err := a.s.admits(n); err != nil {
		return nil, fault(err)
	}
	list := make([]prepared, len(parts))
	named := make(map[StreamName]bool, len(parts))
	ids := make([][16]byte, 0, n)
	size := 0
	for i := range parts {
		p := &parts[i]
		var err error
		switch {
		case named[p.Stream]:
			err = fmt.Errorf("%w: the stream is in two parts", ErrInvalid)
		case len(p.Events) == 0:
			err = ErrNoEvents
		default:
			list[i], err = a.s.prepare(ctx, p.Stream, p.Expected, p.Events, &size)
		}
		if err != nil {
			return nil, fault(fmt.Errorf("%.80q: %w", string(p.Stream), err))
		}
		named[p.Stream] = true
		for k := range list[i].Events {
			ids = append(ids, list[i].Events[k].ID)
		}
	}
	if err := distinct(n, func(i int) [16]byte { return ids[i] }); err != nil {
		return nil, fault(err)
	}
	return list, nil
}

// appendedBefore decides whether a conflict, in the stream of one part, is the echo of the
// same append.
func (a *AtomicStore) appendedBefore(ctx context.Context, as []driver.Append, part int, conflict *ConflictError) ([]Appended, error) {
	if !placed(as[part].Expected) || uint64(conflict.Actual) <= uint64(max(as[part].Expected, 0)) {
		return nil, conflict // the stream has nothing where the part would be
	}
	s := a.s
	at := make([]Appended, len(as))
	var all, none, some int
	for i := range as {
		if !placed(as[i].Expected) {
			continue
		}
		var have standing
		var err error
		if at[i], have, err = s.inPlace(ctx, as[i]); err != nil {
			return nil, undecided(conflict, err)
		}
		switch have {
		case allOfIt:
			all++
		case noneOfIt:
			none++
		default:
			some++
		}
	}
	if all == 0 && some == 0 {
		return nil, conflict
	}
	whole := none == 0 && some == 0
	var above Position // of the parts before
	for i := range as {
		if whole && !placed(as[i].Expected) {
			var err error
			if at[i], whole, err = s.find(ctx, as[i], above); err != nil {
				return nil, undecided(conflict, err)
			}
		}
		above = max(above, at[i].Position)
	}
	if !whole {
		return nil, fmt.Errorf("eventstore: append to %d streams: %w: some of its events are stored already", len(as), ErrDuplicate)
	}
	return at, nil
}

// find returns where the events of a stand in its stream, one after the other, above a position.
func (s *Store) find(ctx context.Context, a driver.Append, above Position) (at Appended, ok bool, err error) {
	n := len(a.Events)
	for from, left := uint64(0), n; ; {
		page, err := s.d.ReadStream(ctx, a.Stream, from, driver.Backward, s.opt.PageSize)
		if err != nil {
			return Appended{}, false, err
		}
		for i := range page {
			r := &page[i]
			if Position(r.Position) <= above {
				return Appended{}, false, nil
			}
			if r.ID != a.Events[left-1].ID {
				left = n // it may be the last
			}
			if r.ID == a.Events[left-1].ID {
				if left == n {
					at = Appended{Version(r.Version), Position(r.Position)}
				}
				if left--; left == 0 {
					return at, true, nil
				}
			}
			from = r.Version
		}
		if len(page) < s.opt.PageSize {
			return Appended{}, false, nil
		}
	}
}
