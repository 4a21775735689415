package levada_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/levada-go/levada"
	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/eventstoretest"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
	"github.com/levada-go/levada/projection"
	"github.com/levada-go/levada/router"
)

// A Counter counts up to ten.
type Counter struct{ N int }

var errFull = errors.New("full")

type Count struct{ ID string }

func (c Count) AggregateID() string { return c.ID }

func (c Count) Execute(s Counter) ([]aggregate.Event[Counter], error) {
	if s.N == 10 {
		return nil, errFull
	}
	return []aggregate.Event[Counter]{Counted{s.N + 1}}, nil
}

type Counted struct{ N int }

func (e Counted) Apply(s *Counter) { s.N = e.N }

func counters() *aggregate.Type[Counter] {
	return &aggregate.Type[Counter]{Name: "counter", Events: aggregate.Events[Counter]{"counted": Counted{}}}
}

// Totals is a read model: how far each counter has come.
type Totals struct{ N map[string]int }

func (t Totals) Clone() Totals {
	c := Totals{map[string]int{}}
	for k, v := range t.N {
		c.N[k] = v
	}
	return c
}

func totals(m projection.Target[*Totals]) *projection.Projection[*Totals] {
	return &projection.Projection[*Totals]{
		Name: "totals", Target: m,
		Handlers: []projection.Handler[*Totals]{projection.On(func(_ context.Context, t *Totals, e Counted, r *eventstore.Recorded) error {
			if t.N == nil {
				t.N = map[string]int{}
			}
			t.N[r.Stream.ID()]++
			return nil
		})},
	}
}

func total(m *projection.Memory[Totals], id string) (n int) {
	m.View(func(t *Totals, _ eventstore.Position) { n = t.N[id] })
	return n
}

func newStore(t *testing.T) *eventstore.Store {
	s := memstore.Open(nil)
	t.Cleanup(func() { s.Close() })
	return s
}

var quiet = slog.New(slog.DiscardHandler)

func newApp(t *testing.T, s *eventstore.Store, c levada.Config) *levada.App {
	t.Helper()
	if c.Aggregates == nil {
		c.Aggregates = []aggregate.Opener{counters()}
	}
	c.Logger = quiet
	app, err := levada.New(s, c)
	require.NoError(t, err)
	return app
}

// run runs app until the test or stop ends it.
func run(t *testing.T, app *levada.App) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	var err error
	done := make(chan struct{})
	go func() {
		err = app.Run(ctx)
		close(done)
	}()
	stop = func() error {
		cancel()
		<-done
		return err
	}
	t.Cleanup(func() { stop() })
	return stop
}

func TestDispatchReachesTheAggregateAndItsReadModel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m projection.Memory[Totals]
		app := newApp(t, newStore(t), levada.Config{Projections: []projection.Runner{totals(&m)}})
		run(t, app)
		for n := 1; n <= 10; n++ {
			res, err := app.Dispatch(t.Context(), Count{"a"}, command.Wait("totals"))
			require.NoError(t, err)
			require.Equal(t, []any{Counted{n}}, res.Events)
			require.Equal(t, n, total(&m, "a"), "what was awaited can be read")
		}
		_, err := app.Dispatch(t.Context(), Count{"a"}, command.Wait())
		require.ErrorIs(t, err, errFull)
	})
}

func TestSubmittedCommandsKeepTheirOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m projection.Memory[Totals]
		app := newApp(t, newStore(t), levada.Config{Projections: []projection.Runner{totals(&m)}})
		run(t, app)
		var _ command.Submitter = app
		var pending []*command.Pending
		for range 9 {
			pending = append(pending, app.Submit(t.Context(), Count{"a"}))
		}
		pending = append(pending, command.Submit(t.Context(), app, Count{"a"}, command.Wait()))
		for i, p := range pending {
			res, err := p.Wait(t.Context())
			require.NoError(t, err)
			require.EqualValues(t, i+1, res.Version)
		}
		require.Equal(t, 10, total(&m, "a"))
		res, err := command.Dispatch(t.Context(), app, Count{"b"})
		require.NoError(t, err)
		require.EqualValues(t, 1, res.Version)
	})
}

