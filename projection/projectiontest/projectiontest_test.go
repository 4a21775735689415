package projectiontest_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/projection"
	"github.com/levada-go/levada/projection/projectiontest"
)

type Sold struct {
	Item  string
	Price int
}

type Sales struct{ Earned map[string]int }

var sales = &projection.Projection[*Sales]{
	Name: "sales",
	Handlers: []projection.Handler[*Sales]{projection.On(func(_ context.Context, s *Sales, e Sold, _ *eventstore.Recorded) error {
		if s.Earned == nil {
			s.Earned = map[string]int{}
		}
		s.Earned[e.Item] += e.Price
		return nil
	})},
}

type Receipts map[string]Sold

// receipts keeps each sale under a name that comes of the event, so that twice is once.
var receipts = &projection.Projection[*Receipts]{
	Name: "receipts",
	Handlers: []projection.Handler[*Receipts]{projection.On(func(_ context.Context, m *Receipts, e Sold, r *eventstore.Recorded) error {
		if *m == nil {
			*m = Receipts{}
		}
		(*m)[fmt.Sprint(r.Stream, "/", r.Version)] = e
		return nil
	})},
}

func register(t *eventstore.Types) error { return t.Register("sold", Sold{}) }

func TestModelIsWhatComesOfTheEvents(t *testing.T) {
	t.Parallel()
	h := projectiontest.Given(t, register,
		projectiontest.In("till-1", Sold{"tea", 3}, Sold{"cake", 5}),
		projectiontest.In("till-2", Sold{"tea", 3}))
	require.Equal(t, &Sales{map[string]int{"tea": 6, "cake": 5}}, projectiontest.Model(h, sales))
	h.Append(projectiontest.In("till-1", Sold{"tea", 4}))
	require.Equal(t, 10, projectiontest.Model(h, sales).Earned["tea"])
	projectiontest.Idempotent(h, receipts)
}

// A spy is a test that may fail.
type spy struct {
	testing.TB
	failed string
}

func (s *spy) Helper() {}

func (s *spy) Fatalf(format string, args ...any) {
	s.failed = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// failure returns what fn fails a test with.
func failure(t testing.TB, fn func(t testing.TB)) string {
	s := &spy{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn(s)
	}()
	<-done
	return s.failed
}

func TestWhatIsWrongFailsTheTest(t *testing.T) {
	t.Parallel()
	one := projectiontest.In("till-1", Sold{"tea", 3})
	broken := &projection.Projection[*Sales]{Name: "broken", Handlers: []projection.Handler[*Sales]{
		projection.On(func(context.Context, *Sales, Sold, *eventstore.Recorded) error { return errors.New("boom") })}}
	for name, c := range map[string]struct {
		fn   func(t testing.TB)
		says string
	}{
		"a sum is not idempotent": {func(t testing.TB) {
			projectiontest.Idempotent(projectiontest.Given(t, register, one), sales)
		}, "till-1 version 1, a sold, twice makes a difference"},
		"nor through a transaction": {func(t testing.TB) {
			var m Sales
			projectiontest.IdempotentThrough(projectiontest.Given(t, register, one), sales, &m, func() any { return maps.Clone(m.Earned) })
		}, "makes a difference"},
		"a handler": {func(t testing.TB) { projectiontest.Model(projectiontest.Given(t, register, one), broken) }, "boom"},
		"a handler, of Idempotent": {func(t testing.TB) {
			projectiontest.Idempotent(projectiontest.Given(t, register, one), broken)
		}, "boom"},
		"an event without a name": {func(t testing.TB) {
			projectiontest.Given(t, func(*eventstore.Types) error { return nil }, one)
		}, "Sold"},
		"register": {func(t testing.TB) {
			projectiontest.Given(t, func(*eventstore.Types) error { return errors.New("no names") })
		}, "no names"},
	} {
		require.Contains(t, failure(t, c.fn), c.says, name)
	}
	var m Receipts
	projectiontest.IdempotentThrough(projectiontest.Given(t, register, one), receipts, &m, func() any { return maps.Clone(m) })
	require.Len(t, m, 1)
}
