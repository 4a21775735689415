// Package command carries commands to whatever executes them, as net/http carries
// requests: [Envelope] is its Request, [Handler] its Handler, [Middleware] its way
// of wrapping one handler in another.
//
//	Dispatch ──► middleware ──► router ──► aggregate ──► event store
//	   ▲                                        │
//	   └──────────────── Result ◄───────────────┘
//
// [Dispatch] sends a command and waits for what becomes of it. [Submit] sends a
// command and returns a [Pending] to ask later, so that one goroutine can have
// many commands under way without losing their order.
//
// # Options
//
// [Once] makes a command safe to send twice, [At] makes it conditional on what
// the caller has seen, [Meta] adds metadata to its events, and [Wait] returns only
// when what reads the events has read them.
//
// # Later
//
// [DispatchAt] and [DispatchAfter] have a command dispatched at a time,
// [CancelScheduled] takes it back. Both need a scheduler, such as schedule.Timers.
//
// # Conversations
//
// Every command has an ID and a correlation. A command dispatched with the context
// of an event handler (see eventstore.NewContext) continues that event's
// conversation and names the event as its cause; the command's own events name the
// command as theirs.
//
// # Errors
//
// The error of a command that its aggregate refuses is the one its Execute
// returned, untouched. [ErrUnrouted] means that nothing handles the command, an
// eventstore.ErrInvalid that it was refused at the door, [ErrOutcomeUnknown] that
// nobody can say yet whether its events were stored, [ErrNotAwaited] that they were
// stored but not read in time, and a [*PanicError] that the handler panicked.
package command
