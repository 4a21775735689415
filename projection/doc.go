// Package projection keeps read models up to date with the events of a store.
//
// There are few types: a [Projection] says which func handles which event, a
// [Target] holds the read model together with its position, a [Group] runs
// projections and knows how far each has come.
//
//	store ──Follow──► batch ──► Target.Update ──┬─ handler, handler, …   all in one
//	                                            └─ position              transaction
//	                                                  │
//	Group.Wait ◄──── Group.Moved ◄────────────────────┘
//
// # Exactly once
//
// A batch of events, what the handlers wrote for it, and the position after it
// are committed by one [Target.Update], or none of them is. The position is moved
// by compare-and-set, so that two processes that run the same projection cannot
// both count an event: the one that comes late gets [ErrMoved], stands by, and
// takes over when the other no longer gets on. Handlers may be called
// more than once for an event; what they write through the transaction counts once.
//
// Events that the filter leaves out move the position too. A position moved by
// them alone is written after one second or 10,000 positions, when the
// projection ends, and at once while a process elsewhere waits for it.
//
// # Failures
//
// A handler that returns an error or panics fails its event, and so does an event
// that cannot be decoded. [Projection.OnError] decides what then happens: [Retry]
// with growing pauses (the default: a projection that lags is better than one that
// lies), [RetryAfter], [Skip], [Park], or [Stop], which ends that projection and no
// other. The events before a failing one are committed before it is tried again,
// so it holds up only those that come after it. A target that cannot be reached
// is nobody's event's fault and is always tried again.
//
// [Park] moves the event to the dead letters of its key, with those of the key that come
// later, and everything else flows. [Group.Parked] lists the keys, [Group.Retry]
// handles what is parked, in order, [Group.Discard] gives it up. Parked events count
// exactly once like all others, with several processes, crashes and resets: the
// order of the writes is at the top of park.go. A model that starts over tries parked
// and discarded events anew, each in its place.
//
// # Reading your writes
//
// [Group.Wait] returns when the named projections have handled everything up to
// a position, as an append or a command returned it. Where the projection runs
// in this process it looks at what was handled; elsewhere it looks at the
// position in the target, between every 10 milliseconds and every second.
//
// # Starting over
//
// [Group.Reset] empties a read model and handles every event again; [Group.Rebuild]
// tells how it gets on. A projection that Replaces another is filled beside it, while
// that one answers, and takes over when it has caught up: see [Live] and [Replaying].
//
// # Other ways to run
//
// With Partitions, events of different keys are handled at the same time, those of one
// key in order. Inline, they are handled in the transaction of their append, by an
// [InlineTarget]. [Load] folds them on demand. [Checkpointed] is for what has no
// transactions, at least once.
package projection