func TestEventsAreStoredEvenIfTheyAreNotAwaited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m projection.Memory[Totals]
		app := newApp(t, newStore(t), levada.Config{Projections: []projection.Runner{totals(&m)}})
		run(t, app)
		require.NoError(t, app.Group.Pause(t.Context(), "totals"))
		res, err := app.Dispatch(t.Context(), Count{"a"}, command.Wait("totals"))
		require.ErrorIs(t, err, command.ErrNotAwaited)
		var stopped *projection.StoppedError
		require.ErrorAs(t, err, &stopped)
		require.Equal(t, "totals", stopped.Name)
		require.NotZero(t, res.Position)
		require.Len(t, res.Events, 1)
		res, err = app.Dispatch(t.Context(), Count{"a"}, command.Wait("totals", "who"))
		require.ErrorIs(t, err, eventstore.ErrInvalid, "there is no such projection, which is found out before")
		require.Zero(t, res)
		require.NoError(t, app.Group.Resume("totals"))
		eventstoretest.Settle(t, app.Group, app.Store)
		require.Equal(t, 1, total(&m, "a"))

		app = newApp(t, app.Store, levada.Config{Projections: []projection.Runner{totals(&projection.Memory[Totals]{})}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second) // nothing runs
		defer cancel()
		res, err = app.Dispatch(ctx, Count{"a"}, command.Wait())
		require.ErrorIs(t, err, command.ErrNotAwaited)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, []any{Counted{2}}, res.Events)
	})
}

func TestAHandlerMayDispatchAndWaitWithoutWaitingForItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m, none projection.Memory[Totals]
		var app *levada.App
		relay := &projection.Projection[*Totals]{
			Name: "relay", Target: &none,
			Handlers: []projection.Handler[*Totals]{projection.On(func(ctx context.Context, _ *Totals, e Counted, r *eventstore.Recorded) error {
				if r.Stream != "counter-a" {
					return nil
				}
				_, err := app.Dispatch(ctx, Count{"b"}, command.Wait(), command.Once(r.ID.String()))
				return err
			})},
		}
		app = newApp(t, newStore(t), levada.Config{Projections: []projection.Runner{totals(&m), relay}})
		run(t, app)
		_, err := app.Dispatch(t.Context(), Count{"a"}, command.Wait())
		require.NoError(t, err)
		eventstoretest.Settle(t, app.Group, app.Store)
		require.Equal(t, 1, total(&m, "b"))
		first, last := find(t, app, "counter-a"), find(t, app, "counter-b")
		require.Equal(t, first.Correlation, last.Correlation, "it is one conversation")
	})
}

func find(t *testing.T, app *levada.App, stream eventstore.StreamName) *eventstore.Recorded {
	for r, err := range app.Store.ReadStream(t.Context(), stream, 0) {
		require.NoError(t, err)
		return r
	}
	require.Fail(t, "empty", stream)
	return nil
}

type Ping struct{}

func (Ping) AggregateID() string { return "" }

func ping(context.Context, Ping, *command.Envelope) (command.Result, error) {
	return command.Result{}, nil
}

func TestMiddlewareIsAroundEverythingTheFirstOutermost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var order []string
		note := func(name string) command.Middleware {
			return func(next command.Handler) command.Handler {
				return command.HandlerFunc(func(ctx context.Context, e *command.Envelope) (command.Result, error) {
					order = append(order, name)
					res, err := next.HandleCommand(ctx, e)
					order = append(order, fmt.Sprint(name, " ", err != nil))
					return res, err
				})
			}
		}
		app := newApp(t, newStore(t), levada.Config{
			Projections: []projection.Runner{totals(&projection.Memory[Totals]{})},
			Targets:     []command.Target{router.Func(ping)},
			Middleware:  []command.Middleware{note("outer"), note("inner")},
		})
		_, err := app.Dispatch(t.Context(), Ping{})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second) // nothing runs
		defer cancel()
		_, err = app.Dispatch(ctx, Count{"a"}, command.Wait())
		require.ErrorIs(t, err, command.ErrNotAwaited)
		require.Equal(t, []string{
			"outer", "inner", "inner false", "outer false",
			"outer", "inner", "inner true", "outer true", // it sees that waiting failed
		}, order)
	})
}

