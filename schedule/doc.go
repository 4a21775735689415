// Package schedule makes things happen at a time, whatever happens until then: a
// restart, a crash, another node taking over. [Timers] keeps commands that
// command.DispatchAt was given, and the timers of processes, which set them through [Set].
//
//	DispatchAt ──┐                                      ┌──► dispatch, with a key
//	             ├──► stream "$timer" ──► every node ───┤    only the node that
//	Set, Cancel ─┘    set, cancelled,     knows them    └──► append, an event   has the lease
//	                  due, done           all
//
// # What is kept
//
// Everything about timers is in the stream "$timer": that one was set, cancelled, came
// due, is done with. Every node that runs Timers follows it and knows what is pending, in
// memory: some hundred bytes each, plus the command. So what comes first in the
// stream decides between a cancellation and the time, and a node that takes over has
// nothing to read. The stream stays short: what is pending but old is carried to its
// end, and what is before is cut off, or left alone by means of a checkpoint where the driver cannot cut. Starting
// costs reading a number of events that is of the order of the pending timers, however many
// there ever were.
//
// # Who fires
//
// One node has the lease "$timer" and fires: it sleeps until the next timer is
// due, or hears of an earlier one, and does not poll. The others wait for the lease; when
// the node ends they have it within a second, when it crashes within six. Should two nodes
// for a moment believe that they have it, a command is dispatched twice with one key.
//
// Time is that of the node that has the lease. A timer never fires early by that clock.
package schedule
