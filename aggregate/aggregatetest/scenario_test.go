package aggregatetest_test

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/aggregate/aggregatetest"
	"github.com/stretchr/testify/require"
)

type room struct {
	Members map[string]*member
	log     []string
	any     any
	when    time.Time
	ratio   float64
	self    *room
}

type member struct{ posts int }

type joined struct{ User string }

func (e joined) Apply(r *room) {
	if r.Members == nil {
		r.Members = map[string]*member{}
	}
	r.Members[e.User] = &member{}
	r.log = append(r.log, e.User)
	r.any = map[string]int{e.User: 1}
	r.self = r
	r.ratio = math.NaN()
	r.when = time.Now()
}

type posted struct{ Text string }

func (e posted) Apply(*room) {}

type unlisted struct{}

func (unlisted) Apply(*room) {}

type lossy struct {
	Kept   int
	Absent float64 `json:"-"`
}

func (lossy) Apply(*room) {}

type event = aggregate.Event[room]

func rooms() *aggregate.Type[room] {
	return &aggregate.Type[room]{Name: "room", Events: aggregate.Events[room]{"joined": joined{}, "posted": posted{}, "lossy": lossy{}}}
}

var errBanned = errors.New("banned")

// do is a command that does what it is told.
type do struct {
	fn func(room) ([]event, error)
}

func (do) AggregateID() string               { return "a" }
func (c do) Execute(r room) ([]event, error) { return c.fn(r) }
func returns(e ...event) do                  { return do{func(room) ([]event, error) { return e, nil }} }
func refuses(err error) do                   { return do{func(room) ([]event, error) { return nil, err }} }
func touches(fn func(room)) do               { return do{func(r room) ([]event, error) { fn(r); return nil, nil }} }
func (do) Format(s fmt.State, _ rune)        { fmt.Fprint(s, "do") }

// A recorder is a test that fails without failing.
type recorder struct {
	testing.TB
	failed   string
	cleanups []func()
}

func (r *recorder) Helper()           {}
func (r *recorder) Failed() bool      { return r.failed != "" }
func (r *recorder) Cleanup(fn func()) { r.cleanups = append(r.cleanups, fn) }
func (r *recorder) Fatalf(format string, args ...any) {
	r.failed = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// failure returns with what a test fails that does fn.
func failure(fn func(t testing.TB)) string {
	r := &recorder{}
	run := func(fn func()) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			fn()
		}()
		<-done
	}
	run(func() { fn(r) })
	for _, c := range r.cleanups {
		run(c)
	}
	return r.failed
}

func TestScenarioThatHoldsPasses(t *testing.T) {
	t.Parallel()
	aggregatetest.Given(t, rooms(), joined{"ann"}).
		When(returns(posted{"hi"}, posted{"ho"})).Then(posted{"hi"}, posted{"ho"}).
		When(refuses(fmt.Errorf("no: %w", errBanned))).ThenError(errBanned).
		When(returns()).ThenNothing().
		When(returns(joined{"bob"})).
		ThenState(func(r room) { require.Len(t, r.Members, 2) }).
		When(returns(joined{"cyd"})).Then(joined{"cyd"})
}

func TestScenarioThatDoesNotHoldFails(t *testing.T) {
	t.Parallel()
	given := func(t testing.TB) *aggregatetest.Scenario[room] {
		return aggregatetest.Given(t, rooms(), joined{"ann"})
	}
	tests := []struct {
		name string
		fn   func(t testing.TB)
		says string
	}{
		{"other event", func(t testing.TB) { given(t).When(returns(posted{"a"})).Then(posted{"b"}) }, "{Text:b}"},
		{"more events", func(t testing.TB) { given(t).When(returns(posted{"a"}, posted{"a"})).Then(posted{"a"}) }, "other events"},
		{"no event", func(t testing.TB) { given(t).When(returns()).Then(posted{"a"}) }, "have: nothing"},
		{"an event too many", func(t testing.TB) { given(t).When(returns(posted{"a"})).ThenNothing() }, "{Text:a}"},
		{"refused", func(t testing.TB) { given(t).When(refuses(errBanned)).Then(posted{"a"}) }, "banned"},
		{"refused, not nothing", func(t testing.TB) { given(t).When(refuses(errBanned)).ThenNothing() }, "banned"},
		{"another error", func(t testing.TB) { given(t).When(refuses(errors.New("x"))).ThenError(errBanned) }, "not with"},
		{"not refused", func(t testing.TB) { given(t).When(returns()).ThenError(errBanned) }, "not refused"},
		{"nil error", func(t testing.TB) { given(t).When(returns()).ThenError(nil) }, "nil error"},
		{"Then of nothing", func(t testing.TB) { given(t).When(returns()).Then() }, "ThenNothing"},
		{"Then without When", func(t testing.TB) { given(t).ThenNothing() }, "no command"},
		{"refusal nobody expects, then another", func(t testing.TB) { given(t).When(refuses(errBanned)).When(returns()) }, "no ThenError"},
		{"refusal nobody expects, at the end", func(t testing.TB) { given(t).When(refuses(errBanned)) }, "no ThenError"},
		{"events and an error", func(t testing.TB) {
			given(t).When(do{func(room) ([]event, error) { return []event{posted{}}, errBanned }})
		}, "both"},
		{"unlisted event", func(t testing.TB) { given(t).When(returns(unlisted{})) }, "unlisted is not among"},
		{"unlisted event given", func(t testing.TB) { aggregatetest.Given(t, rooms(), unlisted{}) }, "given: aggregatetest_test.unlisted"},
		{"nil event", func(t testing.TB) { given(t).When(returns(nil)) }, "event 0 is nil"},
		{"event that loses a field", func(t testing.TB) { given(t).When(returns(lossy{1, 2})) }, "does not survive"},
		{"unusable type", func(t testing.TB) {
			typ := rooms()
			typ.Name = ""
			aggregatetest.Given(t, typ)
		}, "without a dash"},
		{"tag that cannot be stored", func(t testing.TB) {
			typ := rooms()
			typ.Tags = func(id string, _ event) []string { return []string{"room:" + id, ""} }
			aggregatetest.Given(t, typ).When(returns(posted{"a"}))
		}, "empty tag"},
		{"map changed", func(t testing.TB) {
			given(t).When(touches(func(r room) { r.Members["bob"] = nil }))
		}, "changed the state: aggregatetest_test.room.Members"},
		{"map entry deleted and another added", func(t testing.TB) {
			given(t).When(touches(func(r room) { delete(r.Members, "ann"); r.Members["bob"] = nil }))
		}, "Members[ann] is gone"},
		{"unexported field behind a pointer", func(t testing.TB) {
			given(t).When(touches(func(r room) { r.Members["ann"].posts++ }))
		}, "Members[ann].posts was 0 and is 1"},
		{"element of an unexported slice", func(t testing.TB) {
			given(t).When(touches(func(r room) { r.log[0] = "eve" }))
		}, "log[0] was ann and is eve"},
		{"map in an interface", func(t testing.TB) {
			given(t).When(touches(func(r room) { r.any.(map[string]int)["ann"] = 5 }))
		}, "any[ann] was 1 and is 5"},
		{"time behind a cycle", func(t testing.TB) {
			given(t).When(touches(func(r room) { r.self.when = r.self.when.Add(1) }))
		}, "when was"},
		{"nil where there was a map", func(t testing.TB) {
			given(t).When(touches(func(r room) { r.self.Members = nil }))
		}, "Members is nil and was not"},
		{"another type in an interface", func(t testing.TB) {
			given(t).When(touches(func(r room) { r.self.any = 5 }))
		}, "was a map[string]int and is a int"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, failure(tt.fn), tt.says)
		})
	}
}

