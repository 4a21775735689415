// Package eventstore is a portable, append-only store of events. Subpackages
// hold the engines: memstore (in memory), sqlitestore (a file), pgstore (PostgreSQL),
// kurrentstore (EventStoreDB, KurrentDB) and natsstore (NATS JetStream). Each has an
// Open that returns a *[Store].
//
// There are few types: [Store], [Event] (to append), [Recorded] (as read),
// [Filter], [Batch], [Subscription] and [Types].
//
//	           Append ──► queue ──► group commit ──► driver
//	                                     │ durable
//	                                     ▼
//	Subscribe, Follow ◄── index ◄────── tail ◄────── driver (what others wrote)
//	ReadStream, ReadAll ◄─────────────────────────── driver
//
// # The model
//
// A stream is the sequence of events of one thing, usually an aggregate; its
// name is a category, a dash and an id, as "room-lobby". A version counts the
// events of a stream: the first has version 1. A position orders all events of
// the store: positions increase and may have gaps. No reader ever sees a
// position while a lower one may still appear.
//
// # Appending
//
// [Store.Append] adds events to one stream, all or none, if the stream is where
// the caller expects it. Appends that arrive while a commit runs are committed
// together by the next one. Appending the same events, by their IDs, at the same place
// again returns what the first append returned. [Store.Atomic] appends to several streams at
// once, and [Store.Tags] under a condition on the events of any, where the engine can.
//
// # Reading
//
// Sequences ([Store.ReadStream], [Store.ReadAll]) end at the present head.
// [Store.Follow] goes on with what is appended. [Subscribe] delivers on a
// channel, through a selector and a mapper, for callers that must select among
// several things. [Store.Consume] delivers what must be acknowledged, to members
// in any number of processes that share the work; the store remembers how far
// they are. None loses an event: a subscriber that falls behind is fed from the
// store until it has caught up.
//
// # Types
//
// Events are stored under explicit names, never under those of Go types: see
// [Types]. A reader never fails because of an event that it does not know or
// cannot decode: Data is nil then, and Raw remains.
//
// # Errors
//
// Errors are tested with errors.Is against the variables below, and with
// errors.As for [*ConflictError]. A driver's own errors are wrapped and can be
// reached by errors.As.
package eventstore