func TestUnroutedCommandsAreRefused(t *testing.T) {
	t.Parallel()
	app := newApp(t, newStore(t), levada.Config{})
	_, err := app.Dispatch(t.Context(), Ping{})
	require.ErrorIs(t, err, command.ErrUnrouted)
}

type foreign struct{ N int }

func TestNewReportsWhatIsWrongBeforeTheFirstCommand(t *testing.T) {
	t.Parallel()
	broken := counters()
	broken.Name = "no-dashes"
	clash := &aggregate.Type[foreignState]{Name: "foreign", Events: aggregate.Events[foreignState]{"counted": foreignEvent{}}}
	twice := counters()
	unknown := &projection.Projection[*Totals]{Name: "p", Target: &projection.Memory[Totals]{},
		Handlers: []projection.Handler[*Totals]{projection.On(func(context.Context, *Totals, foreign, *eventstore.Recorded) error { return nil })},
	}
	for name, tt := range map[string]struct {
		c    levada.Config
		want []string
	}{
		"an aggregate that cannot be":      {levada.Config{Aggregates: []aggregate.Opener{broken}}, []string{"no-dashes"}},
		"clashing names of events":         {levada.Config{Aggregates: []aggregate.Opener{counters(), clash}}, []string{`"counted"`}},
		"an aggregate that is there twice": {levada.Config{Aggregates: []aggregate.Opener{twice, twice}}, []string{"Aggregates[1] is there twice"}},
		"projections of one name": {levada.Config{Aggregates: []aggregate.Opener{counters()}, Projections: []projection.Runner{
			totals(&projection.Memory[Totals]{}), totals(&projection.Memory[Totals]{})}}, []string{`two are named "totals"`}},
		"an event nobody returns":   {levada.Config{Projections: []projection.Runner{unknown}}, []string{"foreign: eventstore: unregistered"}},
		"two handlers of a command": {levada.Config{Targets: []command.Target{router.Func(ping), router.Func(ping)}}, []string{"several handlers for levada_test.Ping"}},
		"nothing where something should be": {levada.Config{
			Aggregates: []aggregate.Opener{nil}, Projections: []projection.Runner{nil},
			Targets: []command.Target{nil}, Middleware: []command.Middleware{nil},
		}, []string{"Aggregates[0]", "nil Runner", "Targets[0]", "Middleware[0]"}},
		"several things at once": {levada.Config{
			Aggregates: []aggregate.Opener{broken}, Projections: []projection.Runner{unknown},
			Targets: []command.Target{router.Func(ping), router.Func(ping)},
		}, []string{"no-dashes", "unregistered", "several handlers"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app, err := levada.New(newStore(t), tt.c)
			require.Nil(t, app)
			for _, want := range tt.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
	_, err := levada.New(nil, levada.Config{})
	require.ErrorContains(t, err, "no store")
}

type foreignState struct{}
type foreignEvent struct{ X string }

func (foreignEvent) Apply(*foreignState) {}

func TestAnAppWithoutPartsRunsAndIsHealthy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		app, err := levada.New(s, levada.Config{})
		require.NoError(t, err)
		stop := run(t, app)
		require.NoError(t, app.Healthy(t.Context()))
		list, err := app.Status(t.Context())
		require.NoError(t, err)
		require.Empty(t, list)
		require.NoError(t, stop())
		require.NoError(t, s.Close())
		require.ErrorIs(t, app.Healthy(t.Context()), eventstore.ErrClosed)
	})
}

