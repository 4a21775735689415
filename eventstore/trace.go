package eventstore

import (
	"context"
	"time"
)

// A Trace is told what a Store does, for logs, metrics and traces. Nil funcs
// are not called. Funcs are called from many goroutines and must be quick. The
// context that a Start func returns is passed on to the driver and to the End func.
type Trace struct {
	// AppendStart and AppendEnd surround one append, from its call to its outcome: by a Store,
	// an AtomicStore or a TagStore. Of the latter two, at has no Version, and the Position of the last
	// event of all.
	AppendStart func(ctx context.Context, a AppendInfo) context.Context
	AppendEnd   func(ctx context.Context, at Appended, err error)
	// CommitStart and CommitEnd surround one commit of the driver, which may hold many appends. Appends
	// that are never committed together with others have none: those to several streams, and all of
	// a driver that cannot do it.
	CommitStart func(ctx context.Context, c CommitInfo) context.Context
	CommitEnd   func(ctx context.Context, took time.Duration, err error)
	// ReadStart and ReadEnd surround one page read from the driver.
	ReadStart func(ctx context.Context, r ReadInfo) context.Context
	ReadEnd   func(ctx context.Context, events int, err error)
	// Lagging is told of a transient subscription that left the tail to catch up.
	Lagging func(f Filter, behind Position)
}

// An AppendInfo describes an append about to be made.
type AppendInfo struct {
	Stream   StreamName // the first, if there are several
	Expected Expected   // of Stream; Any if the append is Conditional
	Events   int        // of all streams
	// Streams are all streams of an append by an AtomicStore or a TagStore, each once, in the order in
	// which they are named; nil otherwise.
	Streams     []StreamName
	Conditional bool // by a TagStore
}

// A CommitInfo describes a commit about to be made.
type CommitInfo struct {
	Appends, Events, Bytes int
	Wait                   time.Duration // how long the first append has waited for it
}

// A ReadInfo describes a page about to be read: of Stream after Version, or, if
// Stream is empty, of what Filter selects after Position.
type ReadInfo struct {
	Stream   StreamName
	Version  Version
	Filter   Filter
	Position Position
}
