// Package web is the chat as one sees it: its read model and its live pages.
//
//	page ──command──► aggregate ──event──► store ──► projection ──► Model ──┐
//	  ▲                                                │                     │ what changed since
//	  │                                                └─ wake-up (pubsub) ──┤ the page last looked
//	  └────────────────── one small frame ◄── stream of lines ◄──────────────┘
//
// Everything that is shown comes from the [Model], which a projection keeps. It wakes the pages that show
// what changed, and says nothing more: each page asks the model for what is newer than what it has. A wake-up
// that is lost costs time, never a message.
//
// Who is here and who is typing is no history: that is kept by package presence.
package web
