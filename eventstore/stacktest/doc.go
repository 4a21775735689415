// Package stacktest runs what stands on an event store over a driver, for a while
// and at random, and checks what it promises: that nothing is lost, and nothing is
// counted twice.
//
//	process ─┬─ writers ──────────── Append, again with the same ids until it is known     ┐
//	         ├─ Follow, Subscribe ── every event once, in order, over all restarts         │ one log
//	         ├─ Consume ──────────── every event at least once, in order by key            │
//	         └─ projection ───────── every event exactly once in the model, in order by key┘
//	process ── …
//
// Each process has a handle of its own on the log, which fails now and then: before
// a call is heard, or after it was done. Processes are closed and opened again
// meanwhile, and the driver's test may do worse to the engine.
//
// [Run] is for tests of drivers whose store several processes share. The suite of
// single calls is package drivertest.
package stacktest