func TestHealthIsAStoreThatAnswersAndProjectionsThatGetOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m projection.Memory[Totals]
		boom := errors.New("boom")
		var fail, stopIt atomic.Bool
		p := totals(&m)
		p.Handlers = []projection.Handler[*Totals]{projection.On(func(context.Context, *Totals, Counted, *eventstore.Recorded) error {
			if fail.Load() {
				return boom
			}
			return nil
		})}
		app := newApp(t, s, levada.Config{
			Projections: []projection.Runner{p},
			OnError: func(projection.Failure) projection.Action {
				if stopIt.Load() {
					return projection.Stop()
				}
				return projection.RetryAfter(time.Second)
			},
			MaxLag: 10 * time.Second,
		})
		stop := run(t, app)
		require.NoError(t, app.Healthy(t.Context()))

		fail.Store(true)
		_, err := app.Dispatch(t.Context(), Count{"a"})
		require.NoError(t, err)
		time.Sleep(10 * time.Second)
		require.NoError(t, app.Healthy(t.Context()), "it may be that far behind")
		time.Sleep(time.Second)
		err = app.Healthy(t.Context())
		require.ErrorIs(t, err, boom)
		require.ErrorContains(t, err, "totals is 11s and 1 positions behind")

		stopIt.Store(true)
		time.Sleep(time.Second)
		synctest.Wait()
		var stopped *projection.StoppedError
		require.ErrorAs(t, app.Healthy(t.Context()), &stopped)
		require.Equal(t, projection.Stopped, stopped.State)
		list, err := app.Status(t.Context())
		require.NoError(t, err)
		require.Equal(t, projection.Stopped, list[0].State)
		require.Equal(t, 12*time.Second, list[0].LagTime)

		fail.Store(false)
		require.NoError(t, app.Group.Resume("totals"))
		eventstoretest.Settle(t, app.Group, s)
		require.NoError(t, app.Healthy(t.Context()))
		require.NoError(t, stop())
		require.NoError(t, s.Close())
		require.ErrorIs(t, app.Healthy(t.Context()), eventstore.ErrClosed)
	})
}

func TestTheBoundOnLagIsAMinuteUnlessSaidOtherwise(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		max     time.Duration
		after   time.Duration
		healthy bool
	}{
		"a minute":       {0, time.Minute, true},
		"more":           {0, time.Minute + time.Second, false},
		"without bounds": {-1, 1000 * time.Hour, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var m projection.Memory[Totals]
				app := newApp(t, newStore(t), levada.Config{Projections: []projection.Runner{totals(&m)}, MaxLag: tt.max})
				_, err := app.Dispatch(t.Context(), Count{"a"}) // nothing runs
				require.NoError(t, err)
				time.Sleep(tt.after)
				require.Equal(t, tt.healthy, app.Healthy(t.Context()) == nil)
			})
		})
	}
}

func TestWhatIsParkedIsUnhealthyUnlessAllowed(t *testing.T) {
	t.Parallel()
	for bound, healthy := range map[int]bool{0: false, 1: true, -1: true} {
		synctest.Test(t, func(t *testing.T) {
			var fixed atomic.Bool
			p := totals(new(projection.Memory[Totals]))
			p.OnError = projection.ParkAfter(1)
			p.Handlers = []projection.Handler[*Totals]{projection.On(func(context.Context, *Totals, Counted, *eventstore.Recorded) error {
				if fixed.Load() {
					return nil
				}
				return errors.New("boom")
			})}
			app := newApp(t, newStore(t), levada.Config{Projections: []projection.Runner{p}, MaxParked: bound})
			run(t, app)
			require.NoError(t, app.Healthy(t.Context()))
			_, err := app.Dispatch(t.Context(), Count{"a"}, command.Wait("totals"))
			require.NoError(t, err)
			if err := app.Healthy(t.Context()); healthy {
				require.NoError(t, err, bound)
			} else {
				require.ErrorContains(t, err, "totals has 1 parked keys")
			}
			fixed.Store(true)
			parked, err := app.Group.Parked(t.Context(), "totals")
			require.NoError(t, err)
			require.NoError(t, app.Group.Retry(t.Context(), "totals", parked[0].Key))
			require.NoError(t, app.Healthy(t.Context()))
		})
	}
}

