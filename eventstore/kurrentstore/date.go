package kurrentstore

import (
	"context"
	"errors"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
)

// PositionAt implements [driver.Dater]. It reads the log backward from the end to the first event
// before t. On the way it leaps: if a stream on the page that was read has many events, a search by halves among
// its revisions finds the first that is not before t, and everything between was recorded after that one. So it takes some
// dozen round trips where there are streams that were written all the time, and reads all that was
// recorded since t where there are only short ones.
//
// Time is what the leaders' clocks said. Where one was behind the one before it, PositionAt finds
// an event before t after which another is not at or after t, or one between them.
func (d *store) PositionAt(ctx context.Context, t time.Time) (uint64, error) {
	ctx, done, err := d.g.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	first, err := d.g.one(ctx, readAll(0, 1, false))
	if err != nil || first == nil {
		return 0, err
	}
	if at, err := createdAt(first); err != nil || !at.Before(t) {
		return 0, err
	}
	const least = 64
	before := uint64(0)
	for count := uint64(least); ; {
		var s since
		err := d.g.page(ctx, readAll(before, count, true), func() { s = since{} }, func(e *recorded) error {
			if before > 0 && e.GetCommitPosition() >= before {
				return nil
			}
			return s.look(e, t)
		})
		if err != nil {
			return 0, err
		}
		if s.found > 0 || !s.cut && s.seen < count {
			return s.found, nil
		}
		before = s.last
		leap, passed, err := d.leap(ctx, s.stream, s.revision, t)
		if err != nil {
			return 0, err
		}
		if leap > 0 {
			before = min(before, leap)
		}
		if count = min(4*count, examine); passed > count {
			count = least // it was worth it
		}
	}
}

// A since is one attempt at a page of what was recorded at a time or later.
type since struct {
	seen     uint64
	bytes    int
	cut      bool   // it ended before the page
	last     uint64 // the position of the last event
	found    uint64 // that of the first one before the time
	stream   string // the one with the highest revision, as the server calls it,
	revision uint64 // and that
}

func (s *since) look(e *recorded, t time.Time) error {
	if err := placed(e); err != nil {
		return err
	}
	s.seen++
	s.last = e.GetCommitPosition()
	s.bytes += len(e.GetData()) + len(e.GetCustomMetadata())
	if _, ok := visible(e); ok {
		at, err := createdAt(e)
		if err != nil {
			return err
		}
		if at.Before(t) {
			s.found = s.last
			return errEnough
		}
		if e.GetStreamRevision() > s.revision {
			s.stream, s.revision = string(e.GetStreamIdentifier().GetStreamName()), e.GetStreamRevision()
		}
	}
	if s.bytes >= examineBytes {
		s.cut = true
		return errEnough
	}
	return nil
}

// leap returns the position of the first event of a stream that was not recorded before t, and how
// many of its events lie between that and the one with a revision, which was not either. There is none if the stream
// is gone, or begins there.
func (d *store) leap(ctx context.Context, stream string, revision uint64, t time.Time) (position, passed uint64, err error) {
	for low, high := uint64(0), revision; low < high; {
		middle := low + (high-low)/2
		e, err := d.g.one(ctx, readStream(stream, middle+1, 1, false)) // or what is the first then
		if errors.Is(err, errNoStream) || errors.Is(err, driver.ErrStreamDeleted) || err == nil && e == nil {
			return 0, 0, nil
		}
		if err == nil {
			err = placed(e)
		}
		if err != nil {
			return 0, 0, err
		}
		at, err := createdAt(e)
		switch {
		case err != nil:
			return 0, 0, err
		case at.Before(t):
			low = e.GetStreamRevision() + 1
		default:
			high = middle
			if r := e.GetStreamRevision(); r < revision {
				position, passed = e.GetCommitPosition(), revision-r
			}
		}
	}
	return position, passed, nil
}
