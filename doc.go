// Package levada ties a store, aggregates, projections and processes into an application.
//
//	Dispatch, Submit ──► middleware ──► router ──► aggregate ──► store ──► projection ──► read model
//	      ▲                                                                    │
//	      └──────────────── command.Wait: when it is handled ◄─────────────────┘
//
// An [App] is to commands and events what http.Server is to requests. It does
// nothing that the packages it is made of cannot do without it:
//
//   - eventstore keeps events; memstore, sqlitestore, pgstore, kurrentstore and natsstore are where.
//   - aggregate defines what may happen, and runs it.
//   - command carries commands, router finds who executes them.
//   - projection keeps read models up to date.
//   - process runs process managers, which handle events and send commands.
//   - schedule keeps commands for later.
//
// # A whole program
//
// Define an aggregate, its commands and its events as plain types. Test them
// with aggregatetest. Say what to read in a projection. Then make an App of them,
// run it, dispatch commands to it. The example below does all of it.
//
// # The end
//
// Run returns when its context ends, after the batches under way are finished. The
// store belongs to whoever opened it and is closed after that.
package levada
