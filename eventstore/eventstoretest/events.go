package eventstoretest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/levada-go/levada/eventstore"
)

// patience is how long Expect and Wait wait.
const patience = 10 * time.Second

// All returns the data of every event that f selects in s, in order. Data that
// could not be decoded fails t; the data of an unregistered type is nil.
func All(t testing.TB, s *eventstore.Store, f eventstore.Filter) []any {
	t.Helper()
	return collect(t, s.ReadAll(t.Context(), f, 0))
}

// Stream is All for the events of one stream.
func Stream(t testing.TB, s *eventstore.Store, stream eventstore.StreamName) []any {
	t.Helper()
	return collect(t, s.ReadStream(t.Context(), stream, 0))
}

func collect(t testing.TB, events func(func(*eventstore.Recorded, error) bool)) []any {
	t.Helper()
	var data []any
	for r, err := range events {
		if err != nil {
			t.Fatalf("reading events: %v", err)
			return nil
		}
		if r.Err != nil {
			t.Fatalf("an event cannot be decoded: %v", r.Err)
			return nil
		}
		data = append(data, r.Data)
	}
	return data
}

// Expect waits for an event of type E for which ok returns true, from the
// beginning of s, and returns it; a nil ok takes the first. It fails t after ten
// seconds, and says what there was instead.
func Expect[E any](t testing.TB, s *eventstore.Store, ok func(E) bool) (E, *eventstore.Recorded) {
	t.Helper()
	var none E
	name, registered := eventstore.NameOf[E](&s.Types)
	if !registered {
		t.Fatalf("expecting a %T: the type is not registered with the store", none)
		return none, nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var others []string // of type E
	for b, err := range s.Follow(ctx, eventstore.Filter{Types: []string{name}}, 0) {
		for _, r := range b.Events {
			e, is := r.Data.(E)
			if is && (ok == nil || ok(e)) {
				return e, r
			}
			if len(others) < 10 {
				others = append(others, fmt.Sprintf("%+v", r.Data))
			}
		}
		if err != nil {
			break
		}
	}
	switch {
	case t.Context().Err() != nil:
		t.Fatalf("expecting a %T: the test ended", none)
	case ctx.Err() == nil:
		t.Fatalf("expecting a %T: the store was closed", none)
	case len(others) > 0:
		t.Fatalf("expecting a %T: not one of these in %v: %s", none, patience, strings.Join(others, ", "))
	default:
		t.Fatalf("expecting a %T: none in %v; there is: %s", none, patience, strings.Join(kinds(t, s), ", "))
	}
	return none, nil
}

// kinds returns the types of the events in s, each once.
func kinds(t testing.TB, s *eventstore.Store) []string {
	var list []string
	for r, err := range s.ReadAll(t.Context(), eventstore.Filter{}, 0) {
		if err != nil {
			break
		}
		if !slices.Contains(list, r.Type) {
			list = append(list, r.Type)
		}
	}
	if len(list) == 0 {
		list = []string{"nothing"}
	}
	return list
}

// A Waiter knows how far projections have come. *projection.Group is one.
type Waiter interface {
	Wait(ctx context.Context, pos eventstore.Position, names ...string) error
}

// Wait waits until the named projections of w, or all, have handled everything up
// to pos. It fails t after ten seconds, or when w knows that they never will.
func Wait(t testing.TB, w Waiter, pos eventstore.Position, names ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := w.Wait(ctx, pos, names...); err != nil {
		t.Fatal(err)
	}
}

// Settle is Wait for everything that is in s.
func Settle(t testing.TB, w Waiter, s *eventstore.Store, names ...string) {
	t.Helper()
	head, err := s.Head(t.Context())
	if err != nil {
		t.Fatalf("reading the head: %v", err)
		return
	}
	Wait(t, w, head, names...)
}
