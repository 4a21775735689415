// Package drivertest is the conformance suite for event store drivers. A
// driver's tests call [Run]; a driver that passes may be used wherever another
// is.
//
//	driver's test ── Harness{Open, Reopen, Peer} ──► Run
//	                                                  ├── Append, ReadStream, ReadAll, Wait …   every driver
//	                                                  ├── Batch, Delete, Lease, Atomic …        skipped if the driver cannot
//	                                                  ├── Linearizable                          what clients were told at once, searched for an order
//	                                                  ├── Model                                 random histories against a plain model
//	                                                  └── Peers                                 all of it again, each call by one of two processes
//
// Each subtest is one sentence of the contracts in package driver. What a
// driver cannot do is a skipped subtest that says so.
//
//	func TestConformance(t *testing.T) {
//		drivertest.Run(t, drivertest.Harness{Open: open, Reopen: reopen, Peer: peer})
//	}
//
// The suite makes no assumption about how positions are numbered, other than
// the contract's: they increase, and may have gaps. It passes to the driver only
// positions that the driver gave out. It never sleeps to let something happen:
// it asks again until it has.
//
// # Several processes
//
// A store that other processes write to has a Peer: the suite opens it twice,
// and runs what it can with each call made by one handle or the other. So
// whatever a driver remembers between two calls, of streams, versions, leases or
// checkpoints, it must make sure of.
//
// # Random histories
//
// The Model subtest uses pgregory.net/rapid, whose flags apply: -rapid.checks
// is the number of histories, -rapid.steps their length, -rapid.seed repeats
// one that failed.
//
// # Clients at once
//
// [Linearize] is the Linearizable subtests with everything to choose: several
// handles on one log, more clients, more time, and faults beside them.
package drivertest
