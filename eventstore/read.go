package eventstore

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/internal/system"
)

// ReadStream returns the events of stream after a version, in order, up to its
// present end. A stream that does not exist is empty. Like every sequence in
// this package it ends after yielding a non-nil error, and holds nothing of the
// store while its user works on what it yielded.
func (s *Store) ReadStream(ctx context.Context, stream StreamName, after Version) iter.Seq2[*Recorded, error] {
	return each(s.streamPages(ctx, stream, uint64(after), driver.Forward))
}

// ReadStreamBackward returns the events of stream before a version, the latest
// first; before 0 is the end.
func (s *Store) ReadStreamBackward(ctx context.Context, stream StreamName, before Version) iter.Seq2[*Recorded, error] {
	return each(s.streamPages(ctx, stream, uint64(before), driver.Backward))
}

// ReadAll returns the events f selects after a position, in order, up to the
// head as it was at the first step.
func (s *Store) ReadAll(ctx context.Context, f Filter, after Position) iter.Seq2[*Recorded, error] {
	return each(func(yield func(StreamPage, error) bool) {
		head, err := s.Head(ctx)
		if err != nil {
			yield(StreamPage{}, err)
			return
		}
		if after >= head {
			return
		}
		for b, err := range s.allPages(ctx, f, uint64(after), driver.Forward) {
			for i, r := range b.Events {
				if r.Position > head {
					b.Events = b.Events[:i]
					break
				}
			}
			if !yield(StreamPage{Events: b.Events}, err) || b.Position >= head {
				return
			}
		}
	})
}

// ReadAllBackward returns the events f selects before a position, the latest
// first; before 0 is the end.
func (s *Store) ReadAllBackward(ctx context.Context, f Filter, before Position) iter.Seq2[*Recorded, error] {
	return each(func(yield func(StreamPage, error) bool) {
		for b, err := range s.allPages(ctx, f, uint64(before), driver.Backward) {
			if !yield(StreamPage{Events: b.Events}, err) {
				return
			}
		}
	})
}

