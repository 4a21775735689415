package processtest

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/process"
)

// Start is the time at which every Scenario begins.
var Start = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// A Scenario is a history of a process and what comes next. All commands are executed but those that Refused
// names. Its methods fail the test at once. They must be called from the test's goroutine.
type Scenario[S any] struct {
	t   testing.TB
	typ *process.Type[S]
	sim *process.Simulation[S]

	before  *process.Simulation[S] // before the last input
	input   func(*process.Simulation[S]) error
	last    string // the last input, empty if there was none
	refused []refusal
	sent    []command.Command // by the last input, timers included
	shown   int               // how many of these come before what Then looks at
	err     error             // that the process would be stuck with
	seen    bool              // the error was looked at
}

type refusal struct {
	command command.Command
	err     error
}

// Given starts a scenario in which events have been handled, of whatever instances. What became of their commands, events
// too, is to be among them.
func Given[S any](t testing.TB, typ *process.Type[S], events ...any) *Scenario[S] {
	t.Helper()
	sim, err := process.Simulate(typ, Start)
	if err != nil {
		t.Fatalf("given: %v", err)
	}
	s := &Scenario[S]{t: t, typ: typ, sim: sim}
	for _, e := range events {
		if err := s.sim.Handle(e); err != nil {
			t.Fatalf("given %T: %v", e, err)
		}
	}
	t.Cleanup(func() {
		t.Helper()
		if !t.Failed() {
			s.settled()
		}
	})
	return s
}

// When lets the process handle an event. It may be called again to continue the scenario.
func (s *Scenario[S]) When(event any) *Scenario[S] {
	s.t.Helper()
	s.begin(fmt.Sprintf("when %T%+v", event, event), func(sim *process.Simulation[S]) error { return sim.Handle(event) })
	return s
}

// After lets time pass, and the timers come due in it.
func (s *Scenario[S]) After(d time.Duration) *Scenario[S] {
	s.t.Helper()
	s.begin(fmt.Sprintf("after %v", d), func(sim *process.Simulation[S]) error { return sim.Pass(d) })
	return s
}

// Refused says that a command that the last When or After returned is refused with err. What Then looks at is what comes
// instead. It may be called more than once.
func (s *Scenario[S]) Refused(c command.Command, err error) *Scenario[S] {
	s.t.Helper()
	s.look()
	switch {
	case err == nil:
		s.t.Fatalf("refused: a nil error")
	case !s.has(c):
		s.t.Fatalf("%s: %T%+v was not sent, and cannot be refused\nsent:%s", s.last, c, c, list(s.sent))
	}
	s.refused = append(s.refused, refusal{c, err})
	s.seen = false
	s.run()
	return s
}

// Then requires the last When, After or Refused to have returned exactly want, in order; what process.After, At and Cancel
// made is among it.
func (s *Scenario[S]) Then(want ...command.Command) *Scenario[S] {
	s.t.Helper()
	s.accepted()
	if len(want) == 0 {
		s.t.Fatalf("then: no commands; ThenNothing says so")
	}
	if have := s.sent[s.shown:]; !reflect.DeepEqual(want, have) {
		s.t.Fatalf("%s: other commands than expected\nwant:%s\nhave:%s", s.last, list(want), list(have))
	}
	return s
}

// ThenNothing requires the last When, After or Refused to have returned no commands.
func (s *Scenario[S]) ThenNothing() *Scenario[S] {
	s.t.Helper()
	s.accepted()
	if have := s.sent[s.shown:]; len(have) > 0 {
		s.t.Fatalf("%s: commands where none were expected:%s", s.last, list(have))
	}
	return s
}

// ThenStuck requires an instance to be stuck, or to try again, with target, as errors.Is sees it. It then
// is as it was before.
func (s *Scenario[S]) ThenStuck(target error) *Scenario[S] {
	s.t.Helper()
	s.look()
	s.seen = true
	switch {
	case s.err == nil:
		s.t.Fatalf("%s: not stuck; sent:%s", s.last, list(s.sent))
	case !errors.Is(s.err, target):
		s.t.Fatalf("%s: stuck with\n\t%v\nnot with\n\t%v", s.last, s.err, target)
	}
	return s
}

// ThenState passes the state of an instance to fn, and fails if it has not begun or has ended.
func (s *Scenario[S]) ThenState(id string, fn func(S)) *Scenario[S] {
	s.t.Helper()
	state, begun := s.sim.State(id)
	if !begun {
		s.t.Fatalf("then: instance %q has not begun, or has ended", id)
	}
	fn(state)
	return s
}

// ThenEnded requires an instance not to have begun, or to have ended.
func (s *Scenario[S]) ThenEnded(id string) *Scenario[S] {
	s.t.Helper()
	s.accepted()
	if _, begun := s.sim.State(id); begun {
		s.t.Fatalf("then: instance %q has not ended", id)
	}
	return s
}

// begin handles an input.
func (s *Scenario[S]) begin(what string, input func(*process.Simulation[S]) error) {
	s.t.Helper()
	s.settled()
	s.last, s.input, s.refused, s.before, s.seen = what, input, nil, s.sim, false
	s.run()
}

// run handles the last input, with what is refused of it.
func (s *Scenario[S]) run() {
	s.t.Helper()
	once := func() {
		sim, err := s.before.Clone()
		if err != nil {
			s.t.Fatalf("%s: %v", s.last, err)
		}
		left := append([]refusal{}, s.refused...)
		s.sent, s.shown = nil, 0
		sim.Observe = func(_ string, c command.Command) { s.sent = append(s.sent, c) }
		sim.Execute = func(_ string, c command.Command) (command.Result, error) {
			for i, r := range left {
				if reflect.DeepEqual(r.command, c) {
					left = append(left[:i], left[i+1:]...)
					s.shown = len(s.sent)
					return command.Result{Refused: true}, r.err
				}
			}
			return command.Result{}, nil
		}
		s.err = s.input(sim)
		s.sim = sim
	}
	once()
	first := s.sent
	once()
	if !reflect.DeepEqual(first, s.sent) {
		s.t.Fatalf("%s: the route is not deterministic\nfirst:%s\nthen:%s", s.last, list(first), list(s.sent))
	}
}

func (s *Scenario[S]) has(c command.Command) bool {
	for _, x := range s.sent[s.shown:] {
		if reflect.DeepEqual(x, c) {
			return true
		}
	}
	return false
}

// look is called by whoever looks at what came of the last input.
func (s *Scenario[S]) look() {
	s.t.Helper()
	if s.last == "" {
		s.t.Fatalf("then: nothing happened; call When first")
	}
}

func (s *Scenario[S]) accepted() {
	s.t.Helper()
	s.look()
	if s.err != nil && !s.seen {
		s.t.Fatalf("%s: stuck: %v", s.last, s.err)
	}
}

// settled requires an error to have been looked at.
func (s *Scenario[S]) settled() {
	s.t.Helper()
	if s.err != nil && !s.seen {
		s.t.Fatalf("%s: stuck: %v; ThenStuck says so", s.last, s.err)
	}
}

func list(cmds []command.Command) string {
	if len(cmds) == 0 {
		return " nothing"
	}
	var b strings.Builder
	for _, c := range cmds {
		fmt.Fprintf(&b, "\n\t%T%+v", c, c)
	}
	return b.String()
}
