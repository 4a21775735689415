// Package appends has what every driver that makes appends in a transaction says of them.
package appends

import (
	"errors"

	"github.com/levada-go/levada/eventstore/driver"
)

// Runs makes an append of each run of events of one stream, at whatever version it stands.
func Runs(events []driver.StreamEvent) (as []driver.Append) {
	for i := range events {
		e := &events[i]
		if n := len(as); n == 0 || as[n-1].Stream != e.Stream {
			as = append(as, driver.Append{Stream: e.Stream, Expected: driver.Any})
		}
		a := &as[len(as)-1]
		a.Events = append(a.Events, e.Event)
	}
	return as
}

// Recorded returns the events of appends that were made, as readers will see them, in the order
// of as. Each result has a position for each event.
func Recorded(as []driver.Append, results []driver.Result) []driver.Recorded {
	events := make([]driver.Recorded, 0, Events(as))
	for i := range as {
		first := results[i].Version - uint64(len(as[i].Events)) + 1
		for k, e := range as[i].Events {
			if len(e.Metadata) == 0 {
				e.Metadata = nil
			}
			if len(e.Tags) == 0 {
				e.Tags = nil
			}
			events = append(events, driver.Recorded{
				Event: e, Stream: as[i].Stream, Version: first + uint64(k),
				Position: results[i].Positions[k], Time: results[i].Time,
			})
		}
	}
	return events
}

// Events returns how many events appends have.
func Events(as []driver.Append) (n int) {
	for i := range as {
		n += len(as[i].Events)
	}
	return n
}

// Join makes one result of those of appends that were made together. Its version is that of
// the last one's stream.
func Join(results []driver.Result) (all driver.Result) {
	for i := range results {
		r := &results[i]
		all.Positions = append(all.Positions, r.Positions...)
		all.Version, all.Last, all.Time = r.Version, r.Last, r.Time
	}
	return all
}

// Fail gives the error of a commit to the appends that were part of it, and to those that
// conflicted with one of these: they were judged by what may not be there.
func Fail(as []driver.Append, results []driver.Result, err error) {
	wrote := map[string]bool{}
	for i := range results {
		var conflict *driver.ConflictError
		switch {
		case results[i].Err == nil:
			wrote[as[i].Stream] = true
			results[i] = driver.Result{Err: err}
		case wrote[as[i].Stream] && errors.As(results[i].Err, &conflict):
			results[i].Err = err
		}
	}
}