func each(pages iter.Seq2[StreamPage, error]) iter.Seq2[*Recorded, error] {
	return func(yield func(*Recorded, error) bool) {
		for p, err := range pages {
			for _, r := range p.Events {
				if !yield(r, nil) {
					return
				}
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// A StreamPage is a run of consecutive events of one stream. First and Last are
// the versions of the first and last event stored there; they count events that
// an upcast left nothing of.
type StreamPage struct {
	Events      []*Recorded
	First, Last Version
}

// ReadStreamPages is ReadStream by the page, for those who fold a stream and
// must know at which version they stand. A page is never empty of stored events.
func (s *Store) ReadStreamPages(ctx context.Context, stream StreamName, after Version) iter.Seq2[StreamPage, error] {
	return s.streamPages(ctx, stream, uint64(after), driver.Forward)
}

// firstBackward is the size of the first page of a backward read, whose users
// mostly want a few. Pages double from there.
const firstBackward = 16

func (s *Store) streamPages(ctx context.Context, stream StreamName, from uint64, dir driver.Direction) iter.Seq2[StreamPage, error] {
	return func(yield func(StreamPage, error) bool) {
		if err := stream.Validate(); err != nil {
			yield(StreamPage{}, fmt.Errorf("eventstore: read: %w", err))
			return
		}
		next := func(ctx context.Context, from uint64, limit int) (page, error) {
			stored, err := s.readStream(ctx, stream, from, dir, limit)
			if err != nil {
				return page{}, fmt.Errorf("eventstore: read %s: %w", stream, err)
			}
			p := page{stored: stored, end: len(stored) < limit}
			if n := len(stored); n > 0 {
				p.next = stored[n-1].Version
			}
			return p, nil
		}
		for p, err := range s.pages(ctx, from, dir, next) {
			if err != nil {
				yield(StreamPage{}, err)
				return
			}
			if len(p.stored) == 0 {
				return
			}
			sp := StreamPage{
				Events: s.decodePage(ctx, p.stored, dir),
				First:  Version(p.stored[0].Version),
				Last:   Version(p.stored[len(p.stored)-1].Version),
			}
			if !yield(sp, nil) {
				return
			}
		}
	}
}

func (s *Store) allPages(ctx context.Context, f Filter, from uint64, dir driver.Direction) iter.Seq2[Batch[*Recorded], error] {
	return func(yield func(Batch[*Recorded], error) bool) {
		df := s.driverFilter(f)
		next := func(ctx context.Context, from uint64, limit int) (page, error) {
			return s.readAll(ctx, f, df, from, dir, limit)
		}
		for p, err := range s.pages(ctx, from, dir, next) {
			if err != nil {
				yield(Batch[*Recorded]{}, err)
				return
			}
			if !yield(Batch[*Recorded]{s.matching(f, s.decodePage(ctx, p.stored, dir)), Position(p.next)}, nil) {
				return
			}
		}
	}
}

// A page is what one read of the driver gave.
type page struct {
	stored []driver.Recorded
	next   uint64 // where the next read starts
	end    bool   // there is nothing more
}

// pages reads page after page. While the user of one works, the next is read,
// once it is clear that there are many.
func (s *Store) pages(ctx context.Context, from uint64, dir driver.Direction, read func(context.Context, uint64, int) (page, error)) iter.Seq2[page, error] {
	type result struct {
		page
		err error
	}
	return func(yield func(page, error) bool) {
		limit := s.opt.PageSize
		if dir == driver.Backward {
			limit = min(limit, firstBackward)
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // ends a read ahead that nobody wants
		p, err := read(ctx, from, limit)
		for n := 1; ; n++ {
			if err != nil {
				yield(page{}, err)
				return
			}
			limit = min(s.opt.PageSize, 2*limit)
			var ahead chan result
			if !p.end && n > 1 {
				ahead = make(chan result, 1)
				go func(from uint64, limit int) {
					p, err := read(ctx, from, limit)
					ahead <- result{p, err}
				}(p.next, limit)
			}
			if !yield(p, nil) || p.end {
				return
			}
			if ahead == nil {
				p, err = read(ctx, p.next, limit)
			} else {
				r := <-ahead
				p, err = r.page, r.err
			}
		}
	}
}

// readAll reads one page of what f selects.
func (s *Store) readAll(ctx context.Context, f Filter, df driver.Filter, from uint64, dir driver.Direction, limit int) (page, error) {
	t := s.opt.Trace
	if t.ReadStart != nil {
		ctx = t.ReadStart(ctx, ReadInfo{Filter: f, Position: Position(from)})
	}
	stored, scanned, err := s.d.ReadAll(ctx, df, from, dir, limit)
	if t.ReadEnd != nil {
		t.ReadEnd(ctx, len(stored), err)
	}
	if err != nil {
		return page{}, fmt.Errorf("eventstore: read: %w", err)
	}
	// Where nothing moved, this is the head, or the beginning.
	return page{stored: stored, next: scanned, end: scanned == from || dir == driver.Backward && scanned == 0}, nil
}

func (s *Store) readStream(ctx context.Context, stream StreamName, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
	t := s.opt.Trace
	if t.ReadStart != nil {
		ctx = t.ReadStart(ctx, ReadInfo{Stream: stream, Version: Version(from)})
	}
	stored, err := s.d.ReadStream(ctx, string(stream), from, dir, limit)
	if t.ReadEnd != nil {
		t.ReadEnd(ctx, len(stored), err)
	}
	return stored, err
}

// driverFilter is f with the names of old forms that may become what f selects.
func (s *Store) driverFilter(f Filter) driver.Filter {
	df := f.driver()
	df.Types = s.Types.load().sources(f.Types)
	return df
}

// matching drops what was read only because it might have become one of f's
// types and did not.
func (s *Store) matching(f Filter, events []*Recorded) []*Recorded {
	if len(f.Types) == 0 || len(s.Types.load().upcasts) == 0 {
		return events
	}
	return slices.DeleteFunc(events, func(r *Recorded) bool { return !f.matchType(r) })
}

func (s *Store) decodePage(ctx context.Context, stored []driver.Recorded, dir driver.Direction) []*Recorded {
	events := make([]*Recorded, 0, len(stored))
	if system.IsRaw(ctx) {
		for i := range stored {
			r := &Recorded{}
			fill(r, &stored[i])
			events = append(events, r)
		}
		return events
	}
	events = s.decoder.page(ctx, stored, events)
	if dir == driver.Backward {
		// The parts of one event go backward too.
		for i := 0; i < len(events); {
			j := i + 1
			for j < len(events) && events[j].Position == events[i].Position {
				j++
			}
			slices.Reverse(events[i:j])
			i = j
		}
	}
	return events
}

// Start says where a subscription begins. The zero Start is the head: what is
// appended from now on.
type Start struct {
	kind  startKind
	after Position
	time  time.Time
}

type startKind uint8

const (
	atHead startKind = iota
	afterPosition
	atTime
)

// Origin starts with the first event there is.
func Origin() Start { return After(0) }

// After starts with the first event after p.
func After(p Position) Start { return Start{kind: afterPosition, after: p} }

// AtTime starts with the first event recorded at t or later. Drivers that cannot
// find positions by time refuse it with ErrUnsupported.
func AtTime(t time.Time) Start { return Start{kind: atTime, time: t} }

// position returns the position after which st starts.
func (s *Store) position(ctx context.Context, st Start) (Position, error) {
	switch st.kind {
	case afterPosition:
		return st.after, nil
	case atTime:
		d, ok := s.d.(driver.Dater)
		if !ok {
			return 0, fmt.Errorf("eventstore: start by time: %w", ErrUnsupported)
		}
		p, err := d.PositionAt(ctx, st.time)
		if err != nil {
			return 0, fmt.Errorf("eventstore: position at %s: %w", st.time, err)
		}
		return Position(p), nil
	}
	return s.Head(ctx)
}
