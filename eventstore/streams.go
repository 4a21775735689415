package eventstore

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/levada-go/levada/eventstore/driver"
)

// Stream tells where a stream stands. If there is none its Version is 0.
func (s *Store) Stream(ctx context.Context, stream StreamName) (StreamInfo, error) {
	if err := stream.Validate(); err != nil {
		return StreamInfo{}, fmt.Errorf("eventstore: stream: %w", err)
	}
	info, err := s.d.Stream(ctx, string(stream))
	if err != nil {
		return StreamInfo{}, fmt.Errorf("eventstore: stream %s: %w", stream, err)
	}
	return streamInfo(info, stream), nil
}

func streamInfo(i driver.StreamInfo, name StreamName) StreamInfo {
	return StreamInfo{Name: name, Version: Version(i.Version), First: Version(i.First), Deleted: i.Deleted, Origin: Version(i.Origin)}
}

// Streams returns the streams of a category, or of all that are not the
// library's own if it is empty, by name. Deleted ones are among them, purged ones
// are not. A driver that keeps no list ends the sequence with ErrUnsupported.
func (s *Store) Streams(ctx context.Context, category string) iter.Seq2[StreamInfo, error] {
	return func(yield func(StreamInfo, error) bool) {
		l, ok := s.d.(driver.Lister)
		if !ok {
			yield(StreamInfo{}, fmt.Errorf("eventstore: streams: %w", ErrUnsupported))
			return
		}
		after := ""
		for {
			page, err := l.Streams(ctx, category, after, s.opt.PageSize)
			if err != nil {
				yield(StreamInfo{}, fmt.Errorf("eventstore: streams: %w", err))
				return
			}
			for _, i := range page {
				if !yield(streamInfo(i, StreamName(i.Name)), nil) {
					return
				}
				after = i.Name
			}
			if len(page) < s.opt.PageSize {
				return
			}
		}
	}
}

// Categories returns the categories that have a stream, sorted, or an ErrUnsupported.
func (s *Store) Categories(ctx context.Context) ([]string, error) {
	l, ok := s.d.(driver.Lister)
	if !ok {
		return nil, fmt.Errorf("eventstore: categories: %w", ErrUnsupported)
	}
	list, err := l.Categories(ctx)
	if err != nil {
		return nil, fmt.Errorf("eventstore: categories: %w", err)
	}
	return list, nil
}

// Truncate makes stream start at version before: earlier events can no longer be
// read. Versions stay as they are. Truncating less than before is a no-op;
// truncating past the end of a stream is an error. A driver that cannot returns ErrUnsupported.
func (s *Store) Truncate(ctx context.Context, stream StreamName, before Version) error {
	return s.remove(ctx, "truncate", stream, func(d driver.Deleter) error {
		return d.Truncate(ctx, string(stream), uint64(before))
	})
}

// Delete truncates stream to its end and lets expectations count it as absent:
// it can be created again with NoStream, and its next event has the version
// after its last. Its snapshot goes with it. Readers of everything may go on
// seeing its events until the driver cleans up. If the stream is not as
// expected Delete returns a *ConflictError; deleting what is already deleted is
// a no-op.
func (s *Store) Delete(ctx context.Context, stream StreamName, expected Expected) error {
	return s.remove(ctx, "delete", stream, func(d driver.Deleter) error {
		if err := d.Delete(ctx, string(stream), int64(expected)); err != nil {
			if c, ok := errors.AsType[*driver.ConflictError](err); ok {
				return &ConflictError{stream, expected, Version(c.Actual)}
			}
			return err
		}
		return s.dropSnapshot(ctx, stream)
	})
}

// Purge removes the events of stream and its snapshot for good. From then on it
// can neither be read nor appended to: ErrStreamDeleted. Purging twice is a no-op.
func (s *Store) Purge(ctx context.Context, stream StreamName) error {
	return s.remove(ctx, "purge", stream, func(d driver.Deleter) error {
		if _, ok := s.d.(driver.Snapshotter); !ok {
			if err := d.Purge(ctx, string(snapshotStream(stream))); err != nil {
				return err
			}
		}
		return d.Purge(ctx, string(stream))
	})
}

func (s *Store) remove(ctx context.Context, verb string, stream StreamName, fn func(driver.Deleter) error) error {
	d, ok := s.d.(driver.Deleter)
	if !ok {
		return fmt.Errorf("eventstore: %s %s: %w", verb, stream, ErrUnsupported)
	}
	err := s.writable(ctx, stream)
	if err == nil && s.closing.Load() {
		err = ErrClosed
	}
	if err == nil {
		err = fn(d)
		s.changed(stream, 0)
	}
	if err != nil {
		return fmt.Errorf("eventstore: %s %s: %w", verb, stream, err)
	}
	return nil
}