func TestRunFinishesTheBatchAndReportsAClosedStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m projection.Memory[Totals]
		p := totals(&m)
		gate := make(chan struct{})
		p.Handlers = []projection.Handler[*Totals]{projection.On(func(ctx context.Context, t *Totals, e Counted, r *eventstore.Recorded) error {
			<-gate
			if t.N == nil {
				t.N = map[string]int{}
			}
			t.N[r.Stream.ID()] = e.N
			return ctx.Err()
		})}
		app := newApp(t, s, levada.Config{Projections: []projection.Runner{p}})
		stop := run(t, app)
		_, err := app.Dispatch(t.Context(), Count{"a"})
		require.NoError(t, err)
		synctest.Wait()
		ended := make(chan error, 1)
		go func() { ended <- stop() }()
		synctest.Wait()
		require.Empty(t, ended)
		close(gate)
		require.NoError(t, <-ended)
		require.Equal(t, 1, total(&m, "a"))

		again := make(chan error, 1)
		go func() { again <- app.Run(context.Background()) }()
		synctest.Wait()
		require.NoError(t, s.Close())
		require.ErrorIs(t, <-again, eventstore.ErrClosed)
	})
}

func TestTwoAppsOnOneStoreShareItsEventsAndNotTheirModels(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var one, two projection.Memory[Totals]
		a := newApp(t, s, levada.Config{Projections: []projection.Runner{totals(&one)}})
		b := newApp(t, s, levada.Config{Projections: []projection.Runner{totals(&two)}})
		run(t, a)
		run(t, b)
		for n := range 5 {
			_, err := a.Dispatch(t.Context(), Count{"x"}, command.Wait())
			require.NoError(t, err)
			require.Equal(t, 2*n+1, total(&one, "x"))
			_, err = b.Dispatch(t.Context(), Count{"x"}, command.Wait())
			require.NoError(t, err, "what the other decided is known")
			require.Equal(t, 2*n+2, total(&two, "x"))
		}
		_, err := a.Dispatch(t.Context(), Count{"x"})
		require.ErrorIs(t, err, errFull)
		require.Equal(t, projection.Running, must(a.Status(t.Context()))[0].State)
		require.Equal(t, projection.Running, must(b.Status(t.Context()))[0].State)
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestTwoAppsThatShareAModelCountEachEventOnce(t *testing.T) {
	t.Parallel()
	s, err := sqlitestore.Open(filepath.Join(t.TempDir(), "events.db"), nil)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	model, err := sqlitestore.Target(s, sqlitestore.Model{
		Tables: []string{"totals"},
		Schema: `CREATE TABLE totals(id TEXT PRIMARY KEY, n INTEGER NOT NULL) STRICT`,
	})
	require.NoError(t, err)
	read := func(id string) (n int) {
		require.NoError(t, model.Read(context.Background(), func(c *sqlite.Conn) error {
			return sqlitex.Execute(c, "SELECT n FROM totals WHERE id = ?", &sqlitex.ExecOptions{Args: []any{id},
				ResultFunc: func(st *sqlite.Stmt) error { n = st.ColumnInt(0); return nil }})
		}))
		return n
	}
	var apps []*levada.App
	for range 2 {
		app := newApp(t, s, levada.Config{Projections: []projection.Runner{&projection.Projection[*sqlite.Conn]{
			Name: "totals", Target: model,
			Handlers: []projection.Handler[*sqlite.Conn]{projection.On(func(_ context.Context, c *sqlite.Conn, e Counted, r *eventstore.Recorded) error {
				return sqlitex.Execute(c, "INSERT INTO totals VALUES(?, 1) ON CONFLICT DO UPDATE SET n = n + 1",
					&sqlitex.ExecOptions{Args: []any{r.Stream.ID()}})
			})},
		}}})
		run(t, app)
		apps = append(apps, app)
	}
	var wg sync.WaitGroup
	for i, app := range apps {
		wg.Go(func() {
			for n := range 5 {
				if _, err := app.Dispatch(t.Context(), Count{"shared"}, command.Wait()); err != nil {
					t.Error(err)
				}
				own := fmt.Sprint("own", i)
				if _, err := app.Dispatch(t.Context(), Count{own}, command.Wait("totals")); err != nil {
					t.Error(err)
				}
				if got := read(own); got != n+1 {
					t.Errorf("read %d, want %d", got, n+1)
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, 10, read("shared"))
}

func TestTwoAggregateTypesOfOneCategoryAreRefused(t *testing.T) {
	t.Parallel()
	other := *Accounts
	_, err := levada.New(memstore.Open(nil), levada.Config{Aggregates: []aggregate.Opener{Accounts, &other}})
	require.ErrorContains(t, err, `category "account"`)
}
