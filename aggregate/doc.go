// Package aggregate defines and runs event-sourced aggregates.
//
// An aggregate is made of plain types: a state S, commands that Execute against
// it, and events that Apply to it. A [Type] ties them to a stream category and to
// stored names. A [Repository] runs them on a store.
//
//	commands ──► queue ──► Execute, Apply, Execute, Apply, … ──► one append ──► durable
//	             (FIFO)    on a speculative state                                 │
//	callers  ◄── answers, in order ◄── state published ◄─────────────────────────┘
//
// # The order of a command
//
//  1. The command joins the queue of its aggregate. A full queue blocks its caller.
//  2. Whoever finds the aggregate idle holds it. If it is not in memory it is read:
//     the snapshot, then the events after it.
//  3. The holder takes the commands that wait, in order, and for each checks its key
//     (command.Once) and the version it asks for (command.At), calls Execute, and
//     applies the events to a speculative state.
//  4. The events of all of them are appended at once, at the version on which the
//     first was decided.
//  5. Once they are durable the state counts: callers are answered in order, View
//     shows it, and a snapshot may be written in the background.
//  6. If somebody else appended meanwhile, all are decided again on the new state,
//     in the same order, at most eight times each. If the append fails otherwise,
//     the speculative state is thrown away and the callers get the error.
//  7. The holder lets go after one such batch, and the next waiter holds the aggregate.
//
// So a busy aggregate costs one append for everything that arrived during the
// append before, and an aggregate that nobody asks for costs no goroutine.
//
// # Refusals are facts too
//
// A refusal, a command without events, a version that is not as asked for, and
// what View shows are all answers from a state that is known to be the latest. On a
// store that other processes write to, that costs one read of the stream's version
// for every batch without events.
//
// # Errors
//
// What Execute returns reaches the caller untouched. [ErrTruncated] and an
// eventstore.ErrUnregistered or ErrCodec mean that the aggregate's own stream cannot be
// read back; see also the errors of package command.
package aggregate
