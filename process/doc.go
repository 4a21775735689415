// Package process runs process managers: the mirror image of aggregates, they handle events
// and send commands. A transfer of money, an order with its payment and its delivery, a
// registration that expires: each is an instance of a [Type].
//
//	store ──event──► route ──► instances, each in order ──► commands ──► aggregates
//	  ▲                            │ state, timers, outcomes                 │
//	  │                            ▼                                         │
//	  └──────────────────── $process.NAME-ID ◄──── what became of them ◄─────┘
//
// # The order of things
//
// An event is routed to the instances that it concerns. In each, in the order of the events and one at a time:
//
//  1. The route's func updates the state and returns commands.
//  2. Each is dispatched, in order, in the event's conversation, with a key made of the process, the
//     instance, the event and the command's place; see command.Once.
//  3. What came in, which commands were sent and what became of them, and the state after it are appended
//     to the instance's own stream, at the version that it had. It is one append.
//  4. The event is acknowledged.
//
// A crash anywhere repeats what was not recorded. Routes then return the same commands, with the same keys: an
// aggregate that executed one does not execute it again, as long as it remembers the key (see
// aggregate.Type.Keys). A refusal is not remembered by the aggregate, and so is recorded before anything that
// follows from it is sent. Events are handled at least once, commands take effect once. Routes must be
// deterministic, and depend on nothing but the state and the event.
//
// Instances do not wait for each other: many events are handled at once, each of other instances. Nodes that run
// the same process share the instances among them; see eventstore.Consumer. Events that concern several instances
// which are in one partition are handled by these one after the other.
//
// # Failures
//
// A command that is refused goes to the [Refused] route of its type: this is where to compensate. All other
// failures go to Type.OnError, which knows the command, those still to be sent, the state, the error and the
// number of the attempt, and answers with an [Action]. By default what is not a refusal is tried again, and what
// remains is parked: the instance is stuck, its later events wait in its stream, nobody else does. One that shares
// an event with other instances and is to try again is parked until then, and woken by a timer, so that the others
// need not wait. Commands that have no key's memory, such as those of router.Func, must themselves be safe to
// repeat.
//
// [Instances] lists those that are stuck, or all, [History] shows what happened to one, and [RetryStuck], [SkipStuck] and
// [CancelStuck] decide how it goes on. projection.Status.Stuck counts those that wait for a decision.
//
// # Timers
//
// [After], [At] and [Cancel] are among the commands that a route returns. Timers are part of the
// instance; package schedule only wakes it. They end with the instance.
//
// # What is kept
//
// The stream of an instance is named after the process, "$process.transfer-4711", and has everything about it as JSON,
// commands included, and is not sealed (see eventstore.Options). A month after the instance has ended it is reduced to a
// stub that keeps events from counting twice; see Type.KeepEnded.
package process
