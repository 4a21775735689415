// Package driver defines what an event store engine implements. Applications
// use package eventstore; only engines and their tests import this one.
//
//	eventstore.Store   types, codecs, group commit, tail, subscriptions
//	      │
//	      ▼
//	driver.Store       bytes: append, read, wait          (every engine)
//	driver.Batcher …   what only some engines can do      (found by type assertion)
//
// A driver deals in bytes. Everything clever is written once, in the portable
// type, so that a driver is small and every driver behaves alike. The sentences
// in the comments of this package are contracts: package drivertest has a test
// for each, and a driver that passes it may be used wherever another is.
//
// # Words
//
// A stream is one sequence of events with a name. Its category is the part of
// the name before the first dash; a name without a dash is its own category. A
// version counts the events of a stream: the first has version 1, and versions
// are dense. A position orders all events of a store: positions are above 0,
// increase, and may have gaps. No reader ever sees a position while a lower one
// may still appear.
//
// # Errors
//
// A driver returns its own errors as they are; the portable type wraps them
// once. Those with a meaning of their own are in errors.go.
package driver
