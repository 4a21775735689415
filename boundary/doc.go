// Package boundary makes decisions that no single aggregate can: whether a name is free, whether a course and a
// student both have room, what the next number is. The events that matter are chosen by type and tag, whatever
// their streams, and the append fails if another of them came in between ("dynamic consistency boundary",
// https://dcb.events).
//
//	Query ──Read──► events ──Apply──► state ──decide──► events ──AppendIf──► store
//	  ▲                                                             │
//	  └──────────── only what came since, and decide again ◄────────┘ conflict
//
// It needs a store whose driver can append under conditions: [eventstore.Store.Tags] says so when wiring.
//
// Tags say what an event is about: "course:go", "student:ann". Every event that a decision depends on must carry the
// tags its query asks for, also those that aggregates append (see [aggregate.Type]); decisions about different tags
// never wait for each other.
//
// [aggregate.Type]: https://pkg.go.dev/github.com/levada-go/levada/aggregate#Type
package boundary
