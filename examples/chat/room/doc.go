// Package room is what people may do in a room of the chat. It knows no pages and no stores.
//
//	Post, Edit, Delete, React ──► Room (who wrote what, who was how fast) ──► Posted, Edited, Deleted, Reacted
//
// A [Room] is an aggregate of its own, named by [Slug] or, for two people alone, by [Direct]. A command names
// the person who gives it and the time, so that it is decided by nothing else: what a Room refuses, it refuses on
// every replay.
//
// A message has an id that its author's browser made. Posting it twice is posting it once, so a browser
// that does not know whether a message arrived sends it again.
package room