type tally struct {
	By   map[string]int
	Skip map[string]int `json:",omitempty"`
}

type tallied struct{ Who string }

func (e tallied) Apply(s *tally) {
	s.By = map[string]int{e.Who: len(s.By) + 1}
	if e.Who == "eve" {
		s.Skip = map[string]int{}
	}
}

func TestStateMustSurviveASnapshotIfThereAreAny(t *testing.T) {
	t.Parallel()
	typ := &aggregate.Type[tally]{Name: "tally", Events: aggregate.Events[tally]{"tallied": tallied{}}, SnapshotEvery: 10}
	require.Empty(t, failure(func(t testing.TB) { aggregatetest.Given(t, typ, tallied{"ann"}) }))
	require.Contains(t, failure(func(t testing.TB) { aggregatetest.Given(t, typ, tallied{"eve"}) }), "tally.Skip is nil and was not")
	off := *typ
	off.SnapshotEvery = 0
	require.Empty(t, failure(func(t testing.TB) { aggregatetest.Given(t, &off, tallied{"eve"}) }))
	own := *typ
	own.Snapshot = &aggregate.SnapshotCodec[tally]{
		Encode: func(*tally) ([]byte, error) { return nil, nil },
		Decode: func(_ []byte, s *tally) error {
			*s = tally{By: map[string]int{"eve": 1}, Skip: map[string]int{}}
			return nil
		},
	}
	require.Empty(t, failure(func(t testing.TB) { aggregatetest.Given(t, &own, tallied{"eve"}) }))
	require.Contains(t, failure(func(t testing.TB) { aggregatetest.Given(t, &own, tallied{"ann"}) }), "would not survive")
	own.Snapshot = &aggregate.SnapshotCodec[tally]{
		Encode: func(*tally) ([]byte, error) { return nil, errBanned },
		Decode: func([]byte, *tally) error { return errBanned },
	}
	require.Contains(t, failure(func(t testing.TB) { aggregatetest.Given(t, &own) }), "banned")
}

// A pool keeps where its names stand in an order that a snapshot does not.
type pool struct{ Names []string }

func (p pool) Equal(q pool) bool {
	return slices.Equal(slices.Sorted(slices.Values(p.Names)), slices.Sorted(slices.Values(q.Names)))
}

type pooled struct{ Who string }

func (e pooled) Apply(p *pool) { p.Names = append(p.Names, e.Who) }

func TestAStateMaySayWhenItIsEqualToARestoredOne(t *testing.T) {
	t.Parallel()
	typ := &aggregate.Type[pool]{Name: "pool", Events: aggregate.Events[pool]{"pooled": pooled{}}, SnapshotEvery: 10}
	restore := func(names ...string) *aggregate.SnapshotCodec[pool] {
		return &aggregate.SnapshotCodec[pool]{
			Encode: func(*pool) ([]byte, error) { return nil, nil },
			Decode: func(_ []byte, p *pool) error { p.Names = names; return nil },
		}
	}
	typ.Snapshot = restore("bob", "ann")
	require.Contains(t, failure(func(t testing.TB) { aggregatetest.Given(t, typ) }), "would not survive")
	two := func(typ *aggregate.Type[pool]) func(testing.TB) {
		return func(t testing.TB) {
			aggregatetest.Given(t, typ, pooled{"ann"}, pooled{"bob"})
		}
	}
	require.Empty(t, failure(two(typ)))
	typ.Snapshot = restore("ann")
	require.Contains(t, failure(two(typ)), "not Equal")
}
