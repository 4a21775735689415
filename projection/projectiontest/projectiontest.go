// Package projectiontest tests the handlers of a projection: a [History] of events,
// the [Model] that comes of it, and a check, [Idempotent], that handling an event
// twice is the same as once, which sinks without transactions need.
//
//	h := projectiontest.Given(t, register, projectiontest.In("till-1", Sold{"tea", 3}, Sold{"cake", 5}))
//	require.Equal(t, &Sales{…}, projectiontest.Model(h, sales))
//
// The events go through a store in memory, with the codec that an application would
// use. No goroutine outlives a call.
package projectiontest

import (
	"context"
	"fmt"
	"reflect"
	"testing"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/projection"
)

// Events are some events of one stream.
type Events struct {
	Stream eventstore.StreamName
	Data   []any
}

// In puts events into a stream.
func In(stream eventstore.StreamName, events ...any) Events { return Events{stream, events} }

// A History is a store with events. Its methods and the funcs that take one fail its test.
type History struct {
	Store *eventstore.Store
	t     testing.TB
}

// Given returns a History of events, appended in this order. register gives the types
// of all events that the projections handle their names: for those of an aggregate it is
// the method Register of its aggregate.Type.
func Given(t testing.TB, register func(*eventstore.Types) error, events ...Events) *History {
	t.Helper()
	s := memstore.Open(nil)
	t.Cleanup(func() { s.Close() })
	if err := register(&s.Types); err != nil {
		t.Fatalf("projectiontest: register: %v", err)
	}
	h := &History{s, t}
	h.Append(events...)
	return h
}

// Append adds events to the History.
func (h *History) Append(events ...Events) {
	h.t.Helper()
	for _, e := range events {
		for _, data := range e.Data {
			if _, err := h.Store.Append(context.Background(), e.Stream, eventstore.Any, eventstore.Event{Data: data}); err != nil {
				h.t.Fatalf("projectiontest: %v", err)
			}
		}
	}
}

// Model returns what p makes of the History.
func Model[M any](h *History, p *projection.Projection[*M]) *M {
	h.t.Helper()
	m, _, err := projection.Load(context.Background(), h.Store, p)
	if err != nil {
		h.t.Fatalf("projectiontest: %v", err)
	}
	return m
}

// Idempotent checks that p makes the same model of the History if every event is handled
// twice in a row. The test fails at the first that makes a difference.
func Idempotent[M any](h *History, p *projection.Projection[*M]) {
	h.t.Helper()
	once, twice := new(M), new(M)
	each(h, func(r *eventstore.Recorded) error {
		if err := p.Apply(context.Background(), h.Store, once, r); err != nil {
			return err
		}
		if err := p.Apply(context.Background(), h.Store, twice, r, r); err != nil {
			return err
		}
		return differ(r, *once, *twice)
	})
}

// IdempotentThrough is Idempotent for handlers that write through tx, or elsewhere: state returns
// what has been written, so that it can be compared. It must not change later.
func IdempotentThrough[T any](h *History, p *projection.Projection[T], tx T, state func() any) {
	h.t.Helper()
	each(h, func(r *eventstore.Recorded) error {
		if err := p.Apply(context.Background(), h.Store, tx, r); err != nil {
			return err
		}
		once := state()
		if err := p.Apply(context.Background(), h.Store, tx, r); err != nil {
			return fmt.Errorf("the second time: %w", err)
		}
		return differ(r, once, state())
	})
}

func each(h *History, fn func(r *eventstore.Recorded) error) {
	h.t.Helper()
	for r, err := range h.Store.ReadAll(context.Background(), eventstore.Filter{}, 0) {
		if err == nil {
			err = fn(r)
		}
		if err != nil {
			h.t.Fatalf("projectiontest: %v", err)
			return
		}
	}
}

func differ(r *eventstore.Recorded, once, twice any) error {
	if reflect.DeepEqual(once, twice) {
		return nil
	}
	return fmt.Errorf("handling %s version %d, a %s, twice makes a difference:\nonce  %+v\ntwice %+v", r.Stream, r.Version, r.Type, once, twice)
}
