// Package client holds the script that keeps a live page in step with its server.
//
// [JS] is the script and [Name] a file name for it. It is built from src, has no dependencies at run time, and
// needs neither eval nor inline scripts, so a page may forbid both.
//
//	             click, submit, change …  ┌────────┐  ["e",…]
//	┌──────────┐ ───────── events ──────► │        │ ─────────► ┌────────┐
//	│ document │                          │ locks  │   socket   │ server │
//	└──────────┘ ◄─ patch ── tree ◄────── │        │ ◄───────── └────────┘
//	              elements   rows         └────────┘  frames
//
// What the two say to each other is in docs/live-protocol.md, what a frame does to the tree of rows in the package
// documentation of live/internal/render.
package client
