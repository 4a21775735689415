package driver

import (
	"context"
	"time"
)

// A Batcher commits many appends at once. Each sees what those before it in
// the batch wrote; one that conflicts fails alone. There is one Result an
// Append, in order. If the commit itself fails, every append that had not failed by
// itself gets ErrOutcomeUnknown, or, where it is known that nothing was written,
// the driver's error; so does one that conflicted with an append before it in
// the batch, since that may not be there. The driver reads its head anew before
// the next batch.
// Context cancellation does not withdraw appends once AppendBatch has begun.
type Batcher interface {
	AppendBatch(ctx context.Context, as []Append) []Result
}

// An Inliner runs fn inside the transaction of an append, with the engine's own
// transaction handle, once for each append with the events as recorded. A
// failing fn fails its own append alone.
type Inliner interface {
	AppendWith(ctx context.Context, as []Append, fn func(tx any, events []Recorded) error) []Result
}

// Atomic is implemented by drivers that can append to several streams at once.
type Atomic interface {
	// AppendAtomic makes every append of as or none, and no reader of the log sees
	// a part of them; whoever has read an event of one stream finds those of the
	// others in theirs. Their streams differ, and each has events. The events get
	// their positions in the order of as. Together they are one append for the
	// Limits.
	//
	// There is one Result an append; Err is not set in any. The error is that of
	// the first append which cannot be made: its *ConflictError names the stream. Of
	// two whose streams overlap, and which expect the versions at which these stand,
	// one wins, in whatever order they name them.
	//
	// fn, unless it is nil, is called as [Inliner] does, once, with all events in the
	// order of their positions; if it fails, nothing is written and its error is
	// returned. It is nil for a driver that is no Inliner.
	AppendAtomic(ctx context.Context, as []Append, fn func(tx any, events []Recorded) error) ([]Result, error)
}

// A Lister tells which streams there are.
type Lister interface {
	// Streams returns at most limit streams of a category, or of all that do
	// not start with "$" if it is empty, whose names sort after after bytewise,
	// in that order. Purged streams are left out, deleted ones are listed as
	// such.
	Streams(ctx context.Context, category, after string, limit int) ([]StreamInfo, error)
	// Categories returns the categories that have a stream, sorted, but for
	// those that start with "$".
	Categories(ctx context.Context) ([]string, error)
}

// A Deleter removes events. Versions are never used again.
type Deleter interface {
	// Truncate makes stream start at version before: those below can no longer
	// be read, by any reader. Truncating past the end, or a stream that does
	// not exist, is an error that changes nothing; truncating less than before
	// is a no-op.
	Truncate(ctx context.Context, stream string, before uint64) error
	// Delete truncates stream to its end and lets expectations count it as
	// absent; the next event has the version after its last. expected is as in
	// Append. Deleting what is already deleted is a no-op.
	Delete(ctx context.Context, stream string, expected int64) error
	// Purge removes the stream's events and its snapshot for good. From then on
	// it can neither be read nor appended to: ErrStreamDeleted. Purging twice
	// is a no-op; what does not exist can be purged.
	Purge(ctx context.Context, stream string) error
}

// A Dater finds positions by time.
type Dater interface {
	// PositionAt returns the greatest position whose event was recorded before t,
	// 0 if there is none, so that reading after it starts with the first event at or after t.
	PositionAt(ctx context.Context, t time.Time) (uint64, error)
}

// A Snapshotter keeps the latest snapshot of a stream. For a driver without it
// the portable store keeps snapshots in streams of their own.
type Snapshotter interface {
	// SaveSnapshot replaces the snapshot of stream, unless the stored one has a
	// higher version: then it does nothing. A purged stream is ErrStreamDeleted.
	SaveSnapshot(ctx context.Context, stream string, s Snapshot) error
	// LoadSnapshot returns the snapshot of stream; ok is false if there is none.
	LoadSnapshot(ctx context.Context, stream string) (s Snapshot, ok bool, err error)
	// DeleteSnapshot forgets the snapshot of stream, if there is one.
	DeleteSnapshot(ctx context.Context, stream string) error
}

