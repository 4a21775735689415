package driver

import (
	"context"
	"time"
)

// A Store is one event log. Its methods must be safe for concurrent use, must
// heed ctx, and must return ErrClosed after Close. Slices and maps passed in
// must not be modified or kept past the return, unless the driver copies them; those
// returned must not be modified by the driver later.
type Store interface {
	// Append appends a.Events to a.Stream, all or none. If the stream is not as
	// a.Expected says it must write nothing and return a *ConflictError.
	// When Result.Err is nil the events are durable to the degree that the
	// driver documents. Appends by several callers that expect the same version
	// must have exactly one winner; with Any all must succeed, with versions
	// dense and unique.
	Append(ctx context.Context, a Append) Result

	// ReadStream returns at most limit events of stream, in the order of their
	// versions: Forward those above from, Backward those below from in
	// descending order, where from 0 is the end. A stream that does not exist is
	// empty; that is not an error. A truncated stream starts at its first
	// remaining event. Fewer than limit events means that the end was reached,
	// as it stood during the call. A purged stream is ErrStreamDeleted.
	ReadStream(ctx context.Context, stream string, from uint64, dir Direction, limit int) ([]Recorded, error)

	// ReadAll returns at most limit events that f selects, in the order of
	// their positions: Forward those above from, Backward those below from in
	// descending order, where from 0 is the end. scanned is the position up to
	// which the log was examined: going Forward, no event at or below scanned
	// that f selects may ever be returned later; going Backward, it is the
	// lowest position examined, and 0 when the beginning was reached. A call
	// examines a bounded number of events and may return fewer than limit, or
	// none, with scanned short of the head: callers go on while scanned moves,
	// and it must move until it reaches the head. A driver whose writers may
	// commit out of order must hold back positions until all this is true.
	ReadAll(ctx context.Context, f Filter, from uint64, dir Direction, limit int) (events []Recorded, scanned uint64, err error)

	// Wait blocks until the store may hold an event positioned above after, or
	// ctx is done (it returns ctx.Err()), or the store is closed (ErrClosed). It
	// is a hint: it may return early for nothing, and the portable store polls
	// beside it, so a lost wake-up costs a poll interval, never an event.
	Wait(ctx context.Context, after uint64) error

	// Head returns the position of the last readable event, 0 if there is none.
	Head(ctx context.Context) (uint64, error)

	// Stream tells where a stream stands. Its zero value (but for Name) says
	// that there is none.
	Stream(ctx context.Context, stream string) (StreamInfo, error)

	// Limits returns what the engine can take in one piece. It never changes.
	Limits() Limits

	// Close releases what the driver holds. It waits for calls under way and may
	// be called more than once.
	Close() error
}

// An Append is a request to add events to one stream.
type Append struct {
	Stream string
	// Expected is the exact version at which the stream must stand, if positive,
	// or one of Any, NoStream, StreamExists. A deleted stream counts as absent:
	// NoStream and Any hold; anything else is a conflict with Actual 0.
	Expected int64
	Events   []Event
}

// Values of Append.Expected besides an exact version.
const (
	Any          int64 = 0  // no check
	NoStream     int64 = -1 // there must be no such stream
	StreamExists int64 = -2 // there must be one, at any version
)

// A Result is what became of one Append.
type Result struct {
	Version uint64 // of the stream, after the last event
	// Positions has one position an event, in order. It is nil where the engine
	// tells only the last one.
	Positions []uint64
	Last      uint64    // position of the last event
	Time      time.Time // when the events were recorded, as readers will see it
	Err       error
}

// An Event is an event to be appended.
type Event struct {
	ID          [16]byte
	Type        string
	ContentType string
	Data        []byte
	Metadata    map[string]string
	Tags        []string
	Correlation [16]byte
	Causation   [16]byte
}

// A Recorded is an event as stored. An empty Metadata or Tags reads as nil.
// Time is UTC with at least microseconds.
type Recorded struct {
	Event
	Stream   string
	Version  uint64
	Position uint64
	Time     time.Time
}

// A Direction says which way to read.
type Direction int8

const (
	Forward Direction = iota
	Backward
)

// A Filter selects events: those that match one of each non-empty field.
// The zero Filter selects all but the streams that start with "$", which are
// selected only by name or category, or with System.
type Filter struct {
	Streams, Categories, Types []string
	System                     bool // streams that start with "$" too
}

// A StreamInfo tells where a stream stands.
type StreamInfo struct {
	Name    string
	Version uint64 // of its last event, deleted or not; 0 if there never was one
	First   uint64 // of its first readable event; Version+1 if there is none left
	// Deleted says that the stream was deleted, and not appended to since.
	Deleted bool
	// Origin is the version at which the stream stood when it was last deleted,
	// 0 if it never was: what it holds now began with the event after it.
	Origin uint64
}

// Limits are what an engine can take. Zero means no limit of its own.
type Limits struct {
	EventBytes   int // of one event: its data, metadata, tags and names
	AppendEvents int // events in one append
	AppendBytes  int // bytes in one append
	BatchEvents  int // events in one AppendBatch
	BatchBytes   int // bytes in one AppendBatch
	NameBytes    int // bytes in a stream name
	Writers      int // batches that may be under way at once; 0 is 1
	// Exclusive says that no other process writes to this store while this one
	// has it open, so that what it remembers of a stream is the truth.
	Exclusive bool
}

// Size returns the bytes of e that count towards the limits.
func (e *Event) Size() int {
	n := len(e.Type) + len(e.ContentType) + len(e.Data) + 3*16
	for k, v := range e.Metadata {
		n += len(k) + len(v)
	}
	for _, t := range e.Tags {
		n += len(t)
	}
	return n
}

// Category returns the part of a stream name before its first dash, or the
// whole name if there is none.
func Category(stream string) string {
	for i := range len(stream) {
		if stream[i] == '-' {
			return stream[:i]
		}
	}
	return stream
}

// Match reports whether f selects an event of a stream and type. It is the
// definition that every driver's own filtering must agree with.
func (f *Filter) Match(stream, typ string) bool {
	if len(f.Types) > 0 && !contains(f.Types, typ) {
		return false
	}
	if len(f.Streams) > 0 && !contains(f.Streams, stream) {
		return false
	}
	if len(f.Categories) > 0 && !contains(f.Categories, Category(stream)) {
		return false
	}
	// A stream of the system must have been asked for by name.
	return stream == "" || stream[0] != '$' || f.System || len(f.Streams) > 0 || len(f.Categories) > 0
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
