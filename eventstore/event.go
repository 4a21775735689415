package eventstore

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
)

// An ID is a UUID. NewID makes them time-ordered (version 7).
type ID = uuid.UUID

// NewID returns a new ID: a UUID of version 7 whose first 60 bits are the time
// in units of a quarter microsecond (RFC 9562, section 6.2, method 3) and whose
// last 62 are random.
func NewID() ID {
	var id ID
	now := time.Now()
	ms := uint64(now.UnixMilli())
	sub := uint64(now.Nanosecond()%1e6) << 12 / 1e6
	binary.BigEndian.PutUint64(id[:8], ms<<16|7<<12|sub)
	binary.BigEndian.PutUint64(id[8:], rand.Uint64()&(1<<62-1)|1<<63)
	return id
}

// An Event is something that happened. To append one, set Data; the rest is
// filled in.
type Event struct {
	ID          ID                // a new one if zero
	Type        string            // stored name of Data's type; see Types
	Data        any               // when read: nil if Type is not registered, Erased if it was erased
	Metadata    map[string]string // keys that start with "$" are the library's own
	Tags        []string          // what boundaries select by; "name:ann"
	Correlation ID                // the conversation this belongs to
	Causation   ID                // the command or event this follows from

	// Raw and ContentType are Data as stored. An Event without Data is appended
	// with these as they are, for imports; Type must be set then.
	Raw         []byte
	ContentType string
}

// A Recorded is an event plus where and when it was recorded. Recorded events
// are shared between readers and must not be modified.
type Recorded struct {
	Event
	Stream   StreamName
	Version  Version
	Position Position
	Time     time.Time // UTC

	// Part numbers, from 0, the events that an UpcastSplit made of this one.
	Part int
	// Err says why Data is nil though Type is known.
	Err error

	stored string // the type as stored, if an upcast changed it
}

// Erased is the Data of an event whose key was destroyed.
type Erased struct{}

// A Batch is a run of consecutive events. Every event up to Position that the
// filter selects is in this batch or an earlier one, so Position, not the last
// event's, is what to checkpoint.
type Batch[T any] struct {
	Events   []T
	Position Position
}

type contextKey struct{}

// NewContext returns a context in which r is being handled. Commands dispatched
// and events appended with it belong to r's conversation and have r as their cause.
func NewContext(ctx context.Context, r *Recorded) context.Context {
	return context.WithValue(ctx, contextKey{}, r)
}

// FromContext returns the event being handled, or nil.
func FromContext(ctx context.Context) *Recorded {
	r, _ := ctx.Value(contextKey{}).(*Recorded)
	return r
}
