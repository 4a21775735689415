package aggregatetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

// A Scenario is a history and a command against it. Its methods fail the test at
// once. They must be called from the test's goroutine.
type Scenario[S any] struct {
	t     testing.TB
	typ   *aggregate.Type[S]
	store *eventstore.Store
	state S

	last   string // the last command; empty if there was none
	events []aggregate.Event[S]
	err    error
	seen   bool // what became of it was looked at
}

// Given starts a scenario in which events have happened.
func Given[S any](t testing.TB, typ *aggregate.Type[S], events ...aggregate.Event[S]) *Scenario[S] {
	t.Helper()
	s := &Scenario[S]{t: t, typ: typ, seen: true}
	s.store = memstore.Open(&memstore.Options{Store: eventstore.Options{Verify: true}})
	if _, err := aggregate.New(s.store, typ); err != nil {
		t.Fatalf("given: %v", err)
	}
	t.Cleanup(func() {
		t.Helper()
		if !t.Failed() {
			s.settled()
		}
		_ = s.store.Close()
	})
	s.happen("given", "scenario", events)
	return s
}

// When executes a command on the state as it is and, if it has events, applies them.
// It may be called again to continue the scenario. A refusal that no ThenError expects
// fails the test.
func (s *Scenario[S]) When(c aggregate.Command[S]) *Scenario[S] {
	s.t.Helper()
	s.settled()
	s.last = fmt.Sprintf("%T%+v", c, c)
	before := clone(reflect.ValueOf(&s.state)).Interface().(*S)
	s.events, s.err = c.Execute(s.state)
	if path := diff(reflect.ValueOf(before).Elem(), reflect.ValueOf(&s.state).Elem(), reflect.TypeFor[S]().String()); path != "" {
		s.t.Fatalf("when %s: Execute changed the state: %s", s.last, path)
	}
	s.seen = false
	if s.err != nil {
		if len(s.events) > 0 {
			s.t.Fatalf("when %s: Execute returned both events and the error %q", s.last, s.err)
		}
		return s
	}
	s.happen("when "+s.last, c.AggregateID(), s.events)
	return s
}

// Then requires the last command to have returned exactly want.
func (s *Scenario[S]) Then(want ...aggregate.Event[S]) *Scenario[S] {
	s.t.Helper()
	s.accepted()
	if len(want) == 0 {
		s.t.Fatalf("then: no events; ThenNothing says so")
	}
	if !equal(reflect.ValueOf(want), reflect.ValueOf(s.events)) {
		s.t.Fatalf("when %s: other events than expected\nwant:%s\nhave:%s", s.last, list(want), list(s.events))
	}
	return s
}

// ThenNothing requires the last command to have been accepted and to have
// returned no events.
func (s *Scenario[S]) ThenNothing() *Scenario[S] {
	s.t.Helper()
	s.accepted()
	if len(s.events) > 0 {
		s.t.Fatalf("when %s: events where none were expected:%s", s.last, list(s.events))
	}
	return s
}

// ThenError requires the last command to have been refused with target, as
// errors.Is sees it.
func (s *Scenario[S]) ThenError(target error) *Scenario[S] {
	s.t.Helper()
	s.look()
	switch {
	case target == nil:
		s.t.Fatalf("then: a nil error; Then or ThenNothing says so")
	case s.err == nil:
		s.t.Fatalf("when %s: not refused with %q, but:%s", s.last, target, list(s.events))
	case !errors.Is(s.err, target):
		s.t.Fatalf("when %s: refused with\n\t%v\nnot with\n\t%v", s.last, s.err, target)
	}
	return s
}

// ThenState passes the resulting state to fn, which must not modify it. After a
// refusal that is the state before the command.
func (s *Scenario[S]) ThenState(fn func(S)) *Scenario[S] {
	s.t.Helper()
	fn(s.state)
	return s
}

// look is called by whoever looks at the last outcome.
func (s *Scenario[S]) look() {
	s.t.Helper()
	if s.last == "" {
		s.t.Fatalf("then: there was no command; call When first")
	}
	s.seen = true
}

func (s *Scenario[S]) accepted() {
	s.t.Helper()
	s.look()
	if s.err != nil {
		s.t.Fatalf("when %s: refused: %v", s.last, s.err)
	}
}

// settled fails if the last command was refused and nobody looked.
func (s *Scenario[S]) settled() {
	s.t.Helper()
	if !s.seen && s.err != nil {
		s.t.Fatalf("when %s: refused, and no ThenError expects it: %v", s.last, s.err)
	}
}

// happen checks events and folds them.
func (s *Scenario[S]) happen(what, id string, events []aggregate.Event[S]) {
	s.t.Helper()
	for i, e := range events {
		if e == nil {
			s.t.Fatalf("%s: event %d is nil", what, i)
		}
		if !s.listed(e) {
			s.t.Fatalf("%s: %T is not among the Events of Type %q", what, e, s.typ.Name)
		}
		event := eventstore.Event{Data: e}
		if s.typ.Tags != nil {
			event.Tags = s.typ.Tags(id, e)
		}
		// The store verifies that what it would read back is what it was given.
		if _, err := s.store.Append(context.Background(), eventstore.Stream(s.typ.Name, "scenario"), eventstore.Any, event); err != nil {
			s.t.Fatalf("%s: %T: %v", what, e, err)
		}
		e.Apply(&s.state)
	}
	if s.typ.SnapshotEvery > 0 {
		if err := s.restores(); err != nil {
			s.t.Fatalf("%s: the state would not survive a snapshot: %v", what, err)
		}
	}
}

func (s *Scenario[S]) listed(e aggregate.Event[S]) bool {
	for _, example := range s.typ.Events {
		if reflect.TypeOf(example) == reflect.TypeOf(e) {
			return true
		}
	}
	return false
}

// restores takes a snapshot of the state and compares what it gives back: by the
// state's own method Equal(S) bool, if it has one, else field by field.
func (s *Scenario[S]) restores() error {
	encode := func(state *S) ([]byte, error) { return json.Marshal(state) }
	decode := func(data []byte, state *S) error { return json.Unmarshal(data, state) }
	if c := s.typ.Snapshot; c != nil {
		encode, decode = c.Encode, c.Decode
	}
	data, err := encode(&s.state)
	if err != nil {
		return err
	}
	var back S
	if err := decode(data, &back); err != nil {
		return err
	}
	if e, ok := any(&s.state).(interface{ Equal(S) bool }); ok {
		if !e.Equal(back) {
			return errors.New("the restored state is not Equal")
		}
		return nil
	}
	if path := diff(reflect.ValueOf(&s.state).Elem(), reflect.ValueOf(&back).Elem(), reflect.TypeFor[S]().String()); path != "" {
		return errors.New(path)
	}
	return nil
}

func list[S any](events []aggregate.Event[S]) string {
	if len(events) == 0 {
		return " nothing"
	}
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "\n\t%T%+v", e, e)
	}
	return b.String()
}
