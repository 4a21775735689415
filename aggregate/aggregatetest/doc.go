// Package aggregatetest tests aggregates in the form given, when, then, without a
// store:
//
//	aggregatetest.Given(t, room.Rooms, room.Opened{"lobby"}, room.Joined{"ann"}).
//		When(room.Post{"lobby", "ann", "hi"}).Then(room.Posted{"ann", "hi"}).
//		When(room.Leave{"lobby", "ann"}).Then(room.Left{"ann"}).
//		When(room.Post{"lobby", "ann", "?"}).ThenError(room.ErrNotMember)
//
// A [Scenario] also checks what a test would not think of: that the Type can be
// opened at all, that every event is listed in it and survives being stored, that its
// tags can be stored, that a command did not touch the state it was to decide on, and, if
// the Type keeps snapshots, that the state survives one.
//
// [Shared] is for those who write drivers: it checks that what repositories keep in
// memory does not show where several processes share a store.
package aggregatetest
