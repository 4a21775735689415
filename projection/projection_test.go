package projection_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/projection"
)

type Unknown struct{ N int }

func TestAddReportsWhatIsWrongBeforeAnythingRuns(t *testing.T) {
	t.Parallel()
	ok := projection.On(added)
	other := projection.On(func(context.Context, *Log, Unknown, *eventstore.Recorded) error { return nil })
	for name, tt := range map[string]struct {
		change func(*projection.Projection[*Log])
		want   string
	}{
		"no name":                 {func(p *projection.Projection[*Log]) { p.Name = "" }, "a name of 0 bytes"},
		"a long name":             {func(p *projection.Projection[*Log]) { p.Name = strings.Repeat("x", 201) }, "a name of 201 bytes"},
		"a reserved name":         {func(p *projection.Projection[*Log]) { p.Name = "$wait" }, "reserved"},
		"a control character":     {func(p *projection.Projection[*Log]) { p.Name = "a\nb" }, "control character"},
		"a name that isn't text":  {func(p *projection.Projection[*Log]) { p.Name = "a\xff" }, "not UTF-8"},
		"no target":               {func(p *projection.Projection[*Log]) { p.Target = nil }, "no Target"},
		"no handlers":             {func(p *projection.Projection[*Log]) { p.Handlers = nil }, "no Handlers"},
		"types in the filter":     {func(p *projection.Projection[*Log]) { p.Filter.Types = []string{"added"} }, "Filter.Types must be empty"},
		"no stream in the filter": {func(p *projection.Projection[*Log]) { p.Filter.Streams = []eventstore.StreamName{""} }, "Filter.Streams"},
		"no category in it":       {func(p *projection.Projection[*Log]) { p.Filter.Categories = []string{"sum-1"} }, `"sum-1" is no category`},
		"a handler of nothing":    {func(p *projection.Projection[*Log]) { p.Handlers = make([]projection.Handler[*Log], 1) }, "On did not make"},
		"two handlers of a type":  {func(p *projection.Projection[*Log]) { p.Handlers = append(p.Handlers, ok) }, "two handlers for projection_test.Added"},
		"an unregistered type":    {func(p *projection.Projection[*Log]) { p.Handlers = append(p.Handlers, other) }, "projection_test.Unknown: eventstore: unregistered type: list it among"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := logged("log", &projection.Memory[Log]{})
			tt.change(p)
			g := newGroup(newStore(t))
			require.ErrorContains(t, g.Add(p), tt.want)
			list, err := g.Status(t.Context())
			require.NoError(t, err)
			require.Empty(t, list, "what is wrong must not be added")
		})
	}
}

func TestAddReportsEverythingAtOnceAndThenAddsNothing(t *testing.T) {
	t.Parallel()
	g := newGroup(newStore(t))
	good, nameless, idle := logged("good", &projection.Memory[Log]{}), logged("", &projection.Memory[Log]{}), logged("idle", &projection.Memory[Log]{})
	idle.Handlers = nil
	err := g.Add(good, nameless, idle, nil)
	require.ErrorContains(t, err, "a name of 0 bytes")
	require.ErrorContains(t, err, "projection idle: no Handlers")
	require.ErrorContains(t, err, "nil Runner")
	list, err := g.Status(t.Context())
	require.NoError(t, err)
	require.Empty(t, list)
}

func TestTwoProjectionsOfOneNameAreRefused(t *testing.T) {
	t.Parallel()
	g := newGroup(newStore(t))
	one := func() projection.Runner { return logged("log", &projection.Memory[Log]{}) }
	require.ErrorContains(t, g.Add(one(), one()), `two are named "log"`)
	require.NoError(t, g.Add(one()))
	require.ErrorContains(t, g.Add(one()), `two are named "log"`)
}

func TestAGroupNeedsAStore(t *testing.T) {
	t.Parallel()
	var g projection.Group
	require.ErrorContains(t, g.Add(logged("log", &projection.Memory[Log]{})), "without a Store")
}

func TestHandlersGetTheirEventsInOrderAndNoOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		add(t, s, 1, 2)
		note(t, s, 3)
		var m projection.Memory[Log]
		g := newGroup(s)
		require.NoError(t, g.Add(logged("log", &m)))
		start(t, g)
		add(t, s, 3)
		synctest.Wait()
		require.Equal(t, []int{1, 2, 3}, seen(&m))
	})
}

func TestTheFilterNarrowsToStreamsAndCategories(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		add(t, s, 1)
		_, err := s.Append(t.Context(), "other-1", eventstore.Any, eventstore.Event{Data: Added{2}})
		require.NoError(t, err)
		var m projection.Memory[Log]
		p := logged("log", &m)
		p.Filter.Categories = []string{"other"}
		g := newGroup(s)
		require.NoError(t, g.Add(p))
		start(t, g)
		synctest.Wait()
		require.Equal(t, []int{2}, seen(&m))
	})
}

func TestAHandlerSeesTheEventInItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		at := add(t, s, 7)
		var m projection.Memory[Log]
		p := logged("log", &m)
		var got, fromContext *eventstore.Recorded
		p.Handlers = []projection.Handler[*Log]{projection.On(func(ctx context.Context, _ *Log, e Added, r *eventstore.Recorded) error {
			got, fromContext = r, eventstore.FromContext(ctx)
			return nil
		})}
		g := newGroup(s)
		require.NoError(t, g.Add(p))
		start(t, g)
		require.NoError(t, g.Wait(t.Context(), at))
		require.Equal(t, at, got.Position)
		require.Same(t, got, fromContext)
	})
}

func TestABatchIsOneTransaction(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		at := add(t, s, 1, 2, 3, 4, 5)
		var m projection.Memory[Log]
		target := &tap[*Log]{Target: &m}
		g := newGroup(s)
		require.NoError(t, g.Add(logged("log", target)))
		start(t, g)
		require.NoError(t, g.Wait(t.Context(), at))
		require.Equal(t, []update{{0, at}}, target.written())
	})
}

type addedOld struct{ M int }

func TestUpcastsAndTheirPartsReachTheHandlers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		require.NoError(t, s.Types.Add(eventstore.UpcastSplit("added.old", func(o addedOld) []any {
			return []any{Added{o.M}, Noted{"half"}, Added{-o.M}}
		})))
		at, err := s.Append(t.Context(), "sum-1", eventstore.Any,
			eventstore.Event{Type: "added.old", Raw: []byte(`{"M":5}`), ContentType: eventstore.JSON.ContentType()})
		require.NoError(t, err)
		var m projection.Memory[Log]
		g := newGroup(s)
		require.NoError(t, g.Add(logged("log", &m)))
		start(t, g)
		require.NoError(t, g.Wait(t.Context(), at.Position))
		require.Equal(t, []int{5, -5}, seen(&m))
	})
}