// A Snapshot is the state of a stream at a version.
type Snapshot struct {
	Version uint64
	Schema  int
	Data    []byte
}

// A Checkpoint is how far a named reader has come. Fence is that of the lease
// under which it was saved. Data is the reader's own.
type Checkpoint struct {
	Position, Fence uint64
	Data            []byte
}

// A Checkpointer keeps named checkpoints.
type Checkpointer interface {
	// LoadCheckpoint returns the named checkpoint; ok tells one at position 0
	// from none.
	LoadCheckpoint(ctx context.Context, name string) (c Checkpoint, ok bool, err error)
	// SaveCheckpoint replaces the checkpoint from with to, both or neither. If
	// the stored one differs from *from in Position or Fence, or exists though
	// from is nil, or has a Fence above to's, it changes nothing and returns
	// ErrMoved.
	SaveCheckpoint(ctx context.Context, name string, from *Checkpoint, to Checkpoint) error
	// DeleteCheckpoint forgets the named checkpoint, if there is one.
	DeleteCheckpoint(ctx context.Context, name string) error
	// Checkpoints returns those whose names start with prefix.
	Checkpoints(ctx context.Context, prefix string) (map[string]Checkpoint, error)
}

// A Leaser grants exclusive, expiring leases. Time is the store's.
type Leaser interface {
	// Acquire gives the named lease to owner for ttl, unless another holds it
	// and it has not expired: then ok is false. The holder's own Acquire renews
	// it and keeps its fence; a new holder's fence is greater than every
	// earlier one of that name.
	Acquire(ctx context.Context, name, owner string, ttl time.Duration) (fence uint64, ok bool, err error)
	// Release ends the lease if owner holds it under fence; otherwise it is a no-op.
	Release(ctx context.Context, name, owner string, fence uint64) error
	// Leases returns those that have not expired and whose names start with prefix, by name.
	Leases(ctx context.Context, prefix string) ([]Lease, error)
}

// A Lease is held by Owner until Expires.
type Lease struct {
	Name, Owner string
	Fence       uint64
	Expires     time.Time
}

// Conditional is implemented by drivers that can append under a dynamic
// consistency boundary: a condition on events by type and tag, across streams.
// The specification is at https://dcb.events.
type Conditional interface {
	// AppendIf appends events, each at the end of its own stream, all or none,
	// unless an event that matches any item lies above after: then it returns a
	// *ConflictError with the position of the first such event. No items mean no condition.
	//
	// fn, unless it is nil, is called as [Inliner] does, once, with all events in the
	// order of their positions; if it fails, nothing is written and its error is
	// returned. It is nil for a driver that is no Inliner.
	AppendIf(ctx context.Context, items []QueryItem, after uint64, events []StreamEvent, fn func(tx any, events []Recorded) error) Result
	// Query is a Forward ReadAll for a tag query. No items match every event
	// but those of "$" streams.
	Query(ctx context.Context, items []QueryItem, after uint64, limit int) (events []Recorded, scanned uint64, err error)
}

// A QueryItem matches events of any of Types that bear all of Tags. An empty
// field matches everything.
type QueryItem struct{ Types, Tags []string }

// Match reports whether the item matches an event of a type with tags.
func (q *QueryItem) Match(typ string, tags []string) bool {
	if len(q.Types) > 0 && !contains(q.Types, typ) {
		return false
	}
	for _, t := range q.Tags {
		if !contains(tags, t) {
			return false
		}
	}
	return true
}

// A StreamEvent is an Event and the stream it goes to.
type StreamEvent struct {
	Stream string
	Event
}

// A Viewer gives the engine's own handles: As reports whether it can give a
// value of *target's type, and sets it.
type Viewer interface {
	As(target any) bool
}
