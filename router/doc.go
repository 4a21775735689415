// Package router sends each command to what executes it.
//
//	            ┌──► aggregate.Repository[Room]
//	Router ─────┼──► Func(sendInvite)
//	            └──► Router of another bounded context ──► …
//
// A [Router] asks its targets which commands are theirs: an aggregate handles the
// commands that have its Execute method, a [Func] those of one Go type. So there is no
// table to keep, and the identity of the aggregate is the command's AggregateID. [Use]
// puts middleware before some targets only. [Names] gives commands that arrive as
// bytes their Go types.
package router
