package eventstoretest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/eventstoretest"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/projection"
)

type (
	Sent struct {
		To string
		N  int
	}
	Lost struct{ N int }
)

var _ eventstoretest.Waiter = (*projection.Group)(nil)

func newStore(t *testing.T) *eventstore.Store {
	s := memstore.Open(nil)
	t.Cleanup(func() { s.Close() })
	require.NoError(t, s.Types.Register("sent", Sent{}))
	require.NoError(t, s.Types.Register("lost", Lost{}))
	return s
}

func put(t *testing.T, s *eventstore.Store, stream eventstore.StreamName, data ...any) eventstore.Position {
	t.Helper()
	var at eventstore.Appended
	for _, d := range data {
		var err error
		at, err = s.Append(context.Background(), stream, eventstore.Any, eventstore.Event{Data: d})
		require.NoError(t, err)
	}
	return at.Position
}

// A tester is a testing.TB that fails alone.
type tester struct {
	testing.TB
	ctx    context.Context
	failed string
}

func (t *tester) Helper()                  {}
func (t *tester) Context() context.Context { return t.ctx }
func (t *tester) Fatal(args ...any)        { t.Fatalf("%s", fmt.Sprint(args...)) }
func (t *tester) Fatalf(format string, args ...any) {
	t.failed = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// failure returns what fn fails with, or "".
func failure(t *testing.T, fn func(t testing.TB)) string {
	fake := &tester{TB: t, ctx: t.Context()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn(fake)
	}()
	<-done
	return fake.failed
}

func TestAllAndStreamReturnDataInOrder(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put(t, s, "a-1", Sent{"x", 1}, Lost{2})
	put(t, s, "b-1", Sent{"y", 3})
	require.Equal(t, []any{Sent{"x", 1}, Lost{2}, Sent{"y", 3}}, eventstoretest.All(t, s, eventstore.Filter{}))
	require.Equal(t, []any{Sent{"x", 1}, Sent{"y", 3}}, eventstoretest.All(t, s, eventstore.Filter{Types: []string{"sent"}}))
	require.Equal(t, []any{Sent{"y", 3}}, eventstoretest.Stream(t, s, "b-1"))
	require.Empty(t, eventstoretest.Stream(t, s, "c-1"))
}

// picky cannot read a Lost of 13.
type picky struct{ eventstore.Codec }

func (c picky) Unmarshal(data []byte, v any) error {
	if bytes.Contains(data, []byte("13")) {
		return errors.New("bad luck")
	}
	return c.Codec.Unmarshal(data, v)
}

func TestAllFailsWhereItCannotRead(t *testing.T) {
	t.Parallel()
	s := memstore.Open(&memstore.Options{Store: eventstore.Options{Codecs: []eventstore.Codec{picky{eventstore.JSON}}}})
	require.NoError(t, s.Types.Register("lost", Lost{}))
	put(t, s, "a-1", Lost{13})
	require.Contains(t, failure(t, func(t testing.TB) { eventstoretest.All(t, s, eventstore.Filter{}) }), "bad luck")
	require.NoError(t, s.Close())
	require.Contains(t, failure(t, func(t testing.TB) { eventstoretest.All(t, s, eventstore.Filter{}) }), "closed")
	require.Contains(t, failure(t, func(t testing.TB) { eventstoretest.Stream(t, s, "a-1") }), "closed")
	require.Contains(t, failure(t, func(t testing.TB) { eventstoretest.Settle(t, &projection.Group{}, s) }), "closed")
}

func TestExpectFindsWhatIsThereAndWhatComes(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put(t, s, "a-1", Lost{1}, Sent{"x", 1}, Sent{"y", 2})
	e, r := eventstoretest.Expect[Sent](t, s, nil)
	require.Equal(t, Sent{"x", 1}, e)
	require.EqualValues(t, 2, r.Version)
	e, r = eventstoretest.Expect(t, s, func(e Sent) bool { return e.To == "y" })
	require.Equal(t, Sent{"y", 2}, e)
	require.EqualValues(t, 3, r.Version)

	go s.Append(context.Background(), "a-1", eventstore.Any, eventstore.Event{Data: Sent{"z", 3}})
	e, _ = eventstoretest.Expect(t, s, func(e Sent) bool { return e.To == "z" })
	require.Equal(t, Sent{"z", 3}, e)
}

func TestExpectGivesUpAfterTenSecondsAndSaysWhatThereWas(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		data []any
		want string
	}{
		"nothing":        {nil, "expecting a eventstoretest_test.Sent: none in 10s; there is: nothing"},
		"another type":   {[]any{Lost{1}, Lost{2}}, "expecting a eventstoretest_test.Sent: none in 10s; there is: lost"},
		"another of its": {[]any{Sent{"x", 1}}, "expecting a eventstoretest_test.Sent: not one of these in 10s: {To:x N:1}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore(t)
				put(t, s, "a-1", tt.data...)
				before := time.Now()
				require.Equal(t, tt.want, failure(t, func(t testing.TB) {
					eventstoretest.Expect(t, s, func(Sent) bool { return false })
				}))
				require.Equal(t, 10*time.Second, time.Since(before))
			})
		})
	}
}

func TestExpectDoesNotWaitInVain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		before := time.Now()
		type Unknown struct{}
		require.Contains(t, failure(t, func(t testing.TB) { eventstoretest.Expect[Unknown](t, s, nil) }), "not registered")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.Contains(t, failure(t, func(tb testing.TB) {
			tb.(*tester).ctx = ctx
			eventstoretest.Expect[Sent](tb, s, nil)
		}), "the test ended")
		require.NoError(t, s.Close())
		require.Contains(t, failure(t, func(t testing.TB) { eventstoretest.Expect[Sent](t, s, nil) }), "closed")
		require.Zero(t, time.Since(before))
	})
}

func TestWaitAndSettleWaitForProjections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		type Count struct{ N int }
		var m projection.Memory[Count]
		g := &projection.Group{Store: s}
		require.NoError(t, g.Add(&projection.Projection[*Count]{Name: "count", Target: &m,
			Handlers: []projection.Handler[*Count]{projection.On(func(_ context.Context, c *Count, _ Sent, _ *eventstore.Recorded) error {
				c.N++
				return nil
			})},
		}))
		at := put(t, s, "a-1", Sent{"x", 1})
		before := time.Now()
		require.Contains(t, failure(t, func(t testing.TB) { eventstoretest.Wait(t, g, at, "count") }), "deadline")
		require.Equal(t, 10*time.Second, time.Since(before))
		require.Contains(t, failure(t, func(t testing.TB) { eventstoretest.Wait(t, g, at, "who") }), `there is no "who"`)
		go g.Run(t.Context())
		eventstoretest.Wait(t, g, at, "count")
		put(t, s, "a-1", Sent{"x", 1}, Lost{2})
		eventstoretest.Settle(t, g, s)
		m.View(func(c *Count, _ eventstore.Position) { require.Equal(t, 2, c.N) })
	})
}
